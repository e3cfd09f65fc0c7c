"""How a batch is run: what is chosen, and why."""

from datetime import timedelta
from typing import Any

import pytest

from turnmill.domain.batch_modes import chosen_mode
from turnmill.domain.batches import BatchMode
from turnmill.domain.errors import InvalidInput

_MANY: dict[str, Any] = {"providers": {"openai"}, "lines": 1000}


def test_many_lines_without_haste_go_to_the_vendors_batches() -> None:
    chosen = chosen_mode("auto", **_MANY)
    assert chosen.mode is BatchMode.NATIVE
    assert chosen.because == "half the price, and answered within a day"


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"providers": {"mock"}}, "no provider"),
        ({"lines": 49}, "fewer than 50"),
        ({"deadline_in": timedelta(hours=20)}, "deadline"),
        ({"is_shared": False}, "one process"),
    ],
)
def test_what_cannot_or_should_not_wait_runs_live_and_says_why(
    given: dict[str, Any], because: str
) -> None:
    chosen = chosen_mode("auto", **{**_MANY, **given})
    assert chosen.mode is BatchMode.LIVE
    assert because in (chosen.because or "")


@pytest.mark.parametrize("mode", ["live", "native", "flex"])
def test_what_somebody_says_is_done(mode: str) -> None:
    assert chosen_mode(mode, providers={"openai"}, lines=1) == (BatchMode(mode), None)


@pytest.mark.parametrize(
    ("mode", "provider"), [("native", "mock"), ("flex", "anthropic"), ("batch", "openai")]
)
def test_what_nobody_offers_is_refused(mode: str, provider: str) -> None:
    with pytest.raises(InvalidInput, match="mode"):
        chosen_mode(mode, providers={provider}, lines=1000)

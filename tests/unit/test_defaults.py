"""Parameters by model: a file of the operator's, under what a session says."""

from pathlib import Path
from typing import Any

import pytest

from tests.claims import a_claim
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.errors import InvalidSetting
from turnmill.settings import Settings
from turnmill_worker.layers import Done, Request, defaults
from turnmill_worker.layers.defaults import defaults_in
from turnmill_worker.turn.run import run_claim

pytestmark = pytest.mark.anyio

BY_MODEL: dict[str, dict[str, Any]] = {
    "*": {"temperature": 0.5, "timeout": 60},
    "openai/*": {"temperature": 1, "top_p": 0.9},
    "openai/gpt-5": {"max_output_tokens": 100, "temperature": 0},
}


async def sent(*, provider: str, model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that a provider is given."""
    seen: dict[str, Any] = {}

    async def send(request: Request) -> Done:
        seen.update(request.settings)
        return Done(text="yes")

    deps = deps_of(FakeLedger(), send, defaults=defaults(BY_MODEL))
    await run_claim(a_claim(provider=provider, model=model, settings=settings), deps)
    return seen


@pytest.mark.parametrize(
    ("provider", "model", "settings", "found"),
    [
        ("mock", "mock", {}, {"temperature": 0.5, "timeout": 60}),
        ("openai", "o9", {}, {"temperature": 0.5, "top_p": 0.9, "timeout": 60}),
        (
            "openai",
            "gpt-5",
            {},
            {"max_output_tokens": 100, "temperature": 0, "top_p": 0.9, "timeout": 60},
        ),
        (
            "openai",
            "gpt-5",
            {"temperature": 2, "layers": []},
            {
                "max_output_tokens": 100,
                "temperature": 2,
                "top_p": 0.9,
                "timeout": 60,
                "layers": [],
            },
        ),
    ],
)
async def test_a_session_goes_before_a_name_and_a_name_before_patterns_in_their_order(
    provider: str, model: str, settings: dict[str, Any], found: dict[str, Any]
) -> None:
    assert await sent(provider=provider, model=model, settings=settings) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no object"),
        ('{"gpt-5": {}}', "names 'gpt-5', which is no provider/model"),
        ('{"openai/gpt-5": 3}', "what are no parameters"),
        ('{"openai/gpt-5": {"layers": ["x"]}}', "says 'layers' of 'openai/gpt-5'"),
        ('{"openai/gpt-5": {"tools": []}}', "which a session decides"),
        ('{"openai/gpt-5": {"temperature": NaN}}', "what cannot be sent"),
    ],
)
async def test_a_file_that_is_wrong_is_refused_when_a_worker_starts(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "defaults.json"
    file.write_text(text)
    with pytest.raises(InvalidSetting, match=f"TURNMILL_DEFAULTS: the file .*{why}"):
        defaults_in(file)


async def test_a_file_may_be_toml_and_no_file_is_no_layer(tmp_path: Path) -> None:
    file = tmp_path / "defaults.toml"
    file.write_text('["openai/*"]\ntemperature = 0.5\n')
    assert defaults_in(file) is not None
    assert defaults_in(None) is None
    with pytest.raises(InvalidSetting, match="cannot be read"):
        defaults_in(tmp_path / "none.json")
    assert Settings.from_env({"TURNMILL_DEFAULTS": str(file)}).defaults == file

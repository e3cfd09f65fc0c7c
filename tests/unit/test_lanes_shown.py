"""`turnmill queue ls` says what it does not know."""

import pytest

from turnmill.show.lanes_view import print_lanes
from turnmill.store.line.pauses import Pauses


def test_hints_of_a_broker_that_cannot_be_used_are_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_lanes([], Pauses(), {"interactive": None, "bulk": 3}, as_json=False)
    assert "hints in the broker: interactive unknown, bulk 3" in capsys.readouterr().err

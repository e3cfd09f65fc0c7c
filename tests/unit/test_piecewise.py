"""Where a text was cut tells a terminal nothing."""

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnmill.show.piecewise import Piecewise
from turnmill.show.terminal import Guarded, visible

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
PIECES = st.lists(
    st.sampled_from(
        ["\x1b", "[2J", "]0;title", "\x07", "\r", "\n", "a", "\u200d", "\u202e", FAMILY]
    )
)


def shown(pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    terminal = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", Guarded(terminal))
        piecewise = Piecewise()
        for piece in pieces:
            piecewise.write(piece)
        piecewise.end()
    return terminal.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES)
def test_pieces_are_shown_as_the_whole_would_be(
    monkeypatch: pytest.MonkeyPatch, pieces: list[str]
) -> None:
    whole = visible("".join(pieces))
    line_end = "" if not whole or whole.endswith("\n") else "\n"
    assert shown(pieces, monkeypatch) == whole + line_end


def test_an_escape_sequence_in_two_pieces_commands_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "\x1b" not in shown(["a\x1b", "[2J", "b"], monkeypatch)
    assert shown([FAMILY[:2], FAMILY[2:]], monkeypatch) == FAMILY + "\n"

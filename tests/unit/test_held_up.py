"""What a chat says while a reply does not come."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from turnmill import Cause, Reason, StoreUnavailable, TurnState, Why
from turnmill.cli import held_up
from turnmill.cli.held_up import HeldUp
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.stack.process import wait_until

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SOON = timedelta(seconds=5)
TURN = TurnId(UUID("01a21631-3001-7416-9e5c-39ce2cbd39f2"))


class Asked:
    """Stands for `turn.why`, and counts how often it is asked."""

    def __init__(self, *causes: Cause) -> None:
        self.causes = list(causes)
        self.times = 0
        self.is_down = False

    def __call__(self) -> Why:
        self.times += 1
        if self.is_down:
            raise StoreUnavailable("it is away")
        cause = self.causes.pop(0) if len(self.causes) > 1 else self.causes[0]
        return Why(
            turn_id=TURN,
            session_id=SessionId(TURN),
            state=TurnState.QUEUED,
            now=NOW,
            reasons=(Reason(cause=cause, turn_id=TURN, name="openai", until=NOW + timedelta(1)),),
            likely_at=None,
        )


@pytest.fixture(autouse=True)
def is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for seconds."""
    for name, seconds in (("_QUIET_S", 0.01), ("_PAUSE_S", 0.02), ("_RENEWED_AFTER_S", 0.005)):
        monkeypatch.setattr(held_up, name, seconds)


def asked_again(asked: Asked, times: int = 3) -> bool:
    before = asked.times
    return wait_until(lambda: asked.times >= before + times, timeout=SOON)


def test_where_stderr_is_no_terminal_a_reason_is_one_plain_line_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = Asked(Cause.DUE, Cause.RUNNING, Cause.PROVIDER_PAUSED, Cause.LANE_PAUSED)
    with HeldUp(asked, asked="openai is asked"):
        assert asked_again(asked, 6)

    said = "waits: provider openai is paused: turnmill queue resume --provider openai\n"
    assert capsys.readouterr() == ("", said)


def test_a_turn_that_runs_is_about_to_or_has_ended_waits_for_nothing_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for cause in (Cause.DUE, Cause.RUNNING, Cause.ENDED):
        asked = Asked(cause)
        with HeldUp(asked, asked="openai is asked"):
            assert asked_again(asked)
    assert capsys.readouterr() == ("", "")


def test_a_database_that_is_away_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(Cause.SESSION_PAUSED)
    asked.is_down = True
    with HeldUp(asked, asked="openai is asked"):
        assert asked_again(asked)
        asked.is_down = False
        assert asked_again(asked)
    assert capsys.readouterr().err.startswith("waits: its session is paused")


def test_text_that_comes_costs_no_question_and_a_tool_that_is_called_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held_up, "_PAUSE_S", 600.0)
    asked = Asked(Cause.RUNNING)
    with HeldUp(asked, asked="openai is asked") as line:
        assert asked_again(asked)
        line.text_comes()
        while_text_came = asked.times
        with HeldUp(other := Asked(Cause.RUNNING), asked="openai is asked"):
            assert asked_again(other, 9)  # so long
        assert asked.times <= while_text_came + 1  # one was under way
        line.line_ends()
        assert asked_again(asked)


def test_a_reply_that_is_cut_off_amid_a_line_has_its_reason_below_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, broken = Asked(Cause.BREAKER), list[str]()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with HeldUp(asked, asked="openai is asked") as line:
        line.break_line = lambda: broken.append("")
        line.text_comes()
        assert wait_until(lambda: bool(broken), timeout=SOON)
        assert asked_again(asked)
    assert broken == [""]
    assert "waits: the breaker of openai is open" in capsys.readouterr().err


def test_whoever_has_his_reply_is_asked_for_nothing_more() -> None:
    asked = Asked(Cause.NO_WORKER)
    with HeldUp(asked, asked="openai is asked"):
        assert asked_again(asked, 1)
    at_the_end = asked.times
    with HeldUp(other := Asked(Cause.NO_WORKER), asked="openai is asked"):
        assert asked_again(other)
    assert asked.times == at_the_end

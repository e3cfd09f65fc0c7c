"""Why a turn does not run: each cause by its name, with what stands before it and until when."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, update

from tests import rows, steps
from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.show.why_view import as_document, in_a_cell, in_a_line, obstacles, waiting
from turnmill.store.database import Database
from turnmill.store.line import pauses
from turnmill.store.nouns import sessions
from turnmill.store.nouns.accounts import ACCOUNT, BREAKER, AccountKey, close, open_again
from turnmill.store.nouns.why import Cause, Why, why, why_each
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows

pytestmark = pytest.mark.usefixtures("sound")

IN_AN_HOUR = timedelta(hours=1)


def asked(store: Database, turn: TurnId) -> Why:
    with store.begin() as conn:
        return why(conn, turn)


def sent(store: Database, **options: Any) -> TurnId:
    return rows.send(store, rows.start(store), **options)


def due_since(store: Database, turn: TurnId, span: timedelta) -> None:
    """Let the turn have been due for so long."""
    since = datetime.now(UTC) - span
    with store.begin() as conn:
        conn.execute(update(turn_rows).where(turn_rows.c.id == turn).values(available_at=since))
        head = session_rows.c.head_turn_id == turn
        conn.execute(update(session_rows).where(head).values(head_due_at=since))


def ended(store: Database) -> TurnId:
    turn = sent(store)
    rows.run(store, turn)
    return turn


def running(store: Database) -> TurnId:
    turn = sent(store)
    steps.take_one(store, turn)
    return turn


def behind(store: Database) -> TurnId:
    session = rows.start(store)
    steps.take_one(store, rows.send(store, session))
    rows.send(store, session)
    return rows.send(store, session)


def session_paused(store: Database) -> TurnId:
    session = rows.start(store)
    turn = rows.send(store, session)
    with store.begin() as conn:
        sessions.pause(conn, session)
    return turn


def lane_paused(store: Database) -> TurnId:
    with store.begin() as conn:
        pauses.pause(conn, kind="lane", name="bulk")
    return sent(store, lane="bulk")


def provider_paused(store: Database) -> TurnId:
    with store.begin() as conn:
        pauses.pause(conn, kind="provider", name="mock")
    return sent(store)


def held(store: Database) -> TurnId:
    turn = rows.send(store, rows.start(store, on_ambiguous="hold"))
    steps.mark_sent(store, steps.take_one(store, turn))
    steps.lose(store, turn)
    steps.look_for_lost(store)
    return turn


def put_off(store: Database, waits_for: str, state: TurnState = TurnState.QUEUED) -> TurnId:
    turn = sent(store)
    rows.run(
        store,
        turn,
        state,
        outcome="not_now",
        delay=IN_AN_HOUR,
        waits_for=waits_for,
        gives_attempt_back=True,
    )
    return turn


def retried(store: Database) -> TurnId:
    turn = sent(store)
    rows.run(store, turn, TurnState.RETRYING, delay=IN_AN_HOUR, error_code="overloaded")
    return turn


def later(store: Database) -> TurnId:
    return sent(store, deliver_at=datetime.now(UTC) + IN_AN_HOUR)


def background(store: Database) -> TurnId:
    turn = sent(store)
    rows.run(store, turn, TurnState.WAITING, delay=IN_AN_HOUR)
    return turn


def question(store: Database) -> TurnId:
    turn = sent(store)
    rows.run(store, turn, TurnState.UNKNOWN, delay=IN_AN_HOUR, error_code="timeout")
    return turn


def lane_busy(store: Database) -> TurnId:
    for _ in range(3):
        sent(store)
    return sent(store)


def no_worker(store: Database) -> TurnId:
    turn = sent(store)
    due_since(store, turn, timedelta(minutes=2))
    return turn


def closed(store: Database, kind: str, **options: Any) -> TurnId:
    """Let the turn be due, and nobody call its model."""
    turn = rows.send(store, rows.start(store, provider=kind, **options))
    key = AccountKey(kind=kind, provider=kind, model="mock" if kind == BREAKER else "")
    with store.begin() as conn:
        close(conn, key, wait=lambda _: IN_AN_HOUR, code="rate_limited")
    return turn


@pytest.mark.parametrize("kind", [ACCOUNT, BREAKER])
@pytest.mark.parametrize("seed", [sent, lambda store: put_off(store, "account")])
def test_a_closed_account_says_until_when_and_why(
    store: Database, kind: str, seed: Callable[[Database], TurnId]
) -> None:
    turn = seed(store)
    key = AccountKey(kind=kind, provider="mock", model="mock" if kind == BREAKER else "")
    with store.begin() as conn:
        left = close(conn, key, wait=lambda _: IN_AN_HOUR, code="overloaded")
    found = asked(store, turn)
    (reason,) = found.reasons
    assert (reason.cause, reason.name) == (kind, "mock (overloaded)")
    assert reason.until is not None
    assert abs(reason.until - found.now - left.left) < timedelta(seconds=30)
    with store.begin() as conn:
        open_again(conn, key)
    assert asked(store, turn).reasons[0].name != "mock (overloaded)"


def test_a_turn_without_a_reply_names_the_command_that_says_why(store: Database) -> None:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn, TurnState.FAILED, error_code="key_missing")
    said = in_a_line(asked(store, turn))
    assert said == f"for nothing: it has ended: failed. turnmill turns show {turn}"


CAUSES: dict[Cause, tuple[Callable[[Database], TurnId], str]] = {
    Cause.ENDED: (ended, "for nothing: it has ended: succeeded"),
    Cause.RUNNING: (running, "running for "),
    Cause.BEHIND: (behind, "for 2 turns before it, the first is "),
    Cause.SESSION_PAUSED: (session_paused, "its session is paused: turnmill sessions resume "),
    Cause.LANE_PAUSED: (lane_paused, "lane bulk is paused: turnmill queue resume --lane bulk"),
    Cause.PROVIDER_PAUSED: (provider_paused, "turnmill queue resume --provider mock"),
    Cause.HELD: (held, "for a decision, since its request may have been executed: "),
    Cause.TOOL: (
        lambda store: put_off(store, "tool", TurnState.WAITING),
        "for the output of a tool, until ",
    ),
    Cause.APPROVAL: (
        lambda store: put_off(store, "approval", TurnState.WAITING),
        "for somebody who agrees that a tool is run, until ",
    ),
    Cause.ACCOUNT: (
        lambda store: closed(store, ACCOUNT),
        "the account at account (rate_limited) is closed until ",
    ),
    Cause.BREAKER: (
        lambda store: closed(store, BREAKER),
        "the breaker of breaker (rate_limited) is open until ",
    ),
    Cause.LIMIT: (
        lambda store: put_off(store, "limit"),
        "for its place under a limit of mock, at ",
    ),
    Cause.BUDGET: (
        lambda store: put_off(store, "budget"),
        "for its budget, which is used up: looked at again at ",
    ),
    Cause.KEY: (
        lambda store: put_off(store, "key"),
        "for a key of what is encrypted, which is missing: looked for again at ",
    ),
    Cause.BATCH: (
        lambda store: put_off(store, "batch", TurnState.WAITING),
        "for its batch, which is at its vendor, or paused: turnmill batch ls",
    ),
    Cause.LAYER: (lambda store: put_off(store, "crm"), "for crm: asked again at "),
    Cause.RETRY: (retried, "for its next attempt after overloaded, at "),
    Cause.QUESTION: (question, "its provider is asked what became of it, at "),
    Cause.BACKGROUND: (background, "which works in the background and is asked again at "),
    Cause.LATER: (later, "as it was sent for then"),
    Cause.LANE_BUSY: (
        lane_busy,
        "for 3 turns of lane interactive that come before it, while 0 run",
    ),
    Cause.NO_WORKER: (no_worker, "for a worker, for 2 min: none takes turns of lane"),
    Cause.DUE: (sent, "for nothing: a worker is about to take it"),
}
#: They end at a moment that is known.
TIMED = {
    *(Cause.LAYER, Cause.RETRY, Cause.QUESTION, Cause.BACKGROUND, Cause.LATER),
    *(Cause.TOOL, Cause.APPROVAL, Cause.ACCOUNT, Cause.BREAKER, Cause.LIMIT, Cause.BUDGET),
    Cause.KEY,
}


def test_every_cause_is_seeded_here() -> None:
    assert set(CAUSES) == set(Cause)


@pytest.mark.parametrize("cause", CAUSES)
def test_a_turn_says_why_it_waits(store: Database, cause: Cause) -> None:
    seed, words = CAUSES[cause]
    found = asked(store, seed(store))
    assert found.reasons[0].cause is cause
    line = in_a_line(found)
    assert words in line
    assert "\n" not in line
    assert as_document(found)["reasons"][0]["cause"] == cause
    assert (found.reasons[0].until is not None) is (cause in TIMED)


def test_a_turn_behind_others_says_why_the_first_of_them_waits(store: Database) -> None:
    session = rows.start(store)
    head, turn = rows.send(store, session), rows.send(store, session)
    rows.run(store, head, TurnState.RETRYING, delay=IN_AN_HOUR, error_code="rate_limited")
    found = asked(store, turn)
    assert [(one.cause, one.turn_id) for one in found.reasons] == [
        (Cause.BEHIND, turn),
        (Cause.RETRY, head),
    ]
    assert found.likely_at is None
    assert "after rate_limited" in in_a_line(found)


def test_several_things_may_stand_in_the_way(store: Database) -> None:
    turn = lane_paused(store)
    session_id = asked(store, turn).session_id
    with store.begin() as conn:
        sessions.pause(conn, session_id)
        pauses.pause(conn, kind="provider", name="mock")
    causes = {Cause.SESSION_PAUSED, Cause.LANE_PAUSED, Cause.PROVIDER_PAUSED}
    assert {one.cause for one in asked(store, turn).reasons} == causes
    assert len(obstacles(asked(store, turn))) == 3


def test_what_nothing_stands_in_the_way_of_has_no_obstacle(store: Database) -> None:
    for seed in (ended, running, sent):
        assert obstacles(asked(store, seed(store))) == []


def test_a_turn_that_waits_until_a_moment_is_likely_to_begin_then(store: Database) -> None:
    found = asked(store, retried(store))
    assert found.likely_at == found.reasons[0].until
    assert found.likely_at is not None
    assert found.likely_at - found.now > timedelta(minutes=59)


def test_in_a_busy_lane_it_is_likely_to_begin_as_fast_as_others_end(store: Database) -> None:
    for _ in range(30):
        ended(store)
    found = asked(store, lane_busy(store))
    assert found.likely_at is not None
    wait = found.likely_at - found.now
    assert timedelta(seconds=0.4) <= wait <= timedelta(seconds=7)  # three, as thirty have ended
    assert "; likely to begin in " in in_a_line(found)


def test_a_lane_in_which_turns_end_has_a_worker(store: Database) -> None:
    turn = sent(store)
    ended(store)
    due_since(store, turn, timedelta(seconds=30))
    assert asked(store, turn).reasons[0].cause is Cause.DUE


def test_who_is_not_there_waits_for_nothing(store: Database) -> None:
    with pytest.raises(TurnNotFound):
        asked(store, TurnId(new_id()))


def test_a_page_of_turns_says_of_each_what_the_turn_by_itself_says(store: Database) -> None:
    seeded = {}
    for cause, (seed, _) in CAUSES.items():
        if cause not in (Cause.LANE_PAUSED, Cause.PROVIDER_PAUSED, Cause.NO_WORKER, Cause.DUE):
            seeded[cause] = seed(store)
    with store.begin() as conn:
        found = why_each(conn, [*seeded.values(), TurnId(new_id())])
    assert {turn: one.reasons[0].cause for turn, one in found.items()} == {
        turn: cause for cause, turn in seeded.items()
    }
    cells = {cause: in_a_cell(found[turn]) for cause, turn in seeded.items()}
    assert cells[Cause.ENDED] == ""
    assert cells[Cause.BEHIND].startswith("behind 2: provider for ")
    assert cells[Cause.LANE_BUSY] == "lane busy"
    assert cells[Cause.ACCOUNT].startswith("account until ")
    assert waiting(found[seeded[Cause.ENDED]]) == {"waits_for": [], "reason": None}
    document = waiting(found[seeded[Cause.LIMIT]])
    assert (document["reason"]["cause"], len(document["waits_for"])) == ("limit", 1)
    assert (
        "for others of lane interactive" in waiting(found[seeded[Cause.LANE_BUSY]])["waits_for"][0]
    )


@pytest.mark.parametrize("count", [1, 30])
def test_a_page_costs_as_many_queries_whatever_is_on_it(store: Database, count: int) -> None:
    sent_ones = [lane_busy(store) for _ in range(count)]
    asked_for = []
    with store.begin() as conn:
        event.listen(conn, "before_cursor_execute", lambda *said: asked_for.append(said[2]))
        assert len(why_each(conn, sent_ones)) == count
    # On a machine so busy that they were made seconds ago, it is looked for who works: three more.
    assert len(asked_for) <= 11, asked_for


def test_a_turn_behind_others_is_likely_to_begin_when_they_are_done_as_fast_as_before(
    store: Database,
) -> None:
    session = rows.start(store)
    for _ in range(3):
        rows.run(store, rows.send(store, session))
    with store.begin() as conn:
        began = datetime.now(UTC) - timedelta(seconds=20)
        conn.execute(update(turn_rows).values(started_at=began))
    steps.take_one(store, rows.send(store, session))
    rows.send(store, session)
    found = asked(store, rows.send(store, session))
    assert found.likely_at is not None
    assert timedelta(seconds=35) < found.likely_at - found.now < timedelta(seconds=42)
    assert "; likely to begin in " in in_a_line(found)


def test_nobody_knows_when_where_nothing_has_ended_lately(store: Database) -> None:
    found = asked(store, lane_busy(store))
    assert found.reasons[0].cause is Cause.LANE_BUSY
    assert found.likely_at is None


def test_a_backlog_of_somebody_else_is_hardly_ahead(store: Database) -> None:
    for _ in range(30):
        sent(store)
    mine = rows.send(store, rows.start(store, user_id="bob"))
    (reason,) = asked(store, mine).reasons
    assert (reason.cause, reason.ahead) == (Cause.LANE_BUSY, 1)
    assert "for 1 turn of lane interactive that comes before it" in in_a_line(asked(store, mine))


def test_of_a_turn_that_another_target_will_answer_a_closed_account_is_no_reason(
    store: Database,
) -> None:
    turn = closed(store, ACCOUNT, settings={"fallback": [{"provider": "mock", "model": "mock"}]})
    assert asked(store, turn).reasons[0].cause is Cause.DUE


def test_a_turn_that_was_put_off_for_a_closed_account_names_it(store: Database) -> None:
    turn = put_off(store, "account")
    assert "the account at mock is closed until " in in_a_line(asked(store, turn))
    key = AccountKey(kind=ACCOUNT, provider="mock", model="")
    with store.begin() as conn:
        close(conn, key, wait=lambda _: 2 * IN_AN_HOUR, code="quota")
    (reason,) = asked(store, turn).reasons
    assert (reason.cause, reason.name) == (Cause.ACCOUNT, "mock (quota)")
    assert reason.until is not None and reason.until - asked(store, turn).now > IN_AN_HOUR

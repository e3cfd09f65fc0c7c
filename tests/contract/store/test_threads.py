"""A thread that cannot fork is lent to one call, and a thread that is adopted is read once."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from tests import rows, steps
from turnmill import Conflict
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.line import threads
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Claim, Kept
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.thread_records import Adoption

pytestmark = pytest.mark.usefixtures("sound")

SAID = [Message.of("user", "My name is Ada."), Message.of("assistant", "Hello Ada.")]


def claimed(store: Database, session: SessionId, text: str = "And now?") -> Claim:
    return steps.take_one(store, steps.send(store, session, text).turn_id)


def lend(store: Database, claim: Claim, ref: str, *, opened: bool = False) -> bool:
    with store.begin() as conn:
        return threads.lend(conn, claim, ref, opened=opened)


def give_back(store: Database, claim: Claim, ref: str) -> bool:
    with store.begin() as conn:
        return threads.give_back(conn, claim, ref)


def adoption(store: Database, claim: Claim) -> Adoption:
    with store.begin() as conn:
        return threads.adoption_of(conn, claim)


def keep(store: Database, claim: Claim, said: Sequence[Message] = SAID) -> bool:
    with store.begin() as conn:
        return threads.keep_adopted(conn, claim, said)


def stands_on(store: Database, session: SessionId) -> str:
    return steps.session(store, session).provider_ref


def unwanted(store: Database) -> list[str]:
    with store.begin() as conn:
        query = select(kept_refs.c.ref).where(kept_refs.c.due_at.is_not(None))
        return sorted(conn.scalars(query))


def talked(store: Database, ref: str) -> SessionId:
    session = rows.start(store)
    claim = claimed(store, session)
    assert lend(store, claim, ref, opened=True)
    steps.end(store, claim, provider_ref=ref)
    return session


def test_a_reply_brings_a_lent_thread_back(store: Database) -> None:
    session = talked(store, "conv_1")
    claim = claimed(store, session)
    assert claim.provider_ref == "conv_1"
    assert lend(store, claim, "conv_1")
    assert stands_on(store, session) == ""
    steps.end(store, claim, provider_ref="conv_1")
    assert stands_on(store, session) == "conv_1"
    assert unwanted(store) == []


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED, TurnState.UNKNOWN])
def test_without_a_reply_the_session_stands_on_no_thread(store: Database, state: TurnState) -> None:
    session = talked(store, "conv_1")
    claim = claimed(store, session)
    lend(store, claim, "conv_1")
    if state is TurnState.CANCELLED:
        steps.cancel(store, claim.turn_id)
    steps.end(store, claim, TurnState.FAILED if state is TurnState.CANCELLED else state)
    assert stands_on(store, session) == ""


def test_a_lost_worker_takes_the_thread_along(store: Database) -> None:
    session = talked(store, "conv_1")
    claim = claimed(store, session)
    lend(store, claim, "conv_1")
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.provider_ref, again.step_ref) == ("", "")
    assert again.history is not None and len(again.history) == 2
    assert lend(store, again, "conv_2", opened=True)
    assert unwanted(store) == ["conv_1"]
    assert not lend(store, claim, "conv_3", opened=True)  # the late one opens none
    assert not give_back(store, claim, "conv_1")


def test_what_was_not_touched_is_given_back(store: Database) -> None:
    session = talked(store, "conv_1")
    claim = claimed(store, session)
    lend(store, claim, "conv_1")
    assert give_back(store, claim, "conv_1")
    steps.end(store, claim, TurnState.RETRYING)
    assert stands_on(store, session) == "conv_1"


def test_a_thread_that_was_begun_is_known_whatever_comes_next(store: Database) -> None:
    session = rows.start(store)
    claim = claimed(store, session)
    assert lend(store, claim, "conv_1", opened=True)
    steps.lose(store, claim.turn_id)
    with store.begin() as conn:
        assert kept.kept_of(conn, session).count == 1
        sessions.remove(conn, session)
    assert unwanted(store) == ["conv_1"]


def adopting(store: Database, ref: str = "conv_a", key: str | None = None) -> SessionId:
    return rows.start(store, provider="openai", model="m", adopt=ref, key=key)


def test_what_was_said_before_a_session_becomes_history_with_its_first_reply(
    store: Database,
) -> None:
    session = adopting(store)
    claim = claimed(store, session)
    assert (claim.adopted, claim.provider_ref) == ("conv_a", "")
    assert adoption(store, claim) == Adoption(said=[], was_lent=False)
    assert keep(store, claim)
    assert lend(store, claim, "conv_a")
    steps.end(store, claim, provider_ref="conv_a")
    following = claimed(store, session)
    assert (following.before, following.provider_ref) == ((), "conv_a")
    with store.begin() as conn:
        said = [one.text for one in sessions.history(conn, session)]
        assert said[:3] == ["My name is Ada.", "Hello Ada.", "And now?"]
        own = [one.text for one in turns.messages_of(conn, claim.turn_id)]
        assert own == ["And now?", "answer to And now?"]


def test_what_was_read_goes_on_to_the_next_turn_when_the_first_has_failed(
    store: Database,
) -> None:
    session = adopting(store)
    first = claimed(store, session)
    keep(store, first)
    steps.end(store, first, TurnState.FAILED)
    second = claimed(store, session)
    found = adoption(store, second)
    assert list(found.said) == SAID
    assert keep(store, second, found.said)
    assert not keep(store, first)
    steps.lose(store, second.turn_id)
    again = steps.take_one(store, second.turn_id)
    assert list(again.before) == SAID
    assert [one.text for one in again.messages] == ["And now?"]
    steps.end(store, again)
    with store.begin() as conn:
        assert len(sessions.history(conn, session)) == 2 + 1 + 2


def test_an_adopted_thread_that_was_lent_is_not_read_again_and_stays_till_the_end(
    store: Database,
) -> None:
    session = adopting(store)
    claim = claimed(store, session)
    lend(store, claim, "conv_a")
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert adoption(store, again).was_lent
    assert lend(store, again, "conv_1", opened=True)
    assert unwanted(store) == []
    steps.end(store, again, provider_ref="conv_1")
    with store.begin() as conn:
        sessions.archive(conn, session)
    assert unwanted(store) == ["conv_1", "conv_a"]


def test_an_adopted_thread_that_was_not_touched_is_adopted_by_the_next_try(
    store: Database,
) -> None:
    claim = claimed(store, adopting(store))
    lend(store, claim, "conv_a")
    give_back(store, claim, "conv_a")
    steps.end(store, claim, TurnState.RETRYING)
    assert not adoption(store, steps.take_one(store, claim.turn_id)).was_lent


def test_a_conversation_is_one_open_sessions_and_a_response_anybodys(store: Database) -> None:
    first = adopting(store, key="mine")
    assert adopting(store, key="mine") == first
    for key in (None, "another"):
        with pytest.raises(Conflict):
            adopting(store, key=key)
    assert adopting(store, "resp_a") != adopting(store, "resp_a")
    with store.begin() as conn:
        assert sessions.archive(conn, first).status is SessionStatus.ARCHIVED
    adopting(store, key="another")


def test_an_adopted_thread_stays_though_a_turn_in_it_was_answered_and_has_failed(
    store: Database,
) -> None:
    claim = claimed(store, adopting(store))
    lend(store, claim, "conv_a")
    kept_of_it = [
        Kept(ref=ref, provider="openai", stored=True, running=False, wanted=False)
        for ref in ("conv_a", "resp_1")
    ]
    steps.end(store, claim, TurnState.FAILED, kept=kept_of_it)
    assert unwanted(store) == ["resp_1"]

"""Where keys are named, content lies in no store as it was said, and opens in its row alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, cast, select, update

from tests import rows, steps
from tests.keyed import AtHand, encrypted, in_a_file, rows_as_they_lie
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.held import HeldKeys
from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import (
    DataKeyMissing,
    IdempotencyConflict,
    InvalidInput,
    SealBroken,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CompactionKind, TurnState
from turnmill.new_ids import new_id
from turnmill.store.compaction_records import NewCompaction
from turnmill.store.database import Database
from turnmill.store.line.compactions import compactions_of, keep_compaction, spoken
from turnmill.store.line.history import succeeded_history
from turnmill.store.nouns import forks, outcome, sessions, templates, turns, why
from turnmill.store.nouns.watched import read_watched
from turnmill.store.records import NewSession
from turnmill.store.schema.tables import messages
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.template_records import NewTemplate
from turnmill.store.turn_records import Watched
from turnmill.store.upkeep.resealing import begin_anew, progress, reseal

CANARY = "CANARY-51c0"


@pytest.fixture
def keys(store: Database) -> Iterator[DataKeys]:
    with encrypted(store) as found:
        yield found


def history(store: Database, session: SessionId) -> list[tuple[str, str]]:
    with store.begin() as conn:
        return [(one.role, one.text) for one in sessions.history(conn, session)]


def answered(store: Database, session: SessionId, text: str = f"{CANARY} hello") -> TurnId:
    turn = steps.send(store, session, text).turn_id
    steps.end(store, steps.take_one(store, turn), reply=f"{CANARY} reply")
    return turn


def test_a_conversation_is_read_as_it_was_said_and_lies_sealed(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, system_prompt=f"{CANARY} prompt")
    answered(store, session)
    claim = steps.take_one(store, steps.send(store, session, f"{CANARY} again").turn_id)
    assert claim.system_prompt == f"{CANARY} prompt"
    assert claim.text == f"{CANARY} again"
    assert claim.history is not None
    assert [one.text for one in claim.history] == [f"{CANARY} hello", f"{CANARY} reply"]
    steps.end(store, claim, TurnState.FAILED, error_code="x", error_detail=f"{CANARY} vendor")
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, claim.turn_id)
        assert attempt.error_detail == f"{CANARY} vendor"
        assert len(succeeded_history(conn, session)) == 2
        assert len(spoken(conn, session).turns) == 1
    assert history(store, session)[0] == ("user", f"{CANARY} hello")
    assert CANARY not in rows_as_they_lie(store)


def test_a_retry_a_fork_a_summary_and_a_schedule_are_sealed_for_their_own_rows(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store)
    done = answered(store, session)
    failed = steps.send(store, session, f"{CANARY} fails").turn_id
    claim = steps.take_one(store, failed)
    made = NewCompaction(
        kind=CompactionKind.SUMMARISE, up_to_seq=1, turns=1, summary=f"{CANARY} summary"
    )
    with store.begin() as conn:
        assert keep_compaction(conn, claim, made)
    steps.end(store, claim, TurnState.FAILED, error_code="x")
    again = steps.take_one(store, steps.retry(store, failed).turn_id)
    assert again.text == f"{CANARY} fails"
    with store.begin() as conn:
        assert [one.summary for one in compactions_of(conn, session)] == [f"{CANARY} summary"]
        new = NewSession(id=SessionId(new_id()), user_id="ada", provider="mock", model="mock")
        fork = forks.fork(conn, new, session, at=done)
    assert [text for _, text in history(store, fork.id)] == [f"{CANARY} hello", f"{CANARY} reply"]
    assert CANARY not in rows_as_they_lie(store)


def test_a_template_is_sealed_by_the_key_of_the_house(store: Database, keys: DataKeys) -> None:
    new = NewTemplate(name="helpful", definition={"system_prompt": CANARY}, note=None)
    with store.begin() as conn:
        put = templates.put(conn, new)
        assert templates.put(conn, new).is_new is False
        assert put.record.definition == {"system_prompt": CANARY}
    assert CANARY not in rows_as_they_lie(store)


def test_the_same_key_stands_for_the_same_content_and_its_hash_for_nobody_else(
    store: Database, keys: DataKeys
) -> None:
    session, other = rows.start(store), rows.start(store, user_id="bob")
    first = steps.send(store, session, "same", idempotency_key="k")
    assert steps.send(store, session, "same", idempotency_key="k").turn_id == first.turn_id
    with pytest.raises(IdempotencyConflict):
        steps.send(store, session, "other", idempotency_key="k")
    steps.send(store, other, "same", idempotency_key="k")
    with store.begin() as conn:
        hashes = set(conn.scalars(select(turn_rows.c.idempotency_hash)))
    assert len(hashes) == 2


def test_a_key_that_was_used_before_encryption_stands_for_its_content_still(
    store: Database,
) -> None:
    session = rows.start(store)
    first = steps.send(store, session, "same", idempotency_key="k")
    with encrypted(store):
        assert steps.send(store, session, "same", idempotency_key="k").turn_id == first.turn_id


def swap(store: Database, first: Any, second: Any) -> None:
    """Let the contents of two messages change places, as the rows have them."""
    raw = cast(messages.c.content, String)
    with store.begin() as conn:
        one, other = (
            conn.scalars(select(raw).where(messages.c.id == which)).one()
            for which in (first, second)
        )
        for which, value in ((first, other), (second, one)):
            conn.execute(
                update(messages).where(messages.c.id == which).values(content=value.strip('"'))
            )


def message_ids(store: Database, session: SessionId) -> list[Any]:
    with store.begin() as conn:
        return [one.id for one in sessions.history(conn, session)]


def test_contents_that_changed_places_are_refused_and_fail_their_turn_by_name(
    store: Database, keys: DataKeys
) -> None:
    ada, bob = rows.start(store), rows.start(store, user_id="bob")
    answered(store, ada)
    theirs = answered(store, bob)
    swap(store, message_ids(store, ada)[0], message_ids(store, bob)[0])
    assert history(store, ada)[0] == ("user", "\N{REPLACEMENT CHARACTER}")
    turn = steps.send(store, ada).turn_id
    assert steps.take(store, turn) == []
    found = steps.turn(store, turn)
    assert (found.state, found.error_code) == (TurnState.FAILED, SealBroken.code)
    swap(store, message_ids(store, bob)[1], message_ids(store, bob)[0])
    with store.begin() as conn, pytest.raises(SealBroken, match=r"messages\.content"):
        outcome.outcome_of(conn, theirs)


def test_a_session_that_was_given_to_another_user_opens_for_nobody(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, system_prompt=CANARY)
    answered(store, session)
    with store.begin() as conn:
        moved = update(session_rows).where(session_rows.c.id == session)
        conn.execute(moved.values(user_id="mallory"))
        with pytest.raises(SealBroken, match="another user"):
            sessions.get(conn, session)
        plain = moved.values(system_prompt=None)
        conn.execute(plain)
    assert {text for _, text in history(store, session)} == {"\N{REPLACEMENT CHARACTER}"}


def test_a_forgotten_user_is_read_by_nobody_and_others_by_whoever_may(
    store: Database, keys: DataKeys
) -> None:
    users = {user: rows.start(store, user_id=user) for user in ("ada", "bob", "eve")}
    for session in users.values():
        answered(store, session)
    keys.forget("ada")
    for user, session in users.items():
        if user == "ada":
            with pytest.raises(DataKeyMissing):
                history(store, session)
        else:
            assert len(history(store, session)) == 2


def test_turns_wait_for_a_master_key_and_go_on_when_it_is_back(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "keyring"
    keys = AtHand(HeldKeys(), in_a_file(path))
    with encrypted(store, keys):
        session = rows.start(store)
        turn = steps.send(store, session, CANARY).turn_id
        kept = path.read_text()
        path.write_text("")
        keys.drop()
        assert steps.take(store, turn) == []
        with store.begin() as conn:
            found = turns.get(conn, turn)
            assert [one.cause for one in why.why(conn, turn).reasons] == [why.Cause.KEY]
        assert (found.state, found.attempt, found.waits_for) == (TurnState.QUEUED, 0, "key")
        with pytest.raises(DataKeyMissing):
            steps.send(store, session, "more")
        path.write_text(kept)
        keys.drop()  # or a second later
        steps.due_now(store, turn)
        assert steps.take_one(store, turn).text == CANARY


def test_turns_wait_where_a_worker_has_no_keys_at_all(store: Database) -> None:
    with encrypted(store) as keys:
        session = rows.start(store, system_prompt=CANARY)
        answered(store, session)
        turn = steps.send(store, session, CANARY).turn_id
    assert steps.take(store, turn) == []
    assert steps.turn(store, turn).waits_for == "key"
    with store.begin() as conn, pytest.raises(DataKeyMissing):
        sessions.get(conn, session)
    with encrypted(store, keys):
        steps.due_now(store, turn)
        assert steps.take_one(store, turn).text == CANARY


def resealed(store: Database) -> int:
    """Seal all that is to be; return how many values were sealed anew."""
    while store.run(reseal, limit=3):
        pass
    return sum(one.sealed for one in store.run(progress))


def test_what_was_plain_is_read_and_is_sealed_by_upkeep(store: Database) -> None:
    session = rows.start(store, system_prompt=f"{CANARY} prompt")
    answered(store, session)
    with store.begin() as conn:
        new = NewTemplate(name="t", definition={"system_prompt": CANARY}, note=None)
        templates.put(conn, new)
    assert CANARY in rows_as_they_lie(store)
    with encrypted(store):
        answered(store, session)
        before = history(store, session)
        assert len(before) == 4
        assert resealed(store) == 4  # the prompt, two messages and the template
        assert resealed(store) == 4
        assert CANARY not in rows_as_they_lie(store)
        assert history(store, session) == before
        assert all(one.is_done for one in store.run(progress))
        claim = steps.take_one(store, steps.send(store, session).turn_id)
        assert claim.system_prompt == f"{CANARY} prompt"


def test_after_a_rotation_everything_is_sealed_anew_and_read_throughout(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store)
    answered(store, session)
    old = keys.current(Owner("ada")).id
    assert old in rows_as_they_lie(store)
    keys.rotate(Owner("ada"))
    answered(store, session)
    assert len(history(store, session)) == 4
    store.run(begin_anew)
    assert resealed(store) == 2
    lie = rows_as_they_lie(store)
    assert old not in lie and keys.current(Owner("ada")).id in lie
    assert len(history(store, session)) == 4


def test_a_callers_own_key_wraps_what_his_session_is_sealed_by(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "keyring"
    keys = AtHand(HeldKeys(), in_a_file(path, "1", "acme"))
    with encrypted(store, keys):
        own, other = rows.start(store, key_id="acme"), rows.start(store)
        answered(store, own)
        answered(store, other)
        path.write_text(path.read_text().splitlines()[0] + "\n")
        keys.drop()
        assert len(history(store, other)) == 2
        with pytest.raises(DataKeyMissing, match="acme"):
            history(store, own)
    with pytest.raises(InvalidInput, match="key_id"):
        rows.start(store, key_id="acme")


def test_a_text_that_looks_sealed_is_text(store: Database) -> None:
    prompts = ("tm1.", "tm1.\x1fodd\x1f", f"tm1.{'a' * 22}.short", "x\x1ftm1.")
    for prompt in prompts:
        session = rows.start(store, system_prompt=prompt)
        assert steps.session(store, session).system_prompt == prompt
        with encrypted(store):
            assert steps.session(store, session).system_prompt == prompt
            sealed = rows.start(store, system_prompt=prompt)
            assert steps.session(store, sealed).system_prompt == prompt


def test_whoever_watches_is_told_of_his_own_missing_key_alone(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "keyring"
    keys = DataKeys(HeldKeys(), in_a_file(path, "1", "acme"))
    with encrypted(store, keys):
        keys.fetch(owners=[Owner("ada"), Owner("bob", "acme")])
        mine = answered(store, rows.start(store))
        theirs = answered(store, rows.start(store, user_id="bob", key_id="acme"))
        path.write_text(path.read_text().splitlines()[0] + "\n")
        keys.drop()
        found = store.run(read_watched, [theirs, mine])
    assert isinstance(found[0], DataKeyMissing)
    assert isinstance(found[1], Watched) and found[1].text == f"{CANARY} reply"

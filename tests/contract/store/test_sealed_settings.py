"""Settings are sealed where that is chosen, but for what is read of them without a key."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import String, cast, select, update

from tests import rows, steps
from tests.keyed import at_hand, encrypted, rows_as_they_lie
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.ended_turns import limit_of_replies
from turnmill.store.database import Database
from turnmill.store.nouns import forks, sessions
from turnmill.store.records import NewSession
from turnmill.store.schema.tables import attempts
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.upkeep.keys_in_use import keys_in_use
from turnmill.store.upkeep.resealing import begin_anew, progress, reseal
from turnmill.store.vaults import plain_setting

CANARY = "CANARY-77aa"
OTHER = {"provider": "mock", "model": "other"}
SAID: dict[str, Any] = {
    "max_tokens": 40,
    "api": "chat",
    "fallback": [OTHER, {**OTHER, "model": "third", "settings": {"stop": [CANARY]}}],
    "tools": [{"name": "ask", "description": CANARY, "parameters": {"type": "object"}}],
    "response_format": {"type": "object", "properties": {"a": {"const": CANARY}}},
    "prompt": {"id": "pmpt_1", "variables": {"name": CANARY}},
    "instructions": CANARY,
    "user": CANARY,
}
#: What stands of them, beside what is sealed.
PLAIN = {
    "max_tokens": 40,
    "api": "chat",
    "fallback": [OTHER, OTHER | {"model": "third"}],
    "tools": True,
    "prompt": True,
}


@pytest.fixture
def keys(store: Database) -> Iterator[DataKeys]:
    with encrypted(store, chosen()) as found:
        yield found


def chosen() -> DataKeys:
    """Return keys of a process that seals settings."""
    found = at_hand()
    found.seals_settings = True
    return found


def read(store: Database, session: SessionId) -> object:
    with store.begin() as conn:
        return sessions.get(conn, session).settings


def stands(store: Database, session: SessionId) -> dict[str, Any]:
    """Return a session's settings as they lie."""
    with store.begin() as conn:
        mine = session_rows.c.id == session
        lies = conn.scalars(select(cast(session_rows.c.settings, String)).where(mine)).one()
        found: dict[str, Any] = json.loads(lies)
        return found


def put_as_it_lies(store: Database, session: SessionId, settings: Mapping[str, Any]) -> None:
    with store.begin() as conn:
        mine = update(session_rows).where(session_rows.c.id == session)
        conn.execute(mine.values(settings=settings))


def test_they_are_read_as_they_were_given_everywhere_and_lie_sealed_but_for_what_sql_reads(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, settings=SAID)
    turn = steps.send(store, session).turn_id
    assert read(store, session) == SAID
    with store.begin() as conn:
        assert sessions.find(conn)[0].settings == SAID
        assert conn.scalars(select(session_rows.c.settings)).one() == SAID
    assert steps.take_one(store, turn).settings == SAID
    rows.update_session(store, session, settings=SAID | {"more": CANARY})
    with store.begin() as conn:
        sessions.change(conn, session, {"more_settings": {"user": None, "stop": CANARY}})
    now = {name: one for name, one in SAID.items() if name != "user"}
    assert read(store, session) == now | {"more": CANARY, "stop": CANARY}
    assert CANARY not in rows_as_they_lie(store)
    found = stands(store, session)
    assert found.pop("tm1").startswith("tm1.")
    assert found == PLAIN


def test_a_turn_that_goes_on_with_another_target_asks_the_one_that_they_name(
    store: Database, keys: DataKeys
) -> None:
    turn = steps.send(store, rows.start(store, settings=SAID)).turn_id
    with store.begin() as conn:
        conn.execute(update(turn_rows).values(target=2))
    claim = steps.take_one(store, turn)
    assert (claim.target, claim.settings) == (2, SAID)
    with store.begin() as conn:
        assert conn.scalars(select(attempts.c.asked_model)).one() == "third"


def test_settings_that_sql_reads_all_of_lie_as_they_are_and_the_others_are_told_by_none(
    store: Database, keys: DataKeys
) -> None:
    only = rows.start(store, settings={"api": "chat", "fallback": [OTHER], "max_tokens": "12"})
    assert stands(store, only) == {"api": "chat", "fallback": [OTHER], "max_tokens": "12"}
    odd = {"max_tokens": CANARY, "max_output_tokens": [CANARY], "tools": []}
    session = rows.start(store, settings=odd)
    assert stands(store, session).keys() == {"tm1"}
    assert read(store, session) == odd
    # Nor is what the door refuses, and somebody has written past it.
    odd = {"api": CANARY, "fallback": CANARY, "reply_as": [CANARY], "prompt": CANARY}
    with store.begin() as conn:
        sessions.change(conn, session, {"settings": odd})
    assert stands(store, session).keys() == {"prompt", "tm1"}
    assert CANARY not in rows_as_they_lie(store)


def test_a_fork_takes_them_along_for_its_own_row(store: Database, keys: DataKeys) -> None:
    session = rows.start(store, settings=SAID)
    done = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, done))
    with store.begin() as conn:
        found = sessions.get(conn, session)
        new = NewSession(
            id=SessionId(new_id()),
            user_id="ada",
            provider="mock",
            model="mock",
            settings=found.settings,
        )
        fork = forks.fork(conn, new, session, at=done)
    assert read(store, fork.id) == SAID
    assert stands(store, fork.id)["tm1"] != stands(store, session)["tm1"]


def test_what_was_moved_to_another_row_is_refused_by_name_and_its_turn_is_settled_so(
    store: Database, keys: DataKeys
) -> None:
    ada, bob = rows.start(store, settings=SAID), rows.start(store, user_id="bob", settings=SAID)
    mine, his = stands(store, ada), stands(store, bob)
    put_as_it_lies(store, ada, his)
    with pytest.raises(SealBroken, match=r"sessions\.settings"):
        read(store, ada)
    turn = steps.send(store, ada).turn_id
    assert steps.take(store, turn) == []
    found = steps.turn(store, turn)
    assert (found.state, found.error_code) == (TurnState.FAILED, SealBroken.code)
    assert read(store, bob) == SAID
    # Nor is an older value of another column taken, nor one whose bytes were changed.
    put_as_it_lies(store, ada, mine | {"tm1": mine["tm1"][:-6] + "AAAA=="})
    with pytest.raises(SealBroken, match=r"sessions\.settings"):
        read(store, ada)
    put_as_it_lies(store, ada, mine)
    assert read(store, ada) == SAID


def test_what_was_written_plain_is_read_and_sealed_by_upkeep_and_rotated_with_the_rest(
    store: Database,
) -> None:
    session = rows.start(store, settings=SAID)
    rows.start(store, settings={"api": "chat"})
    with encrypted(store) as keys:
        sealed_by_upkeep(store)
        assert stands(store, session) == SAID  # nobody has chosen it yet
        keys.seals_settings = True
        assert read(store, session) == SAID
        sealed_by_upkeep(store)
        assert stands(store, session).keys() == {"tm1", *PLAIN}
        assert read(store, session) == SAID
        assert all(one.is_done for one in store.run(progress))
        before = {one.id for one in keys.store.get(users=["ada"])}
        assert store.run(keys_in_use, before) == before
        # Where it is chosen no more, what is sealed stays so, and is rotated all the same.
        keys.seals_settings = False
        keys.rotate(Owner("ada"))
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert store.run(keys_in_use, before) == set()
        assert read(store, session) == SAID
        found = stands(store, session)
        assert found.pop("tm1").startswith("tm1.")
        assert found == PLAIN
        rows.update_session(store, session, settings=SAID)
        assert stands(store, session) == SAID


def sealed_by_upkeep(store: Database) -> None:
    while store.run(reseal):
        pass


def test_without_its_key_a_turn_is_not_read_and_what_is_plain_is_told_all_the_same(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, settings=SAID)
    turn = steps.send(store, session).turn_id
    keys.forget("ada")
    with pytest.raises(DataKeyMissing):
        read(store, session)
    with store.begin() as conn:
        (settings,) = conn.scalars(select(session_rows.c.settings))
        assert plain_setting(settings, "fallback") == PLAIN["fallback"]
        assert conn.scalar(select(limit_of_replies())) == "40"
    assert steps.take(store, turn) == []
    found = steps.turn(store, turn)
    assert (found.state, found.waits_for, found.attempt) == (TurnState.QUEUED, "key", 0)


def test_a_name_of_ours_is_nobodys_trap(store: Database) -> None:
    for said in ({"tm1": "tm1.mine"}, {"tm1": 5}, {"tm1": None}, SAID, {}):
        assert read(store, rows.start(store, settings=said)) == said
        with encrypted(store, chosen()):
            assert read(store, rows.start(store, user_id="bob", settings=said)) == said


def test_a_query_that_goes_by_what_may_be_sealed_cannot_be_written() -> None:
    settings = session_rows.c.settings
    for name in ("instructions", "observers", "stop"):
        with pytest.raises(LookupError, match="may be sealed"):
            settings[name]
        with pytest.raises(LookupError, match="may be sealed"):
            plain_setting({}, name)
    assert settings["api"] is not None

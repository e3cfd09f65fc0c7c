"""Metadata is sealed where that is chosen, but for the keys that budgets and figures go by."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import String, cast, select, update

from tests import rows, steps
from tests.keyed import at_hand, encrypted, rows_as_they_lie
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.wanted import Owner
from turnmill.domain.content import Text
from turnmill.domain.crons import Missed
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import forks, schedules, sessions, turns
from turnmill.store.records import NewSession
from turnmill.store.schedule_records import NewSchedule
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.upkeep.keys_in_use import keys_in_use
from turnmill.store.upkeep.resealing import begin_anew, reseal

CANARY = "CANARY-3b1d"
SAID = {"team": "blue", "note": CANARY, "deep": {"er": [CANARY, 1, None]}}


@pytest.fixture
def keys(store: Database) -> Iterator[DataKeys]:
    with encrypted(store, chosen()) as found:
        yield found


def chosen() -> DataKeys:
    """Return keys of a process that seals metadata, but for teams."""
    found = at_hand()
    found.plain_metadata = frozenset({"team"})
    return found


def read(store: Database, session: SessionId) -> object:
    with store.begin() as conn:
        return sessions.get(conn, session).metadata


def stands(store: Database, table: object = session_rows) -> list[dict[str, object]]:
    with store.begin() as conn:
        found = conn.scalars(select(cast(table.c.metadata, String)))  # type: ignore[attr-defined]
        return [json.loads(one) for one in found]


def sealed_by_upkeep(store: Database) -> None:
    while store.run(reseal):
        pass


def test_it_is_read_as_it_was_given_everywhere_and_lies_sealed_but_for_its_tags(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, metadata=SAID)
    turn = steps.send(store, session, metadata=SAID).turn_id
    assert read(store, session) == SAID
    claim = steps.take_one(store, turn)
    assert claim.metadata == SAID
    steps.end(store, claim)
    assert steps.turn(store, turn).metadata == SAID
    rows.update_session(store, session, metadata=SAID | {"more": CANARY})
    assert read(store, session) == SAID | {"more": CANARY}
    with store.begin() as conn:
        assert sessions.find(conn)[0].metadata == SAID | {"more": CANARY}
        assert turns.find(conn)[0].metadata == SAID
    assert CANARY not in rows_as_they_lie(store)
    for one in (*stands(store), *stands(store, turn_rows)):
        assert one.keys() == {"team", "tm1"} and one["team"] == "blue"


def test_a_retry_a_fork_and_a_schedule_take_it_along_each_for_its_own_row(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, metadata=SAID)
    done = steps.send(store, session, metadata=SAID).turn_id
    steps.end(store, steps.take_one(store, done))
    with store.begin() as conn:
        new = NewSession(
            id=SessionId(new_id()), user_id="ada", provider="mock", model="mock", metadata=SAID
        )
        fork = forks.fork(conn, new, session, at=done)
        (copied,) = turns.find(conn, session_id=fork.id)
        made = NewSchedule(
            id=new_id(),
            key=None,
            parts=(Text("hi"),),
            cron=None,
            at=datetime.now(UTC) + timedelta(seconds=1),
            timezone="UTC",
            until=None,
            missed=Missed.SKIP,
            lane=Lane.INTERACTIVE,
            metadata=SAID,
            max_attempts=None,
            max_cost_usd=None,
        )
        assert schedules.create(conn, session, made).metadata == SAID
    assert fork.metadata == copied.metadata == SAID
    assert CANARY not in rows_as_they_lie(store)


def test_what_was_moved_to_another_row_is_refused_by_name(store: Database, keys: DataKeys) -> None:
    ada, bob = rows.start(store, metadata=SAID), rows.start(store, user_id="bob", metadata=SAID)
    theirs = cast(session_rows.c.metadata, String)
    with store.begin() as conn:
        said = conn.scalars(select(theirs).where(session_rows.c.id == bob)).one()
        mine = session_rows.c.id == ada
        conn.execute(update(session_rows).where(mine).values(metadata=json.loads(said)))
    with pytest.raises(SealBroken, match=r"sessions\.metadata"):
        read(store, ada)
    assert read(store, bob) == SAID


def test_what_was_written_plain_is_read_and_sealed_by_upkeep_and_rotated_with_the_rest(
    store: Database,
) -> None:
    session = rows.start(store, metadata=SAID)
    tagged = rows.start(store, metadata={"team": "red"})
    steps.send(store, session, metadata=SAID)
    with encrypted(store, chosen()) as keys:
        assert read(store, session) == SAID
        sealed_by_upkeep(store)
        assert read(store, session) == SAID
        assert read(store, tagged) == {"team": "red"}
        assert CANARY not in rows_as_they_lie(store)
        before = {one.id for one in keys.store.get(users=["ada"])}
        assert store.run(keys_in_use, before) == before
        keys.rotate(Owner("ada"))
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert store.run(keys_in_use, before) == set()
        assert read(store, session) == SAID
        # Where it is chosen no more, what is sealed stays so until it is rotated, and is read.
        keys.plain_metadata = None
        assert read(store, session) == SAID
        keys.rotate(Owner("ada"))
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert {one["team"] for one in stands(store)} == {"blue", "red"}  # budgets go by them yet
        assert read(store, session) == SAID
        rows.update_session(store, session, metadata=SAID)
        assert stands(store)[0] == SAID or stands(store)[1] == SAID


def test_who_chooses_it_later_has_upkeep_look_at_what_stands(store: Database) -> None:
    rows.start(store, metadata=SAID)
    with encrypted(store) as keys:
        sealed_by_upkeep(store)
        assert stands(store) == [SAID]
        keys.plain_metadata = frozenset({"team"})
        sealed_by_upkeep(store)
        assert [one.keys() for one in stands(store)] == [{"team", "tm1"}]


def test_without_its_key_it_is_not_read_and_a_name_of_ours_is_nobodys_trap(
    store: Database, keys: DataKeys
) -> None:
    session = rows.start(store, metadata=SAID)
    own = rows.start(store, user_id="bob", metadata={"tm1": "tm1.mine", "team": "t"})
    assert read(store, own) == {"tm1": "tm1.mine", "team": "t"}
    keys.forget("ada")
    with pytest.raises(DataKeyMissing):
        read(store, session)


def test_who_has_not_chosen_it_finds_his_own_as_he_wrote_it(store: Database) -> None:
    for said in ({"tm1": "tm1.mine"}, {"tm1": 5}, {"tm1": None}, SAID, {}):
        assert read(store, rows.start(store, metadata=said)) == said

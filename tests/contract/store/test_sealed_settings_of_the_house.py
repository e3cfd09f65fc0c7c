"""Settings of batches, trials and experiments are sealed: by their user's key, or the house's."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, Table, cast, select, update

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.keyed import at_hand, encrypted, rows_as_they_lie
from tests.trying import OTHER, asked, executor_of, experiments_of, had, trials_of
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.envelope import key_id_of
from turnmill.crypto.wanted import HOUSE, Owner
from turnmill.domain.batches import LineState
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding, erasures
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches
from turnmill.store.schema.trial_tables import experiments, trials
from turnmill.store.upkeep.keys_in_use import keys_in_use
from turnmill.store.upkeep.resealing import begin_anew, reseal
from turnmill.sync.batches import Batch
from turnmill.sync.sessions import Sessions
from turnmill.sync.templates import Templates
from turnmill_worker.process.feeding_batches import make_turns

CANARY = "CANARY-51cc"
SAID = {"stop": [CANARY], "max_tokens": 40, "instructions": CANARY}


@pytest.fixture
def keys(store: Database) -> Iterator[DataKeys]:
    found = at_hand()
    found.seals_settings = True
    with encrypted(store, found):
        yield found


def submitted(
    store: Database, folder: Path, name: str, *, lines: int = 1, users: Sequence[str] = ("ada",)
) -> Batch:
    path = folder / f"{name}.jsonl"
    said = [{"user_id": one, "text": name, "settings": {"user": CANARY}} for one in users]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in said) * lines)
    options: dict[str, Any] = {"provider": "mock", "model": "mock", "settings": SAID}
    return batches_of(store).create(path, name=name, **options)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make turns of one line when a batch is submitted, and then of one after the other."""
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})


def first_is_done(store: Database, batch: Batch) -> None:
    (turn,) = [one.turn_id for one in batch.iter_results() if one.turn_id is not None]
    rows.run(store, turn)


def states(store: Database, batch: Batch) -> list[int]:
    with store.begin() as conn:
        mine = batch_lines.c.batch_id == batch.record.id
        query = select(batch_lines.c.state).where(mine).order_by(batch_lines.c.line)
        return list(conn.scalars(query))


def stands(store: Database, table: Table) -> list[dict[str, Any]]:
    with store.begin() as conn:
        said = conn.scalars(select(cast(table.c.settings, String)).order_by(table.c.id))
        return [json.loads(one) for one in said]


def test_those_of_a_batch_lie_sealed_and_its_lines_have_them(
    store: Database, keys: DataKeys, tmp_path: Path
) -> None:
    batch = submitted(store, tmp_path, "one")
    assert batch.record.settings == SAID
    assert CANARY not in rows_as_they_lie(store)
    (found,) = stands(store, batches)
    assert found.keys() == {"max_tokens", "tm1"}
    assert found["max_tokens"] == 40
    make_turns(store)
    (claim,) = steps.take_due(store, Lane.BULK)
    assert claim.settings == SAID | {"user": CANARY}
    assert CANARY not in rows_as_they_lie(store)


@pytest.mark.usefixtures("slowly")
def test_those_of_another_batch_are_refused_and_its_lines_come_to_nothing(
    store: Database, keys: DataKeys, tmp_path: Path
) -> None:
    one, other = (submitted(store, tmp_path, name, lines=3) for name in ("one", "two"))
    first_is_done(store, one)
    theirs = stands(store, batches)[1]
    with store.begin() as conn:
        mine = batches.c.id == one.record.id
        conn.execute(update(batches).where(mine).values(settings=theirs))
    with pytest.raises(SealBroken, match=r"batches\.settings"):
        batches_of(store).get(one.record.id)
    for _ in range(4):
        make_turns(store)
    assert states(store, one) == [LineState.FED, LineState.DROPPED, LineState.DROPPED]
    assert states(store, other) == [LineState.FED, LineState.STAGED, LineState.STAGED]
    assert batches_of(store).get(other.record.id).record.settings == SAID


@pytest.mark.usefixtures("slowly")
def test_without_the_key_a_batch_waits_and_can_be_cancelled(
    store: Database, keys: DataKeys, tmp_path: Path
) -> None:
    batch = submitted(store, tmp_path, "one", lines=2)
    first_is_done(store, batch)
    keys.forget("ada")  # whose all its lines are
    with pytest.raises(DataKeyMissing):
        batches_of(store).get(batch.record.id)
    assert make_turns(store) == []
    assert states(store, batch) == [LineState.FED, LineState.STAGED]
    batch.cancel()
    make_turns(store)
    assert states(store, batch) == [LineState.FED, LineState.DROPPED]


def test_those_of_trials_and_experiments_lie_sealed_and_are_gone_by(
    store: Database, keys: DataKeys
) -> None:
    had(store, "one", settings={"user": CANARY})
    record = trials_of(store).start(OTHER, sample=1, settings=SAID)
    assert record.settings == SAID
    (claim,) = asked(store)
    assert claim.settings == SAID | {"user": CANARY}
    Templates(executor_of(store)).put("t", provider="mock", model="mock", settings={"user": "x"})
    made = experiments_of(store).start("t", settings=SAID, share=0.5)
    assert experiments_of(store).get(made.id).settings == SAID
    opened = [
        Sessions(executor_of(store)).create(user_id=f"user-{n}", template="t").settings
        for n in range(20)
    ]
    assert SAID | {"user": "x"} in opened
    assert CANARY not in rows_as_they_lie(store)
    assert all("tm1" in one for table in (trials, experiments) for one in stands(store, table))


@pytest.mark.parametrize(("users", "whose"), [(("ada",), "ada"), (("ada", "ben"), HOUSE)])
def test_those_of_a_batch_are_sealed_by_the_key_of_whose_all_its_lines_are(
    store: Database, keys: DataKeys, tmp_path: Path, users: Sequence[str], whose: str
) -> None:
    batch = submitted(store, tmp_path, "one", users=users)
    (found,) = stands(store, batches)
    assert keys.key(key_id_of(found["tm1"])).user == whose
    keys.rotate(Owner(whose))
    sealed_by_upkeep(store)
    (again,) = stands(store, batches)
    assert key_id_of(again["tm1"]) != key_id_of(found["tm1"])
    assert keys.key(key_id_of(again["tm1"])).user == whose
    assert batches_of(store).get(batch.record.id).record.settings == SAID


@pytest.mark.parametrize(
    ("users", "left"), [(("ada",), {}), (("ada", "ben"), SAID)], ids=["hers", "of several"]
)
def test_those_of_a_batch_go_with_whoever_was_erased_where_all_its_lines_were_his(
    store: Database, tmp_path: Path, users: Sequence[str], left: dict[str, Any]
) -> None:
    batch = submitted(store, tmp_path, "one", users=users)
    with store.begin() as conn:
        erasures.request(conn, "ada", reason="", grace=timedelta(0))
        assert erasures.begin(conn, "ada")
    assert batches_of(store).get(batch.record.id).record.settings == left


def test_those_of_before_are_sealed_by_upkeep_and_rotated_with_their_user(
    store: Database, tmp_path: Path
) -> None:
    batch = submitted(store, tmp_path, "one")
    keys = at_hand()
    keys.seals_settings = True
    with encrypted(store, keys):
        sealed_by_upkeep(store)
        assert CANARY not in rows_as_they_lie(store)
        before = {one.id for one in keys.store.get(users=["ada"])}
        assert before
        assert store.run(keys_in_use, before) == before
        keys.rotate(Owner("ada"))
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert store.run(keys_in_use, before) == set()
        assert batches_of(store).get(batch.record.id).record.settings == SAID


def sealed_by_upkeep(store: Database) -> None:
    while store.run(reseal):
        pass

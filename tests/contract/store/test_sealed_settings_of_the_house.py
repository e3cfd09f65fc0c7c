"""Settings that batches, trials and experiments hold are sealed by the house's key, as chosen."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, Table, cast, select, update

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.keyed import at_hand, encrypted, rows_as_they_lie
from tests.trying import OTHER, asked, executor_of, experiments_of, had, trials_of
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.wanted import HOUSE, Owner
from turnmill.domain.batches import LineState
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding
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


def submitted(store: Database, folder: Path, name: str, *, lines: int = 1) -> Batch:
    path = folder / f"{name}.jsonl"
    line = {"user_id": "ada", "text": name, "settings": {"user": CANARY}}
    path.write_text(f"{json.dumps(line)}\n" * lines)
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
    keys.forget(HOUSE)
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


def test_those_of_before_are_sealed_by_upkeep_and_rotated_with_the_house(
    store: Database, tmp_path: Path
) -> None:
    batch = submitted(store, tmp_path, "one")
    keys = at_hand()
    keys.seals_settings = True
    with encrypted(store, keys):
        sealed_by_upkeep(store)
        assert CANARY not in rows_as_they_lie(store)
        before = {one.id for one in keys.store.get(users=[HOUSE])}
        assert store.run(keys_in_use, before) == before
        keys.rotate(Owner(HOUSE))
        store.run(begin_anew)
        sealed_by_upkeep(store)
        assert store.run(keys_in_use, before) == set()
        assert batches_of(store).get(batch.record.id).record.settings == SAID


def sealed_by_upkeep(store: Database) -> None:
    while store.run(reseal):
        pass

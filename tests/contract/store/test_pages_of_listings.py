"""A page is as long as was asked for, whatever stands between its rows that cannot be read."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import rows
from tests.batch_clients import batches_of
from turnmill import BatchResult, Client, TemplateRecord
from turnmill.domain.ids import BatchId
from turnmill.store import readable as reading
from turnmill.store.analytics import experiments, feedback
from turnmill.store.database import Database
from turnmill.store.nouns import (
    audit_entries,
    batch_results,
    batches,
    budgets,
    schedules,
    sessions,
    templates,
    turns,
)

LISTINGS: dict[str, Callable[..., list[Any]]] = {
    "sessions": sessions.find,
    "turns": turns.find,
    "budgets": budgets.find,
    "schedules": schedules.find,
    "templates": templates.find,
    "versions of a template": lambda conn, limit: templates.versions(conn, "t0", limit=limit),
    "feedback": feedback.find,
    "batches": batches.find,
    "experiments": experiments.find,
    "audit": audit_entries.find,
}


@pytest.fixture
def client(store: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Give a client whose store has some of everything."""
    with Client(database_url="sqlite://") as client, monkeypatch.context() as patch:
        patch.setattr(client._executor, "database", store)
        patch.setattr(client._executor.announcer, "announce", lambda heads: None)
        yield client


def fill(client: Client, store: Database, file: Path) -> None:
    for n in range(4):
        session = client.sessions.create(user_id=f"u{n}", provider="mock", model="mock")
        turn = client.send(session, "Hello")
        rows.run(store, turn.id)
        client.turns.feedback(turn.id, 1, by="ada")
        client.budgets.set(limit_usd=5, user_id=f"u{n}")
        client.schedules.create(session, "x", cron="@yearly", key="k")
        client.templates.put(f"t{n}", provider="mock", model="mock")
        client.templates.put("t0", provider="mock", model=f"m{n}")
        client.experiments.start(f"t{n}", model="other", name=f"e{n}")
        client.sessions.update(session, max_cost_usd=1)
        file.write_text('{"user_id": "eve", "text": "x"}\n' * 4)
        batches_of(store).create(file, name=f"b{n}")


def unreadable(which: set[object]) -> Callable[..., Iterator[Any]]:
    """Return `readable` for a store where these cannot be read."""

    def readable(found: Iterable[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
        return (one for row in found if key_of(one := read(row)) not in which)

    return readable


def key_of(one: Any) -> object:
    if isinstance(one, TemplateRecord):
        return one.name, one.version
    return one.line if isinstance(one, BatchResult) else one.id


@pytest.mark.parametrize("limit", [1, 2])
def test_a_page_goes_on_behind_rows_that_cannot_be_read(
    store: Database, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    fill(client, store, tmp_path / "jobs.jsonl")
    batch = BatchId(client.batches.list(limit=1)[0].id)
    listings: dict[str, Callable[..., list[Any]]] = {
        **LISTINGS,
        "results": partial(batch_results.results, batch_id=batch),
    }
    for name, find in listings.items():
        with store.begin() as conn:
            them = [key_of(one) for one in find(conn, limit=100)]
            assert len(them) >= 4, name
            with monkeypatch.context() as patch:
                patch.setattr(reading, "readable", unreadable({them[0], them[2]}))
                seen = [key_of(one) for one in find(conn, limit=limit)]
        assert seen == [them[1], them[3]][:limit], name

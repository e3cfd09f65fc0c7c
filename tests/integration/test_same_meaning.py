"""Postgres, a file, memory: the same verbs mean the same, through both clients."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Databases
from tests.integration.same_dice import Dice
from tests.integration.same_meaning import World, differences
from tests.integration.same_verbs import VERBS
from tests.soundness import assert_sound
from turnmill import AsyncClient, Client, Settings
from turnmill.store.schema.revision import create_all

pytestmark = pytest.mark.long

WORLDS: tuple[tuple[str, type[Client | AsyncClient]], ...] = (
    ("postgres", Client),
    ("postgres", AsyncClient),
    ("memory", Client),
    ("file", AsyncClient),
)


class Idle:
    """Runs no turn: what is done is done by the test, at every store alike."""

    def wake(self) -> None: ...

    def close(self) -> None: ...


def all_differences(worlds: list[World], seed: int, *, verbs: int) -> Iterator[str]:
    """Do the same everywhere; tell what was answered or written otherwise than at the first."""
    dice = Dice(seed)
    first, *others = worlds
    for n in range(verbs):
        name, call = ("create", VERBS["create"](dice)) if n < 4 else dice.draw(VERBS)
        answer = first.does(call)
        for world in others:
            for found in differences(answer, world.does(call)):
                yield f"{n} {name} {world.name} {found}"
    rows = first.rows()
    for world in others:
        for table, there in world.rows().items():
            if there != rows[table]:
                yield f"{table} {world.name}: {rows[table] - there} | {there - rows[table]}"


@contextmanager
def every_world(databases: Databases, home: Path) -> Iterator[list[World]]:
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        worlds = []
        for n, (kind, client_class) in enumerate(WORLDS):
            urls = {
                "postgres": stack.enter_context(databases.one()),
                "memory": "sqlite://",
                "file": f"sqlite:///{home}/{n}.db",
            }
            settings: Any = Settings(database_url=urls[kind], files_url=str(home / f"{n}"))
            world = World(f"{kind}-{client_class.__name__}", client_class(settings=settings), loop)
            stack.callback(world.close)
            worlds.append(world)
            if kind != "postgres":
                with world.store.begin() as conn:
                    create_all(conn)
        yield worlds


@pytest.mark.parametrize("seed", [1, 2])
def test_every_store_and_client_gives_the_same_answers_and_keeps_the_same_rows(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("turnmill.broker.announcing._start_runner", lambda *_: Idle())
    with every_world(databases, tmp_path) as worlds:
        assert list(all_differences(worlds, seed, verbs=100)) == []
        for world in worlds:
            assert_sound(world.store)

"""Never bricked: whatever happens in whatever order, a session answers its next message."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests import stores
from tests.integration.bricking_machine import NeverBricked
from tests.integration.bricking_stage import Stage
from turnmill.store.database import Database

#: TURNMILL_PROPERTY_EXAMPLES=5000 looks longer, and elsewhere each time.
_ASKED = int(os.environ.get("TURNMILL_PROPERTY_EXAMPLES", "0"))
#: Ten thousand histories in shards, each begun elsewhere: `-n 2` plays two of them at a time.
_SHARDS, _OF_A_SHARD = 16, 625


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in ("OPENAI", "ANTHROPIC"):
        for name in ("API_KEY", "BASE_URL"):
            monkeypatch.setenv(f"{vendor}_{name}", "")


@pytest.fixture
def stage(keys: None) -> Iterator[Stage]:
    store = stores.in_memory()
    yield from staged(store)


@pytest.fixture
def postgres_stage(database_url: str, keys: None) -> Iterator[Stage]:
    yield from staged(Database(database_url, pool_size=4))


def staged(store: Database) -> Iterator[Stage]:
    found = Stage(store)
    yield found
    found.close()
    store.close()


def play(stage: Stage, *, examples: int, steps: int, shard: int | None = None) -> None:
    class OnThisStage(NeverBricked):
        def __init__(self) -> None:
            super().__init__(stage)

    begun = OnThisStage if shard is None else seed(shard)(OnThisStage)
    run_state_machine_as_test(
        begun,
        settings=settings(
            max_examples=_ASKED or examples,
            stateful_step_count=steps,
            derandomize=not _ASKED and shard is None,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(0 if _ASKED else 120)
def test_whatever_happens_a_session_answers_its_next_message(stage: Stage) -> None:
    play(stage, examples=30, steps=6)


@pytest.mark.long
@pytest.mark.timeout(0 if _ASKED else 240)
def test_whatever_happens_in_postgres_a_session_answers_its_next_message(
    postgres_stage: Stage,
) -> None:
    play(postgres_stage, examples=25, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(_SHARDS))
def test_whatever_happens_for_long_a_session_answers_its_next_message(
    stage: Stage, shard: int
) -> None:
    play(stage, examples=_OF_A_SHARD, steps=12, shard=shard)
    played = stage.played["histories"]
    assert played >= (_ASKED or _OF_A_SHARD)
    assert stage.model.judged > 2 * played, "each history asks its vendors again and again"
    assert stage.played["deaths"] > played // 8

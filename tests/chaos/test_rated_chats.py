"""Real chats that people have rated go through the queue; every figure is what pandas counts."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isclose
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.rated_chats import PERCENTS, Frames, Held, hold_all, put_times_back
from tests.chaos.system import Servers, System
from tools import satisfaction as training
from tools.satisfaction import Chat
from turnmill import Client, SessionMetrics, Spread
from turnmill.domain.analytics.satisfaction import SatisfactionEstimate, estimate
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations

_log = logging.getLogger(__name__)

ZONE = "Asia/Kathmandu"
_EVERY = 240  #: a sample has one of so many


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.fetched(tmp_path_factory.mktemp("chats"))


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    """A system whose mock says what people have said: its books tell no order."""
    with System(servers) as system:
        yield system
        database = Database(system.database_url)
        with database.begin() as conn:
            assert violations(conn, drained=True) == []
        database.close()


@pytest.mark.timeout(900)
def test_figures_of_a_sample_of_chats_are_those_that_pandas_counts(
    system: System, package: Path
) -> None:
    _hold_and_compare(system, training.chats_in(package)[::_EVERY], least_auc=0.75)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_figures_of_all_7168_chats_are_those_that_pandas_counts(
    system: System, package: Path
) -> None:
    chats = training.chats_in(package)
    assert len(chats) == 7_168
    _hold_and_compare(system, chats, least_auc=0.84)


class Took:
    """Says what each part of a run has taken: of the clock, and of this process."""

    def __init__(self) -> None:
        self._at = time.monotonic(), time.process_time()

    def tell(self, what: str) -> None:
        now = time.monotonic(), time.process_time()
        wall, cpu = (after - before for before, after in zip(self._at, now, strict=True))
        self._at = now
        _log.info("%s: %.1f s, of the processor %.1f s", what, wall, cpu)


def _hold_and_compare(system: System, chats: Sequence[Chat], *, least_auc: float) -> None:
    system.await_ready(*(system.launch_worker(concurrency=200) for _ in range(2)))
    settings = Settings(database_url=system.database_url, broker_url=system.broker_url)
    took = Took()
    held = asyncio.run(hold_all(chats, settings))
    took.tell("held")
    frames = Frames.read(system.database_url)
    took.tell("frames")
    with system.client() as client:
        _compare_sessions(client, held[:: max(1, len(held) // 1_000)], frames)
        took.tell("sessions")
        _compare_users(client, held, frames)
        took.tell("users")
        _compare_feedback(client, held)
        took.tell("feedback")
        put_times_back(held, system.database_url)
        frames = Frames.read(system.database_url)
        took.tell("put back")
        found = _compare_sessions(client, held, frames)
        _compare_estimates(held, found, least_auc=least_auc)
        took.tell("sessions and estimates")


def _compare_sessions(
    client: Client, held: Sequence[Held], frames: Frames
) -> list[SatisfactionEstimate | None]:
    """Find the figures of these chats equal; return what is estimated of each."""
    estimates = []
    lines = frames.of_sessions().to_dict("index")
    for one, found in zip(held, _metrics(client, held), strict=True):
        answered = sum(each.answered for each in one.chat.exchanges)
        assert found.counts.turns == len(one.chat.exchanges)
        assert (found.counts.succeeded, found.counts.replies) == (answered, answered)
        assert found.counts.failed == len(one.chat.exchanges) - answered
        assert found.messages == len(one.chat.exchanges) + answered
        assert _as_line(found) == pytest.approx(lines[one.session], rel=1e-9, abs=1e-6), one.chat.id
        estimates.append(found.estimate)
    return estimates


def _metrics(client: Client, held: Sequence[Held]) -> Iterator[SessionMetrics]:
    """Yield the figures of each session; Postgres works on some while others are compared."""
    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(client.analytics.session, [one.session for one in held])


def _as_line(found: SessionMetrics) -> dict[str, float]:
    assert found.duration is not None
    assert found.active is not None
    return {
        "turns": found.counts.turns,
        "succeeded": found.counts.succeeded,
        "failed": found.counts.failed,
        "duration": found.duration.total_seconds() * 1000,
        "silence": (found.duration - found.active).total_seconds() * 1000,
        "attempts": found.spent.attempts,
        "input_tokens": found.spent.input_tokens,
        "output_tokens": found.spent.output_tokens,
        **_as_columns("total", found.latencies.total),
        **_as_columns("queued", found.latencies.queued),
        **_as_columns("provider", found.latencies.provider),
    }


def _as_columns(name: str, spread: Spread | None) -> dict[str, float]:
    told = [0.0] * 6
    if spread is not None:
        told = [spread.median, spread.p90, spread.p95, spread.p99, spread.mean, spread.highest]
    columns = [*(f"{name}_{one}" for one in PERCENTS), f"{name}_mean", f"{name}_highest"]
    return dict(zip(columns, told, strict=True))


def _compare_users(client: Client, held: Sequence[Held], frames: Frames) -> None:
    users = sorted({one.chat.user for one in held})
    for user in users[:: max(1, len(users) // 50)]:
        found = client.analytics.user(user, since="1d", zone=ZONE)
        lengths = frames.lengths_of(user)
        assert list(found.hours) == frames.hours_of(user, ZONE)
        assert found.lengths.turns is not None
        assert found.lengths.sessions == len(lengths)
        assert found.lengths.turns.highest == lengths[-1]
        assert found.lengths.turns.mean == pytest.approx(sum(lengths) / len(lengths))
        assert found.counts.turns == sum(lengths)


def _compare_feedback(client: Client, held: Sequence[Held]) -> None:
    """Rate what people have rated, and find their users as content as they were."""
    given: defaultdict[str, list[float]] = defaultdict(list)
    for one in held:
        if one.chat.rating is not None:
            score = (one.chat.rating - 5.5) / 4.5
            client.turns.feedback(one.turns[-1], score)
            given[one.chat.user].append(score)
            if len(given[one.chat.user]) > 1:
                continue
            felt = client.analytics.session(one.session).satisfaction
            assert felt.score is not None
            assert isclose(felt.score, score)
            assert (felt.is_estimate, felt.given.count) == (False, 1)
    for user in sorted(given)[:50]:
        felt = client.analytics.user(user, since="1d").satisfaction
        assert (felt.given.count, felt.is_estimate) == (len(given[user]), False)
        assert felt.score == pytest.approx(np.mean(given[user]))


def _compare_estimates(
    held: Sequence[Held], estimates: Sequence[SatisfactionEstimate | None], *, least_auc: float
) -> None:
    """Estimate from rows what the chat itself says; at its own pace, as gaps were scaled."""
    liked, scores = [], []
    for one, found in zip(held, estimates, strict=True):
        wanted = estimate(one.chat.exchanges, turns=len(one.chat.exchanges))
        assert found is not None
        assert wanted is not None
        assert found.score == pytest.approx(wanted.score, abs=1e-9), one.chat.id
        assert (found.coverage, found.basis) == (1.0, "words")
        if one.chat.rating is not None:
            liked.append(one.chat.rating >= training.LIKED)
            scores.append(found.score)
    assert training.auc(np.array(liked), np.array(scores)) >= least_auc

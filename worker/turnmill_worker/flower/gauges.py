"""Gauges of the whole store in Flower's /metrics: what was read last, beside when that was.

No label names a user, a session, a turn or a batch, and none takes more values than it may.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from turnmill.domain.batches import BatchState
from turnmill.domain.states import Lane
from turnmill.store.board.overview import Ended
from turnmill.store.board.spending import MOST_MODELS, Spent
from turnmill_worker.flower.board import Batches, Board, Now
from turnmill_worker.flower.panels import Seen

#: How long a scrape waits for what is new.
_PATIENCE = 2.0
OTHER = "other"
_MOST = 50
_LABEL = re.compile(r"[A-Za-z0-9_.:/@-]{1,80}")


class Gauges(Collector):
    """Tells Prometheus' client what the board has read."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._now: Seen[Now] = Seen(None, None, is_fresh=False)
        self._ended: Seen[list[Ended]] = Seen(None, None, is_fresh=False)
        self._batches: Seen[Batches] = Seen(None, None, is_fresh=False)
        self._spent: Seen[list[Spent]] = Seen(None, None, is_fresh=False)
        REGISTRY.register(self)

    async def refresh(self) -> None:
        """Read anew, as far as the store answers in time."""
        if not self._board.is_there:
            return
        board = self._board
        self._now, self._ended, self._batches, self._spent = await asyncio.gather(
            board.now(_PATIENCE),
            board.ended(_PATIENCE),
            board.newest_batches(_PATIENCE),
            board.spent(_PATIENCE),
        )

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name nothing before it is known."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return what is known, and how old that is."""
        up = _family("board_up", "Whether Flower could read the store for this answer.")
        up.add_metric([], float(self._now.is_fresh))
        yield up
        if self._now.as_of is not None:
            as_of = _family("board_as_of_seconds", "When that was read, in seconds of Unix time.")
            as_of.add_metric([], self._now.as_of.timestamp())
            yield as_of
        if self._now.value is not None:
            yield from _of_now(self._now)
        yield from _of_ended(self._ended.value)
        yield from _of_batches(self._batches.value)
        yield from _of_money(self._spent.value)


def _of_now(seen: Seen[Now]) -> Iterator[GaugeMetricFamily]:
    assert seen.value is not None and seen.as_of is not None
    lanes = seen.value.lanes
    due = {lane.value: sum(one.due for one in lanes if one.lane is lane) for lane in Lane}
    running = {lane.value: sum(one.running for one in lanes if one.lane is lane) for lane in Lane}
    oldest = {
        lane.value: max(
            (
                (seen.as_of - one.oldest_due_at).total_seconds()
                for one in lanes
                if one.lane is lane and one.oldest_due_at is not None
            ),
            default=0.0,
        )
        for lane in Lane
    }
    yield _labelled("board_due", "Sessions whose next turn could run now.", "lane", due)
    yield _labelled("board_running", "Turns that a worker holds.", "lane", running)
    text = "For how long the first turn of a lane has been due."
    yield _labelled("board_oldest_due_seconds", text, "lane", oldest)
    waiting: dict[str, float] = defaultdict(float)
    for group in seen.value.groups:
        waiting[group.reason] += group.turns
    text = "Turns that are not final, by the first thing that they wait for."
    yield _labelled("board_waiting", text, "reason", waiting)


def _of_ended(ended: list[Ended] | None) -> Iterator[GaugeMetricFamily]:
    for state in ("failed", "dead") if ended is not None else ():
        codes = {one.code or "none": float(one.turns) for one in ended or () if one.state == state}
        yield _labelled(f"board_{state}", f"Turns that are {state}, by code.", "code", codes)


def _of_batches(batches: Batches | None) -> Iterator[GaugeMetricFamily]:
    if batches is not None:
        states: dict[str, float] = {state.value: 0 for state in BatchState}
        states.update(batches.states)
        yield _labelled("board_batches", "Batches, by state.", "state", states)


def _of_money(spent: list[Spent] | None) -> Iterator[GaugeMetricFamily]:
    if spent is None:
        return
    cost = _family(
        "board_cost_usd",
        "US dollars of the UTC day and month so far, where known.",
        "provider",
        "model",
        "period",
    )
    sums: dict[tuple[str, str, str], float] = defaultdict(float)
    for number, one in enumerate(spent):
        names = (one.provider, one.model) if number < MOST_MODELS else (OTHER, OTHER)
        provider, model = map(_label, names)
        sums[provider, model, "today"] += float(one.today_usd)
        sums[provider, model, "month"] += float(one.month_usd)
    for labels, usd in sums.items():
        cost.add_metric(list(labels), usd)
    yield cost


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = _family(name, text, label)
    sums: dict[str, float] = defaultdict(float)
    for number, (value, figure) in enumerate(values.items()):
        sums[_label(value) if number < _MOST else OTHER] += figure
    for value, figure in sums.items():
        family.add_metric([value], figure)
    return family


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnmill_{name}", text, labels=labels)


def _label(value: str) -> str:
    return value if _LABEL.fullmatch(value) else OTHER

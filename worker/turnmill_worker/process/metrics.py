"""Metrics: what a worker counts, for Prometheus. Imported only where TURNMILL_METRICS_PORT is set.

Nothing here names a turn, a session or a user, and no label takes more values than it may: names
that come out of rows, of models and codes, are counted as `other` beyond the first ones.
"""

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from turnmill.domain.errors import StoreError
from turnmill.domain.states import FINAL, Lane
from turnmill.store.nouns.closed_long import ClosedFor
from turnmill_worker.layers.call import Call
from turnmill_worker.turn.written import Written

T = TypeVar("T")

OTHER = "other"
_MOST_MODELS = 50
_MOST_CODES = 100
_MOST_REASONS = 30
_MOST_READERS = 50
_LABEL = re.compile(r"[A-Za-z0-9_.:/@-]{1,80}")
#: Models take from a blink to many minutes.
_SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
#: However often somebody scrapes, the store is asked no more often than this.
_ASK_EVERY = timedelta(seconds=5)


class Labels:
    """The values of one label: a bounded number of them, each fit to be one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """Return the value, or `other` when it is one too many or no name."""
        if value in self._known:
            return value
        if len(self._known) >= self._most or not _LABEL.fullmatch(value):
            return OTHER
        self._known.add(value)
        return value


class _Asked(Generic[T]):
    """What the store says, for those who scrape; None while it is away."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._said: T | None = None

    def __call__(self) -> T | None:
        """Ask, unless that was done a moment ago."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _ASK_EVERY.total_seconds():
                try:
                    self._said = self._ask()
                except StoreError:
                    self._said = None
                self._asked_at = time.monotonic()
            return self._said


class Backlog(Collector):
    """How long turns have been due and not taken, asked of the store when somebody scrapes."""

    def __init__(self, longest_waits: Callable[[], Mapping[Lane, timedelta]]) -> None:
        self._asked = _Asked(longest_waits)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name what is collected, without asking the store."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask, and return what is known; a store that is away is said to be so."""
        up, oldest = self._families()
        waits = self._asked()
        up.add_metric([], waits is not None)
        for lane in Lane if waits is not None else ():
            oldest.add_metric([lane.value], (waits or {}).get(lane, timedelta(0)).total_seconds())
        yield up
        yield oldest

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("turnmill_store_up", "Whether the store answered."),
            GaugeMetricFamily(
                "turnmill_oldest_due_seconds",
                "For how long the first turn of a lane has been due and not taken.",
                labels=["lane"],
            ),
        )


class Lags(Collector):
    """How far readers of events are behind, observers among them, asked of the store, too."""

    def __init__(self, lags: Callable[[], Mapping[str, timedelta]]) -> None:
        self._asked = _Asked(lags)
        self._readers = Labels(_MOST_READERS)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name what is collected, without asking the store."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask, and return what is known; of readers that are one too many the longest."""
        family = self._family()
        longest: dict[str, float] = {}
        for name, lag in (self._asked() or {}).items():
            reader = self._readers.of(name)
            longest[reader] = max(longest.get(reader, 0.0), lag.total_seconds())
        for reader, seconds in longest.items():
            family.add_metric([reader], seconds)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "turnmill_reader_lag_seconds",
            "The age of the oldest event that a reader has not passed.",
            labels=["reader"],
        )


class ClosedAccounts(Collector):
    """For how long what no worker calls has been closed, asked of the store, too."""

    def __init__(
        self,
        closed: Callable[[], Sequence[ClosedFor]],
        named: Callable[[ClosedFor], tuple[str, str]],
    ) -> None:
        self._asked = _Asked(closed)
        self._named = named

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name what is collected, without asking the store."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask, and return what is known; of what has the same labels the longest."""
        family = self._family()
        longest: dict[tuple[str, ...], float] = {}
        for one in self._asked() or ():
            labels = (*self._named(one), one.kind, "yes" if one.permanent else "no")
            longest[labels] = max(longest.get(labels, 0.0), one.lasted.total_seconds())
        for each, seconds in longest.items():
            family.add_metric(each, seconds)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "turnmill_closed_seconds",
            "For how long what no worker calls has been closed.",
            labels=["provider", "model", "kind", "permanent"],
        )


class Metrics:
    """All metrics of one worker process, in a registry of their own."""

    def __init__(
        self,
        *,
        providers: Collection[str],
        longest_waits: Callable[[], Mapping[Lane, timedelta]],
        lags: Callable[[], Mapping[str, timedelta]],
        closed: Callable[[], Sequence[ClosedFor]],
        in_flight: Callable[[], int],
        slots: Callable[[], int],
    ) -> None:
        self.registry = CollectorRegistry()
        self._providers = frozenset(providers)
        self._models = Labels(_MOST_MODELS)
        self._codes = Labels(_MOST_CODES)
        self._reasons = Labels(_MOST_REASONS)
        self._turns = self._counter("turns", "Turns that have ended.", "provider", "model", "state")
        self._retries = self._counter(
            "retries",
            "Attempts after which a turn comes again.",
            "provider",
            "code",
        )
        self._put_off = self._counter("put_off", "Turns put off by a layer.", "waits_for")
        self._tokens = self._counter("tokens", "Tokens, where known.", "provider", "model", "kind")
        self._cost = self._counter("cost_usd", "US dollars, where known.", "provider", "model")
        self._unpriced = self._counter(
            "unpriced_replies", "Replies whose cost is not known.", "provider", "model"
        )
        self._calls = Histogram(
            "turnmill_call_seconds",
            "Calls to providers, with all layers around them.",
            ["provider", "kind", "outcome"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._gauge("in_flight", "Turns in hand.", in_flight)
        self._gauge("slots", "Turns that may be in hand at once.", slots)
        self.registry.register(Backlog(longest_waits))
        self.registry.register(Lags(lags))
        self.registry.register(ClosedAccounts(closed, self._names_of))

    def called(self, call: Call, outcome: str, _: str | None, took: timedelta) -> None:
        """Count a call. For the layer `measure`."""
        provider = self._provider(call.claim.provider)
        self._calls.labels(provider, call.kind, outcome).observe(took.total_seconds())

    def written(self, seen: Written) -> None:
        """Count a verdict."""
        provider = self._provider(seen.provider)
        if seen.state in FINAL:
            self._turns.labels(provider, self._models.of(seen.model), seen.state.value).inc()
        elif seen.error_code is not None:
            self._retries.labels(provider, self._codes.of(seen.error_code)).inc()
        if seen.waits_for is not None:
            self._put_off.labels(self._reasons.of(seen.waits_for)).inc()
        if seen.outcome in ("succeeded", "called"):
            self._used(seen, provider, self._models.of(seen.model))

    def _used(self, seen: Written, provider: str, model: str) -> None:
        counts = (
            ("input", seen.input_tokens),
            ("output", seen.output_tokens),
            ("cached", seen.cached_tokens),
        )
        for kind, count in counts:
            if count:
                self._tokens.labels(provider, model, kind).inc(count)
        if seen.cost_usd is None:
            self._unpriced.labels(provider, model).inc()
        else:
            self._cost.labels(provider, model).inc(float(seen.cost_usd))

    def _names_of(self, one: ClosedFor) -> tuple[str, str]:
        return self._provider(one.provider), one.model and self._models.of(one.model)

    def _provider(self, name: str) -> str:
        return name if name in self._providers else OTHER

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"turnmill_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, value: Callable[[], int]) -> None:
        gauge = Gauge(f"turnmill_{name}", help_text, registry=self.registry)
        gauge.set_function(lambda: float(value()))

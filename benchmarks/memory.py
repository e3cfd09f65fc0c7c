"""What each further call in flight holds of memory, over TLS and without."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from benchmarks import throughput
from benchmarks.ground import Ground
from benchmarks.systems import Point, System
from benchmarks.throughput import Throughput, Windows

#: Nothing but the memory is wanted, in the second round of calls.
_WINDOWS = Windows(count=1, seconds=1.0, settling=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Two loads of one system: what lies between them is what calls hold."""

    system: str
    tls: bool
    latency_s: float
    calls: Sequence[int]  #: at the provider, with few and with many of them
    pss_mb: Sequence[float]  #: of the worker processes then
    each_kb: float  #: for each further call

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure(
    system: System,
    loads: tuple[int, int],
    *,
    latency: timedelta,
    tls: Sequence[bool],
    ground: Ground,
    template: str,
) -> Iterator[Held]:
    """Run the system under two loads, one after the other, without TLS and with it."""
    for encrypted in tls:
        few, many = (
            throughput.measure(
                system,
                Point(in_flight=load, latency=latency, tls=encrypted),
                ground=ground,
                template=template,
                windows=_WINDOWS,
            )
            for load in loads
        )
        yield _held(few, many, tls=encrypted)


def _held(few: Throughput, many: Throughput, *, tls: bool) -> Held:
    calls = (few.calls_waiting[-1], many.calls_waiting[-1])
    further = calls[1] - calls[0]
    each = (many.pss_mb - few.pss_mb) * 1000 / further if further > 0 else float("nan")
    return Held(
        system=few.system,
        tls=tls,
        latency_s=few.latency_s,
        calls=calls,
        pss_mb=(few.pss_mb, many.pss_mb),
        each_kb=round(each, 1),
    )

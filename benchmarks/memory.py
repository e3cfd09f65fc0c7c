"""What each further call in flight holds of memory, over TLS and without."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from benchmarks import throughput
from benchmarks.ground import Ground
from benchmarks.systems import Point, System
from benchmarks.throughput import Throughput, Windows

#: Nothing but the memory is wanted, in the second round of calls. It is looked at again and again
#: for as long as that takes: calls begin and end together, and hardly one may be at the provider.
_WINDOWS = Windows(count=8, seconds=0.5, settling=0.5)


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
    (calls_few, mb_few), (calls_many, mb_many) = map(_most, (few, many))
    further = calls_many - calls_few
    each = (mb_many - mb_few) * 1000 / further if further > 0 else float("nan")
    return Held(
        system=few.system,
        tls=tls,
        latency_s=few.latency_s,
        calls=(calls_few, calls_many),
        pss_mb=(mb_few, mb_many),
        each_kb=round(each, 1),
    )


def _most(found: Throughput) -> tuple[int, float]:
    """Return how many calls were at the provider when most of them were, and the memory then."""
    return max(zip(found.calls_waiting, found.pss_mb_each, strict=True))

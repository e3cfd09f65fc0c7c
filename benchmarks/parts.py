"""What the parts of a system cost: CPU time and memory of trees of processes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import psutil  # type: ignore[import-untyped]

PARTS = ("worker", "postgres", "redis")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float], *, digits: int = 3) -> "Spread":
        figures = (median(values), min(values), max(values))
        return cls(*(round(figure, digits) for figure in figures))

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """CPU seconds spent by each part until a moment."""

    at: float  #: seconds since 1970, the clock of the database too
    cpu: Mapping[str, float]


def read(roots: Mapping[str, Iterable[int]]) -> Reading:
    """Read the clocks of the processes of each part, and of all their children."""
    cpu = {part: sum(map(_cpu_of_tree, pids)) for part, pids in roots.items()}
    return Reading(at=time.time(), cpu=cpu)


def pss_mb(pids: Iterable[int]) -> float:
    """Return the memory of the trees in MB; what processes share is divided among them."""
    total = 0
    for pid in pids:
        for process in _tree(pid):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
    return round(total / 1e6, 1)


def _cpu_of_tree(pid: int) -> float:
    total = 0.0
    for process in _tree(pid):
        try:
            # Children that have ended count with the parent that has waited for them.
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]

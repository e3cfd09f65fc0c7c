"""How tests have ended on each pool, and what the two differ in."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: From the best to the worst.
ENDINGS = ("passed", "skipped", "failed", "not run")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a test has ended, and the first line of why it failed."""

    ended: str
    why: str = ""


_NOT_RUN = Outcome("not run")
Outcomes = Mapping[str, Outcome]
#: The runs of each test on one pool: the one among all others first, then those alone.
Runs = Mapping[str, Sequence[Outcome]]


def read(record: Path) -> Outcomes:
    """Return the outcome of each collected test in the plugin's record; of several, the worst."""
    found: dict[str, Outcome] = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        test, ended, why = json.loads(line)
        before = found.get(test, _NOT_RUN)
        if before == _NOT_RUN or ENDINGS.index(ended) > ENDINGS.index(before.ended):
            found[test] = Outcome(ended, why)
    return found


def suspects(threads: Runs, ours: Runs) -> list[str]:
    """Return the tests that neither passed on both pools nor were skipped on both."""
    tests = sorted(threads.keys() | ours.keys())
    return [
        test
        for test in tests
        if (ends := {ending(threads, test), ending(ours, test)}) not in ({"passed"}, {"skipped"})
        or "not run" in ends
    ]


def ending(runs: Runs, test: str) -> str:
    """Return how a test ends on a pool, which is how the best of its runs did."""
    return min((run.ended for run in runs.get(test, ())), key=ENDINGS.index, default="not run")


def is_worse(test: str, threads: Runs, ours: Runs) -> bool:
    """Tell whether it fails on our pool each time, twice or more, and can pass on `threads`."""
    if ending(ours, test) != "failed" or ending(threads, test) != "passed":
        return False
    return [run.ended for run in ours[test]].count("failed") > 1


def lines(threads: Runs, ours: Runs) -> Iterator[str]:
    """Make the table: how many tests end how, and each one that fails somewhere, with its runs."""
    tests = sorted(threads.keys() | ours.keys())
    yield f"{'':10}{'threads':>10}{'asyncio':>10}"
    for ended in ENDINGS:
        counts = ([ending(runs, test) for test in tests].count(ended) for runs in (threads, ours))
        yield f"{ended:10}" + "".join(f"{count:>10}" for count in counts)
    for title, chosen in _groups(tests, threads, ours).items():
        yield f"\n{title}: {len(chosen)}"
        for test in chosen:
            yield f"  {test}"
            yield from (f"    {name}: {told}" for name, told in _told(test, threads, ours))


def _groups(tests: Sequence[str], threads: Runs, ours: Runs) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {
        "worse on asyncio": [],
        "different otherwise": [],
        "the same on both, not passed in each run": [],
    }
    worse, different, same = groups.values()
    for test in tests:
        if is_worse(test, threads, ours):
            worse.append(test)
        elif ending(threads, test) != ending(ours, test):
            different.append(test)
        elif any(run.ended == "failed" for runs in (threads, ours) for run in runs[test]):
            same.append(test)
    return groups


def _told(test: str, threads: Runs, ours: Runs) -> Iterator[tuple[str, str]]:
    for name, runs in (("threads", threads), ("asyncio", ours)):
        each = runs.get(test, ())
        whys = dict.fromkeys(run.why for run in each if run.why)
        yield name, "; ".join((", ".join(run.ended for run in each) or "not run", *whys))

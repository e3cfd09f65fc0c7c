"""Shows that the tests can fail: each rule of the protocol is left out once, and a test notices.

python -m tests.mutants [NAME …]
"""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field

import pytest

from tests.mutants.breaking import Mutant
from tests.mutants.table import MUTANTS


@dataclass(eq=False)
class Arena:
    """Runs each directed test; with `broken`, on the mutant that it is to kill."""

    mutants: Sequence[Mutant]
    broken: bool
    failed: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for mutant in self.mutants:
                if self.broken and mutant.killed_by == item.nodeid:
                    mutant.breaks(patch)
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test that could not even be set up has told nothing about the mutant.
        if report.when == "call":
            (self.failed if report.failed else self.passed).add(report.nodeid)

    def _options(self) -> Sequence[str]:
        # Nobody is to run again what fails here. A test that fails may leave open what it had
        # opened: that is told at the very end.
        plain = ("-q", "-p", "no:cacheprovider")
        return (*plain, "-p", "no:unraisableexception") if self.broken else plain

    def run(self) -> str:
        """Run the tests and return what pytest printed."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            pytest.main(
                [*self._options(), *(one.killed_by for one in self.mutants)], plugins=[self]
            )
        return printed.getvalue()


def main(names: Sequence[str]) -> int:
    """Print a table of mutants and what killed them; 1 when one survived."""
    mutants = {name: MUTANTS[name] for name in names or MUTANTS}
    real = Arena(list(mutants.values()), broken=False)
    printed = real.run()
    if {mutant.killed_by for mutant in mutants.values()} - real.passed:
        sys.stdout.write(f"{printed}\nthese tests do not pass on the real protocol\n")
        return 1
    broken = Arena(list(mutants.values()), broken=True)
    printed = broken.run()
    survivors = [name for name, one in mutants.items() if one.killed_by not in broken.failed]
    sys.stdout.write(table(mutants, survivors))
    if survivors:
        sys.stdout.write(printed)
    return 1 if survivors else 0


def table(mutants: Mapping[str, Mutant], survivors: Sequence[str]) -> str:
    """Return a line for each mutant, and below it the test that is to kill it."""
    lines = [
        f"{'SURVIVED' if name in survivors else 'killed':<10}{name:<28}{mutant.rule}\n"
        f"{'':<38}{mutant.killed_by}\n"
        for name, mutant in mutants.items()
    ]
    return "".join([*lines, f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed\n"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

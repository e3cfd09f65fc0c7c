"""`python -m tests.chaos --minutes 10 --seed 7`: exit code 1 if a promise was broken."""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from tests.chaos.chaos import Chaos, Plan
from tests.chaos.report import show
from tests.chaos.system import Servers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--fault-every", type=float, default=5.0, help="seconds, on average")
    parser.add_argument("--keep", type=Path, help="copy logs and the provider's ledger to here")
    chosen = parser.parse_args()
    plan = Plan(
        duration=timedelta(minutes=chosen.minutes),
        seed=chosen.seed,
        workers=chosen.workers,
        fault_every=chosen.fault_every,
        keep=chosen.keep,
    )
    with Servers.start() as servers:
        outcome = Chaos(plan, servers).run()
    show(outcome, Console(width=100))
    return 1 if outcome.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())

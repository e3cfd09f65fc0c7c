"""`python -m tests.chaos --minutes 10 --seed 7`: exit code 1 if a promise was broken."""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from tests.chaos.chaos import Chaos, Plan
from tests.chaos.every_verb import EveryVerb
from tests.chaos.report import show
from tests.chaos.system import Servers
from tests.chaos.traffic import Traffic


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--fault-every", type=float, default=5.0, help="seconds, on average")
    parser.add_argument("--keep", type=Path, help="copy logs and the provider's ledger to here")
    chosen = parser.parse_args()
    plan = Plan(
        duration=timedelta(minutes=chosen.minutes) / 2,  # of each kind of traffic
        seed=chosen.seed,
        workers=chosen.workers,
        fault_every=chosen.fault_every,
        keep=chosen.keep,
    )
    sound = True
    with Servers.start() as servers:
        for traffic in (Traffic, EveryVerb):
            outcome = Chaos(plan, servers, traffic=traffic).run()
            show(outcome, Console(width=100))
            sound = sound and not outcome.complaints()
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())

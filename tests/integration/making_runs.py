"""Makes the runs of schedules until it is killed: `python -m tests.integration.making_runs URL`."""

import sys
import time

from turnmill.store.database import Database
from turnmill_worker.process.scheduling import make_runs


def main() -> None:
    database = Database(sys.argv[1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        if not make_runs(database):
            time.sleep(0.01)


if __name__ == "__main__":
    main()

"""Where a turn's time goes: stacks of a busy worker, and the plans of the hot statements.

python -m benchmarks.profiles [--seconds 10]

Needs py-spy on PATH. Writes benchmarks/results/profile-<lane>.txt (samples by function and thread)
and benchmarks/results/plans.txt (EXPLAIN ANALYZE with 100,000 stored turns).
"""

import argparse
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import Connection, event

from benchmarks.ground import Ground, ground, queue_turns
from benchmarks.stand_in import stand_in
from benchmarks.systems import SYSTEMS, Point, running
from turnmill.domain.content import Message
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database, address_of
from turnmill.store.dialing import connect_args
from turnmill.store.line.backlogs import backlogs
from turnmill.store.line.claim import claim, claim_due
from turnmill.store.line.due import announce_due
from turnmill.store.line.settle import settle
from turnmill.store.records import Claim, Settlement, Waits

RESULTS = Path(__file__).parent / "results"
_LEASE = timedelta(minutes=5)
_WAITS = Waits(grace=timedelta(0), quiet=timedelta(seconds=1))
_MOST_LINES = 40

Statement = tuple[str, Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    with ground() as here:
        template = here.template(sessions=10_000)
        (RESULTS / "plans.txt").write_text(plans(here, template))
        for lane in ("interactive", "bulk"):
            stacks = record(here, template, lane, seconds=given.seconds)
            (RESULTS / f"profile-{lane}.txt").write_text(summary(stacks))


def record(here: Ground, template: str, lane: str, *, seconds: int) -> str:
    """Return py-spy's raw stacks of one busy worker process, `frames;…;leaf count` a line.

    Of the threads that hold the interpreter only: elsewhere waiting and working look alike.
    """
    system, latency = SYSTEMS[lane], timedelta(seconds=1)
    point = Point(in_flight=2000, latency=latency, processes=1)
    output = here.folder / f"{lane}.stacks"
    with (
        here.database(template) as url,
        stand_in(here.folder, latency=latency) as provider,
    ):
        queue_turns(url, turns=round(system.expected * (seconds + 10)), lane=system.lane)
        with running(system, point, here, database_url=url, provider=provider) as workers:
            while provider.counts().served < point.in_flight:
                time.sleep(0.2)
            options = [
                "-d",
                str(seconds),
                "-r",
                "200",
                "-f",
                "raw",
                "-t",
                "--gil",
                "-o",
                str(output),
            ]
            command = ["py-spy", "record", "-p", str(workers[0]), *options]
            subprocess.run(command, check=True, capture_output=True, timeout=seconds + 60)
    return output.read_text()


def summary(stacks: str) -> str:
    """Return the share of each thread, then functions by their own and their whole time."""
    threads: Counter[str] = Counter()
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        thread, *calls = [_short(frame) for frame in frames.split(";")]
        threads[thread] += int(count)
        own[calls[-1] if calls else thread] += int(count)
        whole.update(dict.fromkeys(calls, int(count)))
    total = sum(threads.values())
    parts = (("threads", threads), ("own time", own), ("with what it calls", whole))
    return "\n".join(line for title, counts in parts for line in _ranking(title, counts, total))


def _short(frame: str) -> str:
    frame = re.sub(r"\(.*(site-packages|lib/python[\d.]+|api_client|worker)/", "(", frame)
    return re.sub(r"thread \(0x[0-9A-F]+\)|thread \(\d+\)", "thread", frame)


def _ranking(title: str, counts: Counter[str], total: int) -> Iterator[str]:
    yield f"== {title}"
    for name, count in counts.most_common(_MOST_LINES):
        yield f"{count / total * 100:6.1f} %  {name}"


def plans(here: Ground, template: str) -> str:
    """Return the plans of claim, settle and the dispatcher's look, as the store runs them."""
    with here.database(template) as url:
        queued = [turn_id for turn_id, _ in queue_turns(url, turns=2000, lane=Lane.INTERACTIVE)]
        database = Database(url)
        try:
            with database.engine.connect() as conn, recorded(conn) as statements:
                claims = claim(conn, queued[:50], owner="plans", lease=_LEASE)
                claim_due(conn, Lane.INTERACTIVE, limit=50, owner="plans", lease=_LEASE)
                settle(conn, [_verdict(one) for one in claims])
                backlogs(conn)
                announce_due(
                    conn,
                    Lane.INTERACTIVE,
                    providers=["openai"],
                    limit=1000,
                    hints=100,
                    waits=_WAITS,
                    drained=_WAITS,
                    among=4000,
                )
                conn.rollback()
        finally:
            database.close()
        return "\n\n".join(_explained(url, statements))


@contextmanager
def recorded(conn: Connection) -> Iterator[list[Statement]]:
    """Collect what is sent to the server."""
    statements: list[Statement] = []

    def note(_c: object, _cursor: object, statement: str, given: Any, *_: object) -> None:
        statements.append((statement, given))

    event.listen(conn, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(conn, "before_cursor_execute", note)


def _explained(url: str, statements: Sequence[Statement]) -> Iterator[str]:
    """Run the statements again in one transaction, each under EXPLAIN; nothing is kept."""
    address = address_of(url)
    assert address is not None
    with psycopg.connect(url, options=str(connect_args(address)["options"])) as conn:
        for statement, given in statements:
            rows = conn.execute(
                b"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) " + statement.encode(), given
            ).fetchall()
            yield statement.strip() + "\n\n" + "\n".join(row[0] for row in rows)
        conn.rollback()


def _verdict(one: Claim) -> Settlement:
    return Settlement(
        turn_id=one.turn_id,
        session_id=one.session_id,
        fence=one.fence,
        state=TurnState.SUCCEEDED,
        outcome="succeeded",
        replies=(Message.of("assistant", "Certainly."),),
    )


def _ids(claims: Sequence[Claim]) -> list[str]:
    return [str(uuid4()) for _ in claims]


if __name__ == "__main__":
    main()

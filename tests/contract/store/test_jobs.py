"""Jobs of the schedule as the store remembers them."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from turnmill.store.database import Database
from turnmill.store.schema.house_tables import job_runs
from turnmill.store.upkeep import jobs
from turnmill.store.upkeep.jobs import FailingJob

FIRST = datetime(2030, 1, 1, tzinfo=UTC)
SLOTS = [FIRST + n * timedelta(minutes=5) for n in range(4)]


def run(store: Database, slot: datetime, outcome: str, *, name: str = "tidy") -> None:
    with store.begin() as conn:
        assert jobs.take_slot(conn, name, slot)
        if outcome == "ok":
            jobs.finish_slot(conn, name, slot, result={"done": 1})
        elif outcome == "lost":
            long_ago = datetime.now(UTC) - timedelta(hours=1)
            conn.execute(
                update(job_runs).where(job_runs.c.slot == slot).values(started_at=long_ago)
            )
        elif outcome != "running":
            jobs.fail_slot(conn, name, slot, error_code=outcome)


@pytest.mark.parametrize(
    ("outcomes", "named"),
    [
        (["ok", "boom"], None),
        (["boom"], None),
        (["boom", "ok"], None),
        (["ok", "boom", "store_error"], "store_error"),
        (["boom", "boom", "running"], "boom"),
        (["ok", "boom", "running"], None),
        (["lost", "lost"], "worker_lost"),
    ],
)
def test_a_job_that_failed_in_its_last_two_slots_is_named_with_its_last_error(
    store: Database, outcomes: list[str], named: str | None
) -> None:
    for slot, outcome in zip(SLOTS, outcomes, strict=False):
        run(store, slot, outcome)
    run(store, FIRST, "ok", name="another")
    with store.begin() as conn:
        found = jobs.failing_jobs(conn)
    over = [slot for slot, one in zip(SLOTS, outcomes, strict=False) if one != "running"]
    assert found == (
        [] if named is None else [FailingJob(name="tidy", slot=over[-1], error_code=named)]
    )


def test_slots_of_a_clock_that_was_wrong_hold_up_no_job_once_it_is_right(store: Database) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    ahead = [now + timedelta(days=3), now + timedelta(days=3, minutes=5)]
    minute = timedelta(minutes=1)
    with store.begin() as conn:
        for name in ("tidy", "another"):
            for slot in ahead:
                assert jobs.take_slot(conn, name, slot)
                assert not jobs.take_slot(conn, name, slot)  # of that clock, too, each runs once
        assert not jobs.take_slot(conn, "tidy", ahead[0] - minute)
        assert jobs.take_slot(conn, "tidy", now)
        assert not jobs.take_slot(conn, "tidy", now)
        assert not jobs.take_slot(conn, "tidy", now - minute)
        assert jobs.take_slot(conn, "tidy", now + minute)
        kept = conn.execute(select(job_runs.c.name, job_runs.c.slot).order_by("name", "slot"))
        assert [tuple(row) for row in kept] == [
            *(("another", slot) for slot in ahead),
            ("tidy", now),
            ("tidy", now + minute),
        ]

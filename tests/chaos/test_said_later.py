"""A vendor says later, in the middle of many turns: all workers hear it, and are back in time."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.load import unfinished
from tests.chaos.system import Servers, System, until
from tests.doubles.rationed import RationedVendor

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLENTY = 10**8  #: requests a minute
TURNS = 2_000
LATER = 20.0
#: Seconds after which the first call comes, once it may.
AT_ONCE = 0.5


@pytest.fixture
def vendor(request: pytest.FixtureRequest) -> Iterator[RationedVendor]:
    latency = timedelta(seconds=request.param)
    vendor = RationedVendor(per_minute=PLENTY, left=PLENTY, latency=latency)
    yield vendor
    vendor.stop()


@pytest.fixture
def system(servers: Servers, vendor: RationedVendor) -> Iterator[System]:
    with System(servers, lease=timedelta(seconds=12), environment=vendor.environment) as system:
        yield system
        assert Books.of(system).violations == []


@pytest.mark.parametrize("vendor", [2.0, 0.5], indirect=True, ids=["slow", "quick"])
def test_after_one_later_all_workers_make_as_many_calls_as_were_under_way_and_one(
    system: System, vendor: RationedVendor
) -> None:
    double = vendor.double
    with system.client() as client:
        system.await_ready(*(system.launch_worker() for _ in range(4)))
        made = [
            client.sessions.create(user_id=f"u{n % 50}", provider="openai", model="gpt-5-mini").id
            for n in range(500)
        ]
        client.send_many([(made[n % len(made)], "Hello") for n in range(TURNS)])
        until(lambda: len(double.began) > TURNS / 5)
        in_flight = vendor.say_later(LATER)
        before = len(double.began)
        until(lambda: unfinished(system) == 0, within=timedelta(minutes=3))
    late = [at for at in double.began if at > double.closed_until]
    further, after = len(double.began) - before - len(late), late[0] - double.closed_until
    logger.info("%d in flight, %d further calls, %.3f s after", in_flight, further, after)
    assert 0 < further <= in_flight + 1
    assert after < AT_ONCE
    attempts = (
        "SELECT count(*), count(*) FILTER (WHERE outcome = 'succeeded') FROM turnmill.attempts"
    )
    [(all_of_them, answered)] = system.rows(attempts)
    assert answered == TURNS
    assert all_of_them == TURNS + further  # none was spent on waiting

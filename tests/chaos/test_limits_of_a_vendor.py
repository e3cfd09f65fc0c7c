"""What a vendor says of its limits, or does not say at all, as two workers hear it."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.hearing import send_until_all_put_off
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.rationed import RationedDouble, RationedVendor
from turnmill import Client, TurnState
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
PER_MINUTE = 600
MODEL = "gpt-5-mini"
HANGS = 30  #: seconds after which one that tries has told nothing, and the next one may

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def vendor() -> Iterator[RationedVendor]:
    vendor = RationedVendor(per_minute=PER_MINUTE, left=PER_MINUTE)
    yield vendor
    vendor.stop()


@pytest.fixture(scope="module")
def system(servers: Servers, vendor: RationedVendor) -> Iterator[System]:
    with System(servers, environment=vendor.environment) as system:
        system.await_ready(*(system.launch_worker() for _ in range(2)))
        yield system
        assert Books.of(system).violations == []


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with system.client() as client:
        yield client


@pytest.fixture
def double(vendor: RationedVendor) -> RationedDouble:
    vendor.double.allow(PER_MINUTE)
    vendor.double.always = ""
    return vendor.double


def send(client: Client, *, provider: str = "openai", timeout: float = 60) -> Turn:
    session = client.sessions.create(
        user_id="ada", provider=provider, model=MODEL, settings={"timeout": timeout}
    )
    return client.send(session, "Hello")


def heard_by_both(client: Client, double: RationedDouble) -> None:
    """Have the vendor answer until each worker knows what it allows."""
    until(
        lambda: (
            len({turn_worker(send(client)) for _ in range(4)}) == 2
            and any(one.learned for one in client.limits.list())
        )
    )


def turn_worker(turn: Turn) -> str:
    (attempt,) = turn.result(timeout=WAIT).attempts
    return attempt.worker


def test_what_a_vendor_allows_is_kept_to_by_all_workers_and_spends_no_attempt(
    client: Client, double: RationedDouble
) -> None:
    double.allow(PER_MINUTE / 4)  # less than half is left: from now on calls are paced
    heard_by_both(client, double)
    (limit,) = client.limits.list()
    assert (limit.requests_per_minute, limit.model, limit.learned) == (PER_MINUTE, MODEL, True)
    double.allow(PER_MINUTE / 30)
    turns = [send(client) for _ in range(100)]
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
    took = double.began[-1] - double.began[0]
    assert double.refused == []
    assert 7 < took < 30  # ten a second, but for the few that were left


def test_where_nothing_is_left_nobody_calls_until_the_vendor_says(
    client: Client, double: RationedDouble
) -> None:
    double.allow(PER_MINUTE / 4)
    heard_by_both(client, double)
    double.allow(1.0)
    double.full_in = 6.0
    send(client).result(timeout=WAIT)
    said_at = double.began[-1]
    for one in [send(client) for _ in range(20)]:
        one.result(timeout=WAIT)
    # What was under way when it was said, or given ahead for that second, is let through.
    assert [at - said_at for at in double.began if 3.0 < at - said_at < 5.5] == []
    assert [at - said_at for at in double.refused if at - said_at > 3.0] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_that_hangs_is_left_alone_by_all_and_asked_again_by_one(
    client: Client, double: RationedDouble
) -> None:
    double.always = "hang"
    hanging = [send(client, timeout=250) for _ in range(20)]
    until(client.accounts.list, within=timedelta(seconds=75))
    (closed,) = client.accounts.list()
    assert (closed.kind, closed.code, closed.model) == ("breaker", "hangs", MODEL)
    heard = send_until_all_put_off(lambda: send(client), waits_for="breaker")
    asked, since = len(double.began), time.monotonic()
    waiting = [send(client) for _ in range(10)]
    until(lambda: any(one.why().reasons[0].cause == "breaker" for one in waiting))
    others = [send(client, provider="mock") for _ in range(20)]
    for one in others:
        assert one.result(timeout=WAIT).timing.queued < timedelta(seconds=15)
    tried = len(double.began) - asked
    assert tried <= 1 + (time.monotonic() - since) // HANGS  # by one at a time
    double.always = ""
    ended = [one.result(timeout=2 * WAIT) for one in waiting]
    assert sum([each.n for each in one.attempts] != [1] for one in ended) <= tried
    for one in heard:
        one.cancel(wait=True)
    for one in hanging:
        one.cancel(wait=True)
        assert one.state is TurnState.CANCELLED
    assert client.accounts.list() == []

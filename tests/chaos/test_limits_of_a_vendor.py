"""What a vendor says of its limits, or does not say at all, as two workers hear it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.rationed import RationedDouble, RationedVendor
from turnmill import Client, TurnState
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
PER_MINUTE = 600
MODEL = "gpt-5-mini"

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
    assert double.refused == 0
    assert 7 < took < 16  # ten a second, but for the few that were left


def test_where_nothing_is_left_nobody_calls_until_the_vendor_says(
    client: Client, double: RationedDouble
) -> None:
    double.allow(PER_MINUTE / 4)
    heard_by_both(client, double)
    double.allow(1.0)
    double.full_in = 4.0
    send(client).result(timeout=WAIT)
    said_at = double.began[-1]
    for one in [send(client) for _ in range(20)]:
        one.result(timeout=WAIT)
    # What was under way when it was said, or given ahead for that second, is let through.
    assert [at - said_at for at in double.began if 1.5 < at - said_at < 3.5] == []
    assert double.refused <= 4


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_model_that_hangs_is_left_alone_by_all_and_asked_again_by_one(
    client: Client, double: RationedDouble
) -> None:
    double.always = "hang"
    hanging = [send(client, timeout=150) for _ in range(20)]
    until(client.accounts.list, within=timedelta(seconds=45))
    (closed,) = client.accounts.list()
    assert (closed.kind, closed.code, closed.model) == ("breaker", "hangs", MODEL)
    asked = len(double.began)
    waiting = [send(client) for _ in range(10)]
    until(lambda: all(one.refresh().record.waits_for == "breaker" for one in waiting))
    assert waiting[0].why().reasons[0].cause == "breaker"
    others = [send(client, provider="mock") for _ in range(20)]
    for one in others:
        assert one.result(timeout=WAIT).timing.queued < timedelta(seconds=5)
    assert len(double.began) <= asked + 1  # one has tried it
    double.always = ""
    for one in waiting:
        assert [each.n for each in one.result(timeout=60).attempts] == [1]
    for one in hanging:
        one.cancel(wait=True)
        assert one.state is TurnState.CANCELLED
    assert client.accounts.list() == []

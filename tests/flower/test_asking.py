"""Flower as `up` and compose start it, a viewer alone: what it asks for, workers do."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.conftest import fresh_database
from tests.flower.seeds import dead_letters, ran, run
from tests.flower.stage import Visitor, flower, viewer_of, worker
from turnmill import Client
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns.wishes import grant_one
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

SOON = timedelta(seconds=60)
RETRY = "/turnmill/act?verb=retry&state=dead"


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    with fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def asker(
    database_url: str,
    postgres_server: EmbeddedPostgres,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
) -> Iterator[Visitor]:
    viewer = viewer_of(database_url, postgres_server.url_of("postgres"))
    broker = valkey_server.url
    with flower(viewer_url=viewer, broker_url=broker, log=tmp_path / "flower") as visitor:
        yield visitor


def begun(visitor: Visitor, path: str) -> str:
    """Do what the preview shows, and return where it is told how far that is."""
    location = visitor.act(path).headers["Location"]
    return "/turnmill/api/acts/" + location.rpartition("/")[2]


def is_over(visitor: Visitor, act: str) -> bool:
    return bool(visitor.json(act)["over"])


def test_what_is_asked_for_is_done_by_several_workers_once_and_in_order(
    asker: Visitor, database_url: str, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    with Client(database_url=database_url, broker_url=valkey_server.url) as client:
        sessions = dead_letters(client, database_url, sessions=20, each=10)
        later = datetime.now(UTC) + timedelta(hours=1)
        cancelled = client.send(client.sessions.create(user_id="ada"), "x", deliver_at=later)
        with (
            worker(database_url, valkey_server.url, tmp_path / "one"),
            worker(database_url, valkey_server.url, tmp_path / "two"),
        ):
            form = asker.form(RETRY)
            with ThreadPoolExecutor(2) as clicks:
                one, other = clicks.map(lambda _: asker.send("/turnmill/act", form), range(2))
            assert one.headers["Location"] == other.headers["Location"]
            act = "/turnmill/api/acts/" + one.headers["Location"].rpartition("/")[2]
            assert wait_until(lambda: is_over(asker, act), timeout=SOON)
            told = asker.json(act)
            assert (told["total"], told["done"], told["refused"]) == (200, 200, {})
            assert "Noted 200: workers see to them" in asker.get(one.headers["Location"]).words
            asker.act(f"/turnmill/act?verb=cancel&turn={cancelled.id}")
            wanted = {session: [f"line {n}" for n in range(10)] for session in sessions}
            assert wait_until(lambda: ran(database_url, sessions) == wanted, timeout=SOON)
            assert wait_until(lambda: cancelled.refresh().state == "cancelled", timeout=SOON)
            assert "Retry 0 turns" in asker.fresh(RETRY).words
    assert asker.get("/turnmill/act?verb=pause&kind=lane&name=bulk").status == 403
    # Nobody is offered what is refused: it takes a login that Flower was not given.
    for page in ("/turnmill", f"/turnmill/session/{sessions[0]}"):
        assert "Pause" not in asker.fresh(page).words


def test_more_than_is_noted_at_once_is_asked_for_as_workers_see_to_it(
    asker: Visitor, database_url: str
) -> None:
    with Client(database_url=database_url) as client:
        sessions = dead_letters(client, database_url, sessions=110, each=10)
    act = begun(asker, RETRY)
    noted = "SELECT count(*) FROM turnmill.wishes"
    assert wait_until(lambda: run(database_url, noted) == [(1000,)], timeout=SOON)
    assert not is_over(asker, act)  # nobody sees to it yet
    store = Database(database_url)
    while sees_to_one(store) or not is_over(asker, act):
        pass
    store.close()
    told = asker.json(act)
    assert (told["total"], told["done"], told["passed"]) == (1100, 1100, 0)
    lines: dict[UUID, list[str]] = {}
    for session, said in run(
        database_url,
        "SELECT t.session_id, m.content -> 0 ->> 'text' FROM turnmill.turns t"
        " JOIN turnmill.messages m ON m.turn_id = t.id WHERE t.state = 'queued' ORDER BY t.seq",
    ):
        lines.setdefault(session, []).append(said)
    assert lines == {session: [f"line {n}" for n in range(10)] for session in sessions}


def sees_to_one(store: Database) -> bool:
    """Do as a dispatcher does with one thing that was asked for; False where nothing is."""
    with store.begin() as conn:
        return grant_one(conn, new_id=TurnId(new_id())) is not None


def test_a_session_with_a_fallback_does_not_wait_for_an_account_that_is_closed(
    asker: Visitor, database_url: str
) -> None:
    run(
        database_url,
        "INSERT INTO turnmill.accounts (id, kind, provider, account, model, code, closed_at,"
        " closed_until) VALUES (gen_random_uuid(), 'account', 'openai', 'a1b2', '',"
        " 'insufficient_quota', now(), now() + interval '2 hours')",
    )
    with Client(database_url=database_url) as client:
        alone, helped = (
            client.send(
                client.sessions.create(user_id="ada", provider="openai", fallback=others), "x"
            )
            for others in (None, ["mock/mock"])
        )
        told = {turn: turn.why().reasons[0].cause for turn in (alone, helped)}
    assert told[alone] == "account" != told[helped]
    closed = "insufficient_quota"
    assert closed in asker.fresh(f"/turnmill/turn/{alone.id}").words
    assert closed not in asker.fresh(f"/turnmill/turn/{helped.id}").words

"""Whatever callers hand in: a typed error with nothing written, or it stands and comes back."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests import rows, steps
from tests.integration.hostile_kinds import ENDLESS, FAILING
from tests.integration.odd_analytics import OF_ANALYTICS
from tests.integration.odd_feedback import OF_FEEDBACK
from tests.integration.odd_inputs import VERBS as OF_ONE
from tests.integration.odd_inputs import Place, as_stored
from tests.integration.odd_others import OF_OTHERS, not_tried
from tests.integration.odd_people import OF_PEOPLE
from tests.integration.odd_values import KNOWN, VALUES
from turnmill import Client, Settings, TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.schema.revision import create_all
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.odd_rows import odd_rows

#: TURNMILL_PROPERTY_EXAMPLES=50000 looks longer, and elsewhere each time.
_ASKED = int(os.environ.get("TURNMILL_PROPERTY_EXAMPLES", "0"))
_EXAMPLES = _ASKED or 400

VERBS = {**OF_ONE, **OF_PEOPLE, **OF_FEEDBACK, **OF_ANALYTICS, **OF_OTHERS}

#: Of which callers' inputs make rows.
_TABLES = (
    "sessions",
    "turns",
    "messages WHERE role = 'user'",
    "batches",
    "pauses",
    "notes",
    "feedback",
)


@pytest.fixture(params=["postgres", "memory"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    url = request.getfixturevalue("database_url") if request.param == "postgres" else "sqlite://"
    settings = Settings(database_url=url, files_url=str(tmp_path / "files"))
    with Client(settings=settings) as client:
        if request.param == "memory":
            with client._executor.database.begin() as conn:
                create_all(conn)
        yield client


@pytest.fixture
def place(client: Client, tmp_path: Path) -> Place:
    store = client._executor.database
    answered = rows.send(store, rows.start(store, user_id="bob"), "of somebody else")
    rows.run(store, answered)
    session = client.sessions.create(user_id="eve", key="eve:1")
    client.sessions.pause(session)
    client.lanes.pause(lane="bulk")  # batches make sessions that would run
    file = tmp_path / "batch.jsonl"
    file.write_text('{"user_id": "eve", "text": "x"}')
    return Place(client, session.id, answered, file)


@pytest.fixture
def still_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place where nobody runs, feeds or deletes what other values have left to be done."""
    monkeypatch.setattr(place.client._executor.announcer, "announce", lambda heads: None)
    return place


def written(store: Database) -> list[int]:
    with store.begin() as conn:
        place = "turnmill." if store.is_postgres else ""
        counts = (f"(SELECT count(*) FROM {place}{table})" for table in _TABLES)
        return [*conn.execute(text(f"SELECT {', '.join(counts)}")).one()]


# The thread that runs turns in this process draws its pauses meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.timeout(0 if _ASKED else 120)
def test_a_value_is_refused_with_nothing_written_or_comes_back_equal(place: Place) -> None:
    store = place.client._executor.database
    of_somebody_else = everything_of(store, place.final)

    @settings(
        max_examples=_EXAMPLES,
        derandomize=not _ASKED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(name=st.sampled_from(sorted(VERBS)), value=VALUES)
    def look(name: str, value: Any) -> None:
        try_one(place, name, value)

    look()
    assert everything_of(store, place.final) == of_somebody_else
    everything_works(place.client)


def test_there_is_no_verb_whose_arguments_are_tried_with_nothing() -> None:
    assert not_tried() == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_argument_withstands_every_value_that_broke_something(still_place: Place) -> None:
    for name in sorted(VERBS):
        for value in KNOWN:
            try_one(still_place, name, value)
    everything_works(still_place.client)


@pytest.mark.long
def test_no_argument_trusts_a_kind_of_the_callers_own(still_place: Place) -> None:
    for name in sorted(VERBS):
        for value in (*FAILING, *ENDLESS):
            try_one(still_place, name, value)
    everything_works(still_place.client)


def try_one(place: Place, name: str, value: Any) -> None:
    verb, store = VERBS[name], place.client._executor.database
    before = written(store)
    try:
        made = verb.call(place, value)
    except TurnmillError:
        assert written(store) == before, "half-written"
        return
    if verb.shows is not None and value is not None:
        assert verb.shows(place, made) == as_stored(value)


def everything_of(store: Database, turn: TurnId) -> Any:
    return steps.turn(store, turn), steps.outcomes(store, turn)


def everything_works(client: Client) -> None:
    """List everything, and do the jobs of the schedule."""
    assert client.sessions.list(limit=10_000)
    assert client.turns.list(limit=10_000)
    client.batches.list(limit=10_000)  # whether there are any depends on what was tried
    for session in client.sessions.list(limit=200):
        list(client.sessions.history(session))
    for batch in client.batches.list(limit=20):
        list(batch.iter_results())
    client.lanes.loads()
    with client._executor.database.begin() as conn:
        assert odd_rows(conn) == []
        upkeep.archive_idle(conn, default_ttl=None)
        usage.roll_up(conn)
    steps.assert_sound(client._executor.database)

"""What users said in batches at vendors: encrypted here from end to end, and named by deletions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.keyed import rows_as_they_lie
from tests.native import shard_states, states, submit
from tests.native_at_openai import double as double
from tests.native_at_openai import polled
from turnmill import Client, Settings
from turnmill.crypto.keyring import new_key
from turnmill.domain.batches import NOT_DELETED
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.upkeep.invariants import violations

pytestmark = pytest.mark.anyio

#: What `submit` lets users say, and the vendor answer.
SAID, ANSWERED = "say 0 of 0", "echo: say 0 of 0"
#: What its vendor is told of whoever asks, in settings.
ASKS = "CANARY-of-settings"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        encryption_keys=new_key("1"),
        key_store=str(tmp_path / "keys"),
        encrypt_settings=True,
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    found = Database(settings.database_url, keys=keys_for(settings))
    yield found
    found.close()


def submitted(settings: Settings, n: int = 6, **given: Any) -> BatchId:
    return submit(settings.database_url, n, provider="openai", client_settings=settings, **given)


async def test_an_encrypted_batch_goes_to_its_vendor_and_back_and_lies_sealed_throughout(
    settings: Settings, database: Database, double: Any
) -> None:
    plain = Database(settings.database_url)
    given = {"provider": "openai", "client_settings": settings, "settings": {"user": ASKS}}
    batch = submit(settings.database_url, 6, turns_each=2, **given)  # type: ignore[arg-type]
    assert SAID not in rows_as_they_lie(plain)
    assert ASKS not in rows_as_they_lie(plain)
    double.desk.takes = 3600.0
    told = set()
    for _ in range(3):
        await polled(database, double, 0.3)
        told |= {line.body["user"] for one in double.desk.batches.values() for line in one.lines}
        assert SAID not in rows_as_they_lie(plain)
    double.desk.takes = 0.0
    await polled(database, double)
    assert states(database, batch) == {"succeeded": 12}
    assert set(double.desk.paid.values()) == {1}
    assert double.desk.heard == [{1}, {3}]  # the vendor was told what was said, and what before
    assert told == {ASKS}
    lies = rows_as_they_lie(plain)
    assert [word for word in (SAID, ANSWERED, ASKS) if word in lies] == []
    plain.close()
    with Client(settings=settings) as client:
        results = client.batches.get(batch).iter_results()
        assert {one.text for one in results} == {f"echo: say {n} of 1" for n in range(6)}
    with database.single() as conn:
        assert violations(conn) == []


async def test_replies_are_held_to_a_form_that_is_sealed(
    settings: Settings, database: Database, double: Any
) -> None:
    form = {"settings": {"response_format": {"type": "object"}}}
    given = {"provider": "openai", "client_settings": settings, **form}
    batch = submit(settings.database_url, 6, **given)  # type: ignore[arg-type]
    await polled(database, double)
    assert states(database, batch) == {"failed": 6}
    assert set(double.desk.paid.values()) == {1}


async def test_a_poller_without_keys_loses_nothing_and_one_with_them_goes_on(
    settings: Settings, database: Database, double: Any
) -> None:
    batch = submitted(settings, 2)
    keyless = Database(settings.database_url)
    await polled(keyless, double, 0.5)
    keyless.close()
    assert not {"failed", "dead", "succeeded"} & set(states(database, batch))
    await polled(database, double)
    assert states(database, batch) == {"succeeded": 2}


async def test_a_deletion_says_that_a_vendor_has_a_line_and_is_done_when_it_has_none(
    settings: Settings, database: Database, double: Any
) -> None:
    double.desk.takes = 3600.0
    batch = submitted(settings, 3)
    await polled(database, double, 0.5)
    with Client(settings=settings) as client:
        turn = client.turns.list(batch=client.batches.get(batch), user_id="user-0")[0]
        deletion = client.sessions.delete(turn.session_id)
        erasure = client.users.erase("user-1")
        for report in (deletion, erasure):
            (pending,) = [one for one in report.pending if one.what == "batch_shards"]
            assert (pending.count, pending.provider) == (1, "openai")
            assert pending.due_at is not None
            assert not report.done
        double.desk.takes = 0.0
        await polled(database, double)
        assert client.sessions.deletion(turn.session_id).done
        assert not [one for one in client.users.erasure("user-1").pending if one.provider]
    assert not double.inputs
    assert not double.outputs


async def test_what_a_vendor_does_not_delete_is_said_to_stay_there(
    settings: Settings, database: Database, double: Any
) -> None:
    double.desk.takes = 3600.0
    batch = submitted(settings, 3)
    await polled(database, double, 0.5)
    with Client(settings=settings) as client:
        turn = client.turns.list(batch=client.batches.get(batch), user_id="user-0")[0]
        client.sessions.delete(turn.session_id)
        with database.begin() as conn:
            conn.execute(update(batch_shards).values(state="taken", tries=20))
        double.desk.takes = 0.0
        await polled(database, double)
        assert [one[2] for one in shard_states(database, batch)] == [NOT_DELETED]
        (stays,) = client.sessions.deletion(turn.session_id).impossible
        assert (stays.what, stays.provider) == ("batch_shards", "openai")
        assert stays.ref


async def test_a_session_of_no_batch_names_none(settings: Settings) -> None:
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        assert client.sessions.delete(session).done

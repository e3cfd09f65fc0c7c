"""The audit log, as clients and commands write it: who did what to whose data."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import rows, stepping, steps
from tests.acceptance.terminal import Terminal
from turnmill import AsyncClient, AuditEntry, Client, InvalidInput, Settings
from turnmill.domain.auditing import Action
from turnmill.domain.idle import Retention
from turnmill.domain.ids import TurnId
from turnmill.domain.states import ToolCallState, TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Reads
from turnmill.store.board.acts import Meant, Verb
from turnmill.store.database import Database
from turnmill.store.nouns.wishes import grant_one
from turnmill.verbs import auditing
from turnmill_worker.flower.deeds import Brake, Deeds
from turnmill_worker.upkeep.jobs import Upkeep


@pytest.fixture
def terminal(tmp_path: Path, database_url: str) -> Terminal:
    named = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_ACTOR": "eve"}
    return Terminal(tmp_path, named | {"TURNMILL_FILES_URL": str(tmp_path / "files")})


def answered(url: str, user: str = "ada") -> TurnId:
    store = Database(url)
    turn = steps.send(store, rows.start(store, user_id=user))
    steps.answer(store, turn.turn_id)
    store.close()
    return turn.turn_id


def written(url: str, **filters: Any) -> list[AuditEntry]:
    with Client(database_url=url) as client:
        return client.audit.list(**filters)


def reading(url: str, reads: Reads) -> Client:
    return Client(settings=Settings(database_url=url, audit_reads=reads, actor="app"))


READS: dict[str, Callable[[Client, TurnId], object]] = {
    "reply": lambda c, t: c.turns.get(t).result(timeout=5),
    "messages": lambda c, t: c.turns.get(t).messages(),
    "stream": lambda c, t: list(c.turns.get(t).stream()),
    "tool calls": lambda c, t: c.turns.get(t).tool_calls(),
    "history": lambda c, t: list(c.sessions.history(c.turns.get(t).session_id)),
    "schedules": lambda c, t: c.schedules.list(session=c.turns.get(t).session_id),
    "file": lambda c, t: list(c.attachments.open(c.attachments.list(user_id="ada")[0])),
}


@pytest.mark.parametrize("what", READS)
def test_what_a_client_reads_is_written_down_where_that_is_asked_for(
    what: str, database_url: str, tmp_path: Path
) -> None:
    store = Database(database_url)
    session = rows.start(store, user_id="ada")
    turn = steps.send(store, session).turn_id
    claim = steps.take_one(store, turn)
    stepping.wait(store, stepping.call(store, claim, stepping.new_call(state=ToolCallState.CALLER)))
    with Client(database_url=database_url) as client:
        client.turns.get(turn).submit_tool_outputs({"call_0": "sunny"})
        client.schedules.create(session, "hi", cron="@daily")
    steps.answer(store, turn)
    store.close()
    files = str(tmp_path / "files")
    with Client(settings=Settings(database_url=database_url, files_url=files)) as client:
        client.attachments.put(b"words", user_id="ada")
        READS[what](client, turn)
    assert written(database_url, action="content.read") == []

    settings = Settings(
        database_url=database_url, files_url=files, audit_reads=Reads.ALL, actor="app"
    )
    with Client(settings=settings) as client:
        READS[what](client, turn)
    found = written(database_url, action="content.read")
    assert {(one.actor, one.user_id) for one in found} == {("app", "ada")}
    assert len(found) == 1
    assert "Hello" not in str(found) and "sunny" not in str(found)


def test_who_waits_for_a_reply_reads_it_once(database_url: str) -> None:
    turn = answered(database_url)

    async def read() -> None:
        settings = Settings(database_url=database_url, audit_reads=Reads.ALL)
        async with AsyncClient(settings=settings) as client:
            handle = await client.turns.get(turn)
            assert (await handle.result(timeout=5)).text

    asyncio.run(read())
    (one,) = written(database_url)
    assert one.objects == {"turn": str(turn)}
    assert one.figures == {"what": "reply"}
    assert one.actor.startswith("os:")


def test_what_cannot_be_written_down_is_not_read(database_url: str) -> None:
    turn = answered(database_url)
    store = Database(database_url)
    with store.begin() as conn:
        conn.exec_driver_sql(
            "ALTER TABLE turnmill.audit_log ADD CONSTRAINT no CHECK (action = '') NOT VALID"
        )
    store.close()
    with reading(database_url, Reads.ALL) as client, pytest.raises(Exception, match="no"):
        client.turns.get(turn).result(timeout=5)


def test_commands_that_show_content_write_that_down_and_others_do_not(
    terminal: Terminal, database_url: str
) -> None:
    turn = answered(database_url)
    for shows_none in ("turns ls", f"turns show {turn}", "sessions ls"):
        assert terminal.run(*shows_none.split()).code == 0
    assert written(database_url) == []
    assert "answer to" in terminal.run("turns", "show", str(turn), "--text").out
    entries = written(database_url)
    assert entries
    assert {(one.actor, one.action, one.user_id) for one in entries} == {
        ("eve", "content.read", "ada")
    }
    silent = Terminal(terminal.folder, {**terminal.environment, "TURNMILL_AUDIT_READS": "off"})
    assert "answer to" in silent.run("turns", "show", str(turn), "--text").out
    assert written(database_url) == entries


def test_the_log_is_listed_verified_and_exported_by_hand(
    terminal: Terminal, database_url: str
) -> None:
    for user in ("ada", "bob"):
        terminal.run("budget", "set", "--limit-usd", "5", "--user", user)
    terminal.run("budget", "rm", "--user", "bob")
    terminal.run("limits", "set", "openai", "--requests", "600", "--force")
    listed = terminal.run("audit", "ls", "--json").lines()
    assert [(one["actor"], one["action"], one["user_id"]) for one in listed] == [
        ("eve", "limit.set", None),
        ("eve", "budget.removed", "bob"),
        ("eve", "budget.set", "bob"),
        ("eve", "budget.set", "ada"),
    ]
    assert listed[0]["figures"] == {"requests_per_minute": 600}
    assert listed[3]["figures"]["limit_usd"] == "5"
    table = terminal.run("audit", "ls", "--user", "ada", "--action", "budget.set")
    assert table.out.count("budget.set") == 1
    assert "more: --after" in terminal.run("audit", "ls", "--limit", "1").err
    head = terminal.run("audit", "checkpoint").out.strip()
    assert terminal.run("audit", "verify", "--checkpoint", head).code == 0
    other = f"{head.partition(':')[0]}:{'0' * 64}"
    assert terminal.run("audit", "verify", "--checkpoint", other).code == 1
    assert terminal.run("audit", "verify", "--checkpoint", "nonsense").code == 1

    store = Database(database_url)
    with store.begin() as conn:
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        conn.exec_driver_sql("UPDATE turnmill.audit_log SET actor = 'bob' WHERE subject IS NULL")
    store.close()
    checked = terminal.run("audit", "verify")
    assert checked.code == 1
    assert "edited" in checked.err
    assert terminal.run("audit", "verify", "--json").json()["ok"] is False


def test_an_action_or_a_checkpoint_that_is_none_is_refused() -> None:
    with Client(database_url="sqlite://") as client:
        with pytest.raises(InvalidInput, match="action"):
            client.audit.list(action="nothing")
        for wrong in ("", "1", "x:y", 7, "1:" + "g" * 64):
            with pytest.raises(InvalidInput, match="checkpoint"):
                client.audit.verify(wrong)  # type: ignore[arg-type]
        assert client.audit.checkpoint() is None
        client.budgets.set(limit_usd=1)
        head = client.audit.checkpoint()
        assert head is not None
        assert client.audit.verify(head).ok
        assert client.audit.verify(str(head)).head == head


def failed(store: Database) -> TurnId:
    turn = steps.send(store, rows.start(store, user_id="ada")).turn_id
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="x")
    return turn


def test_what_flower_is_asked_for_is_written_down_with_its_login(database_url: str) -> None:
    store = Database(database_url)
    turn, queued = failed(store), steps.send(store, rows.start(store, user_id="bob")).turn_id
    session = steps.turn(store, queued).session_id
    deeds = Deeds(Settings(database_url=database_url))
    now = datetime.now(UTC)
    for act in (
        Meant(verb=Verb.RETRY, upto=now, turn=turn),
        Meant(verb=Verb.CANCEL, upto=now, turn=queued),
        Brake(verb="pause", kind="lane", name="bulk", upto=now),
        Brake(verb="pause", kind="session", name=str(session), upto=now),
    ):
        begun = deeds.begin(act, by="admin")
        assert begun is not None
        begun[1].result(timeout=20)
    deeds._opened().close()
    store.close()
    found = {(one.action, one.user_id, *one.objects.values()) for one in written(database_url)}
    assert found == {
        ("turn.retried", "ada", str(turn)),
        ("turn.cancelled", "bob", str(queued)),
        ("paused", None, "bulk"),
        ("paused", "bob", str(session)),
    }
    assert {one.actor for one in written(database_url)} == {"flower:admin"}


def test_what_was_asked_for_as_a_viewer_is_written_down_when_it_is_done(database_url: str) -> None:
    store = Database(database_url)
    turn = failed(store)
    with store.begin() as conn:
        asked = f"SELECT turnmill.ask_retry('{turn}', 'flower:admin')"
        assert conn.exec_driver_sql(asked).scalar()
        assert not conn.exec_driver_sql(asked).scalar()
    assert written(database_url) == []
    with store.begin() as conn:
        grant_one(conn, new_id=TurnId(new_id()))
    store.close()
    (one,) = written(database_url)
    assert (one.action, one.actor, one.user_id) == ("turn.retried", "flower:admin", "ada")


def test_upkeep_chains_what_was_written_and_keeps_it_for_its_time(database_url: str) -> None:
    with Client(database_url=database_url) as client:
        client.budgets.set(limit_usd=1)
        store = Database(database_url)
        work = Upkeep(store, lambda _: None, retention=Retention(audit=timedelta(days=31)))  # type: ignore[arg-type, return-value]
        slot = datetime.now(UTC).replace(second=0, microsecond=0)
        counts = asyncio.run(work.archive_idle(slot))
        assert counts is not None
        assert counts["audit_chained"] == 1
        counts = asyncio.run(work.purge(slot))
        assert counts is not None
        assert counts["audit"] == 0
        store.close()
        found = client.audit.verify()
        assert (found.ok, found.rows, found.groups, found.unchained) == (True, 1, 1, 0)


def test_what_is_done_outside_of_the_database_is_stated_before(database_url: str) -> None:
    with Client(settings=Settings(database_url=database_url, actor="eve")) as client:
        verb = auditing.stated(Action.USER_EXPORTED, client.settings, user_id="ada")
        client._executor.run(verb)
    (one,) = written(database_url)
    assert (one.action, one.actor, one.user_id) == ("user.exported", "eve", "ada")


def test_what_an_operator_does_by_command_is_written_down(
    terminal: Terminal, database_url: str
) -> None:
    store = Database(database_url)
    turn, queued = failed(store), steps.send(store, rows.start(store, user_id="bob")).turn_id
    session = str(steps.turn(store, queued).session_id)
    store.close()
    for line in (
        f"turns retry {turn}",
        f"turns cancel {queued}",
        "queue pause --lane bulk",
        "queue resume --lane bulk",
        f"sessions pause {session}",
        f"sessions resume {session}",
        f"sessions archive {session}",
        f"sessions delete {session} --yes",
    ):
        assert terminal.run(*line.split()).code == 0, line
    found = written(database_url)[::-1]
    assert [(one.action, one.user_id, one.objects) for one in found] == [
        ("turn.retried", "ada", {"turn": str(turn)}),
        ("turn.cancelled", "bob", {"turn": str(queued)}),
        ("paused", None, {"lane": "bulk"}),
        ("resumed", None, {"lane": "bulk"}),
        ("paused", "bob", {"session": session}),
        ("resumed", "bob", {"session": session}),
        ("session.archived", "bob", {"session": session}),
        ("session.deleted", "bob", {"session": session}),
    ]
    assert {one.actor for one in found} == {"eve"}


def test_what_an_application_does_all_day_is_not_written_down(database_url: str) -> None:
    store = Database(database_url)
    turn, queued = failed(store), steps.send(store, rows.start(store)).turn_id
    store.close()
    with Client(database_url=database_url) as client:
        client.turns.get(turn).retry()
        client.turns.get(queued).cancel()
        client.sessions.archive(client.turns.get(queued).session_id)
    assert written(database_url) == []


def test_a_cancellation_that_came_too_late_is_not_written_down(
    terminal: Terminal, database_url: str
) -> None:
    turn = answered(database_url)
    assert terminal.run("turns", "cancel", str(turn)).code == 1
    assert written(database_url) == []


def test_what_is_done_to_a_batch_by_command_is_written_down_once(
    terminal: Terminal, database_url: str, tmp_path: Path
) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"text": "a"}\n{"text": "b"}\n')
    with Client(database_url=database_url) as client:
        batch = client.batches.create(lines, name="b", user_id="ada", provider="mock", model="m")
    for line in (
        "batch pause b",
        "batch resume b",
        "batch pause b",
        "batch resume b --max-cost-usd 7",
        "batch cancel b --yes",
    ):
        assert terminal.run(*line.split()).code == 0, line
    found = written(database_url)[::-1]
    assert [one.action for one in found] == [
        *("paused", "resumed", "paused", "budget.set", "batch.cancelled")
    ]
    assert {one.objects["batch"] for one in found} == {str(batch.id)}
    assert found[3].figures["limit_usd"] == "7"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_change_of_what_a_session_may_cost_is_written_down(
    database_url: str, is_async: bool
) -> None:
    settings = Settings(database_url=database_url, actor="app")

    async def changed() -> None:
        async with AsyncClient(settings=settings) as client:
            session = await client.sessions.create(user_id="ada", provider="mock", model="m")
            await client.sessions.update(session, metadata={"a": 1})
            await client.sessions.update(session, max_cost_usd=3)
            await client.sessions.update(session, max_cost_usd=None)

    if is_async:
        asyncio.run(changed())
    else:
        with Client(settings=settings) as client:
            session = client.sessions.create(user_id="ada", provider="mock", model="m")
            client.sessions.update(session, metadata={"a": 1})
            client.sessions.update(session, max_cost_usd=3)
            client.sessions.update(session, max_cost_usd=None)
    removed, set_ = written(database_url)
    assert (set_.action, set_.actor, set_.user_id) == ("budget.set", "app", "ada")
    assert set_.figures == {"scope": "session", "period": "total", "limit_usd": "3"}
    assert (removed.action, removed.user_id) == ("budget.removed", "ada")

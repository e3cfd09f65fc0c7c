"""Verbs of both clients, and what each of them needs of a connection."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

import turnmill
from tests import rows
from tests.databases import Databases
from tests.integration.furnishing import Contents, furnish, written_to
from tests.integration.verbs_of_analytics import OF_ANALYTICS
from tests.said import said_in
from turnmill import (
    Batch,
    Client,
    Settings,
    Turn,
    TurnmillError,
    TurnState,
    Webhook,
)
from turnmill.settings import Reads
from turnmill.store.nouns import accounts
from turnmill.verbs import sending
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.intake import turn_options
from turnmill.verbs.new_messages import new_turn

WRITES = ("INSERT", "UPDATE", "DELETE", "LOCK")
#: Of a statement with parts, the same somewhere in it.
WRITE_WITHIN = ("INSERT INTO", "DELETE FROM", "UPDATE TURNMILL.")
LOCKS = ("FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE")


def closed(client: Client) -> Client:
    """Let the mock's account be closed."""
    key = accounts.AccountKey(kind=accounts.ACCOUNT, provider="mock")
    with client._executor.database.begin() as conn:
        accounts.close(conn, key, wait=lambda _: timedelta(seconds=9), code="rate_limited")
    return client


def limited(client: Client) -> Client:
    """Let the mock be limited."""
    client.limits.set(provider="mock", requests_per_minute=600)
    return client


def held(client: Client) -> Turn:
    turn = client.turns.list(states=["queued"])[-1]
    rows.run(client._executor.database, turn.id, TurnState.UNKNOWN)
    return turn


def asking(client: Client, what: str) -> Turn:
    return client.turns.list(waits_for=what)[0]


def a_folder(path: Path) -> Path:
    folder = path.with_name("templates")
    folder.mkdir()
    (folder / "t.yaml").write_text("model: large\n", encoding="utf-8")
    return folder


def hooked(client: Client) -> Webhook:
    """Let there be a webhook."""
    return client.webhooks.create(url="https://a.example/", events=["turn.settled"])


def to_be_erased(client: Client) -> Client:
    """Let a user be erased later."""
    client.users.erase("ada", grace=timedelta(days=30))
    return client


def cancelled(batch: Batch) -> Batch:
    batch.cancel()
    return batch


#: Every verb of a client, with a session that has a failed turn and one that waits.
VERBS: dict[str, Callable[[Client, Path], object]] = {
    "Client.send": lambda c, _: c.send("s", "hello"),
    "Client.send keyed": lambda c, _: c.send("s", "hello", idempotency_key="k"),
    "Client.send by name": lambda c, _: c.send("s", "hello", sender="ada"),
    "Client.send to people": lambda c, _: c.send("s", "hello", to="participants", sender="ada"),
    "Client.follow": lambda c, _: list(c.follow("s", as_="ada", timeout=0)),
    "Participants.add": lambda c, _: c.sessions.participants.add("s", "bob", by="ada"),
    "Participants.list": lambda c, _: c.sessions.participants.list("s"),
    "Participants.mark_read": lambda c, _: c.sessions.participants.mark_read("s", "ada"),
    "Participants.remove": lambda c, _: c.sessions.participants.remove("s", "eve"),
    "Client.send_many": lambda c, _: c.send_many([("s", "hello"), ("s", "again")]),
    "Client.send attached": lambda c, _: c.send("s", "hello", attachments=[b"again"]),
    "Attachments.put": lambda c, _: c.attachments.put(b"another", user_id="ada"),
    "Attachments.put again": lambda c, _: c.attachments.put(b"words", user_id="ada"),
    "Attachments.get": lambda c, _: c.attachments.get(c.attachments.list()[0]),
    "Attachments.open": lambda c, _: list(c.attachments.open(c.attachments.list()[0])),
    "Attachments.list": lambda c, _: c.attachments.list(user_id="ada"),
    "Attachments.usage": lambda c, _: c.attachments.usage("ada"),
    "Attachments.delete": lambda c, _: c.attachments.delete(c.attachments.list()[0]),
    "Sessions.create": lambda c, _: c.sessions.create(user_id="ada", key="new"),
    "Sessions.get": lambda c, _: c.sessions.get("s"),
    "Sessions.list": lambda c, _: c.sessions.list(user_id="ada"),
    "Sessions.kept": lambda c, _: c.sessions.kept("s"),
    "Sessions.history": lambda c, _: list(c.sessions.history("s")),
    "Sessions.compactions": lambda c, _: c.sessions.compactions("s"),
    "Sessions.update": lambda c, _: c.sessions.update("s", model="m", on_ambiguous="hold"),
    "Sessions.update tools": lambda c, _: c.sessions.update("s", tools=["weather"]),
    "Sessions.update fallback": lambda c, _: c.sessions.update("s", fallback=["mock/large"]),
    "Sessions.archive": lambda c, _: c.sessions.archive(c.sessions.create(user_id="ada")),
    "Sessions.archive waiting": lambda c, _: c.sessions.archive(
        c.sessions.create(user_id="ada"), running="wait", timeout=1
    ),
    "Sessions.restore": lambda c, _: c.sessions.restore(
        c.sessions.archive(c.sessions.create(user_id="ada"))
    ),
    "Sessions.fork": lambda c, _: c.sessions.fork("s", key="other"),
    "Sessions.move": lambda c, _: c.sessions.move(
        c.sessions.create(user_id="ada"), model="large", if_version=1
    ),
    "Sessions.create history": lambda c, _: c.sessions.create(
        user_id="ada",
        history=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        keep_content=timedelta(days=1),
    ),
    "Sessions.deletion": lambda c, _: c.sessions.deletion(
        c.sessions.delete(c.sessions.create(user_id="ada"), running="cancel").session_id
    ),
    "Sessions.keep_content": lambda c, _: c.sessions.keep_content("ada", timedelta(days=1)),
    "Sessions.content_kept": lambda c, _: c.sessions.content_kept("ada"),
    "Sessions.pause": lambda c, _: c.sessions.pause("s"),
    "Sessions.resume": lambda c, _: c.sessions.resume("s"),
    "Sessions.delete": lambda c, _: c.sessions.delete(c.sessions.create(user_id="ada")),
    "Turns.get": lambda c, _: c.turns.get(c.turns.list()[0].id),
    "Turns.why": lambda c, _: c.turns.why(c.turns.list()),
    "Turns.list": lambda c, _: c.turns.list(session="s"),
    "Turn.refresh": lambda c, _: c.turns.list()[0].refresh(),
    "Turn.result": lambda c, _: c.turns.list(states=["succeeded"])[0].result(timeout=0),
    "Turn.attempts": lambda c, _: c.turns.list()[0].attempts(),
    "Turn.messages": lambda c, _: c.turns.list()[0].messages(),
    "Turn.why": lambda c, _: c.turns.list()[0].why(),
    "Turn.stream": lambda c, _: list(c.turns.list(states=["succeeded"])[0].stream(timeout=5)),
    "Turn.tool_calls": lambda c, _: c.turns.list()[0].tool_calls(),
    "Turn.effects": lambda c, _: c.turns.list()[0].effects(),
    "Turn.submit_tool_outputs": lambda c, _: asking(c, "tool").submit_tool_outputs({"call_0": "x"}),
    "Turn.approve": lambda c, _: asking(c, "approval").approve("call_0"),
    "Turn.reject": lambda c, _: asking(c, "approval").reject("call_0", "no"),
    "Turns.waiting_calls": lambda c, _: c.turns.waiting_calls(session="s"),
    "Turn.cancel": lambda c, _: c.turns.list(states=["queued"])[0].cancel(),
    "Turn.retry": lambda c, _: c.turns.list(states=["failed"])[0].retry(),
    "Turn.release": lambda c, _: held(c).release(),
    "Batches.create": lambda c, path: c.batches.create(path, name="new"),
    "Batches.estimate": lambda c, path: c.batches.estimate(path),
    "Batches.get": lambda c, _: c.batches.get("old"),
    "Batches.list": lambda c, _: c.batches.list(),
    "Batch.counts": lambda c, _: c.batches.get("old").counts,
    "Batch.wait": lambda c, _: cancelled(c.batches.get("old")).wait(),
    "Batch.iter_results": lambda c, _: list(c.batches.get("old").iter_results()),
    "Batch.results": lambda c, path: c.batches.get("old").results(path.with_suffix(".out")),
    "Batch.retry_failed": lambda c, _: c.batches.get("old").retry_failed(),
    "Batch.pause": lambda c, _: c.batches.get("old").pause(),
    "Batch.resume": lambda c, _: c.batches.get("old").resume(),
    "Batch.cancel": lambda c, _: c.batches.get("old").cancel(),
    "Events.read": lambda c, _: c.events.read(session="s", kinds=["turn.failed"]),
    "Events.follow": lambda c, _: list(c.events.follow(reader="one", timeout=0)),
    "Events.passed": lambda c, _: c.events.passed("one", c.events.read()[0]),
    "Events.readers": lambda c, _: c.events.readers(),
    "Events.add_reader": lambda c, _: c.events.add_reader("two"),
    "Events.park_reader": lambda c, _: c.events.park_reader("one"),
    "Events.remove_reader": lambda c, _: c.events.remove_reader("one"),
    "Lanes.loads": lambda c, _: c.lanes.loads(),
    "Lanes.paused": lambda c, _: c.lanes.paused(),
    "Lanes.pause": lambda c, _: c.lanes.pause(lane="bulk", provider="mock"),
    "Lanes.resume": lambda c, _: c.lanes.resume(lane="bulk", provider="mock"),
    "Limits.set": lambda c, _: c.limits.set(provider="mock", requests_per_minute=600),
    "Limits.get": lambda c, _: c.limits.get(provider="mock"),
    "Limits.list": lambda c, _: c.limits.list(),
    "Limits.remove": lambda c, _: limited(c).limits.remove(provider="mock"),
    "Accounts.list": lambda c, _: c.accounts.list(),
    "Accounts.open": lambda c, _: closed(c).accounts.open(provider="mock"),
    "Webhooks.create": lambda c, _: hooked(c),
    "Webhooks.list": lambda c, _: c.webhooks.list(),
    "Webhooks.get": lambda c, _: c.webhooks.get(hooked(c)),
    "Webhooks.update": lambda c, _: c.webhooks.update(hooked(c), events=["*"]),
    "Webhooks.delete": lambda c, _: c.webhooks.delete(hooked(c)),
    "Webhooks.rotate": lambda c, _: c.webhooks.rotate(hooked(c)),
    "Webhooks.release": lambda c, _: c.webhooks.release(hooked(c)),
    "Webhooks.replay": lambda c, _: c.webhooks.replay(hooked(c), since=datetime.now(UTC)),
    "Webhooks.deliveries": lambda c, _: c.webhooks.deliveries(hooked(c)),
    "Client.count_tokens": lambda c, _: c.count_tokens("s", "hello"),
    "Audit.list": lambda c, _: c.audit.list(user_id="ada", action="budget.set", after=9, limit=5),
    "Audit.verify": lambda c, _: c.audit.verify(),
    "Audit.checkpoint": lambda c, _: c.audit.checkpoint(),
    "Budgets.set": lambda c, _: c.budgets.set(limit_usd=1, period="day"),
    "Budgets.set session": lambda c, _: c.budgets.set(limit_usd=1, session="s"),
    "Budgets.get": lambda c, _: c.budgets.get(user_id="ada"),
    "Budgets.list": lambda c, _: c.budgets.list(),
    "Budgets.remove": lambda c, _: c.budgets.remove(user_id="ada"),
    "Sessions.create bounded": lambda c, _: c.sessions.create(user_id="ada", max_cost_usd=1),
    "Sessions.update bounded": lambda c, _: c.sessions.update("s", max_cost_usd=1),
    "Sessions.create templated": lambda c, _: c.sessions.create(
        user_id="ada", template="t", variables={"who": "you"}
    ),
    "Templates.put": lambda c, _: c.templates.put("t", system_prompt="You are new."),
    "Templates.get": lambda c, _: c.templates.get("t@1"),
    "Templates.list": lambda c, _: c.templates.list(),
    "Templates.versions": lambda c, _: c.templates.versions("t"),
    "Templates.diff": lambda c, _: c.templates.diff("t@1"),
    "Templates.roll_back": lambda c, _: c.templates.roll_back("t", to=1),
    "Templates.remove": lambda c, _: c.templates.remove(c.templates.put("u", model="m")),
    "Templates.sessions": lambda c, _: c.templates.sessions("t"),
    "Templates.uses": lambda c, _: c.templates.uses("t"),
    "Templates.sync": lambda c, path: c.templates.sync(a_folder(path)),
    "Schedules.create": lambda c, _: c.schedules.create("s", "hi", cron="@daily", key="k"),
    "Schedules.get": lambda c, _: c.schedules.get(c.schedules.list()[0]),
    "Schedules.list": lambda c, _: c.schedules.list(session="s"),
    "Schedules.update": lambda c, _: c.schedules.update(c.schedules.list()[0], cron="@hourly"),
    "Schedules.pause": lambda c, _: c.schedules.pause(c.schedules.list()[0]),
    "Schedules.resume": lambda c, _: c.schedules.resume(c.schedules.list()[0]),
    "Schedules.delete": lambda c, _: c.schedules.delete(c.schedules.list()[0]),
    "Users.export": lambda c, path: c.users.export("ada", path.with_suffix(".zip")),
    "Users.erase": lambda c, _: c.users.erase("ada", reason="asked"),
    "Users.erasure": lambda c, _: to_be_erased(c).users.erasure("ada"),
    "Users.erasures": lambda c, _: to_be_erased(c).users.erasures(),
    "Users.withdraw": lambda c, _: to_be_erased(c).users.withdraw("ada"),
    "Users.admit": lambda c, _: c.users.admit("ada"),
    "Users.hold": lambda c, _: c.users.hold("ada", reason="case 7"),
    "Users.holds": lambda c, _: c.users.holds(),
    "Users.release": lambda c, _: c.users.release("ada"),
    "Users.verify_erasure": lambda c, _: c.users.verify_erasure("ada", words=["hello"]),
    "Users.replay_erasures": lambda c, _: c.users.replay_erasures(),
    **OF_ANALYTICS,
}
#: These ask no store.
OTHERS = {"Client.from_env", "Client.close", "Turn.record", "Turn.state"}


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    return written_to(tmp_path / "jobs.jsonl")


@pytest.fixture(scope="session")
def furnished(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Contents, Path]:
    """The rows, and a folder of files, of a store with something for each verb."""
    folder = tmp_path_factory.mktemp("furnished")
    with databases.one() as url:
        with Client(settings=Settings(database_url=url, files_url=str(folder / "files"))) as client:
            furnish(client, written_to(folder / "jobs.jsonl"))
        return Contents.of(url), folder / "files"


@pytest.fixture
def client(database_url: str, furnished: tuple[Contents, Path], tmp_path: Path) -> Iterator[Client]:
    contents, files = furnished
    contents.write_to(database_url)
    shutil.copytree(files, tmp_path / "files")
    settings = Settings(database_url=database_url, files_url=str(tmp_path / "files"))
    with Client(settings=settings) as client:
        yield client


def test_the_table_of_verbs_has_all_of_them() -> None:
    listed = {name.partition(" ")[0] for name in VERBS} | OTHERS
    nouns = (
        "Client",
        "Sessions",
        "Turns",
        "Turn",
        "Batches",
        "Batch",
        "Events",
        "Lanes",
        "Limits",
        "Accounts",
        "Webhooks",
        "Analytics",
        "Audit",
        "Budgets",
        "Attachments",
        "Participants",
        "Templates",
        "Schedules",
        "Users",
        "Trials",
        "Experiments",
    )
    owners = {noun: dir(getattr(turnmill, noun)) for noun in nouns}
    properties = {
        *(
            "Client.accounts",
            "Client.analytics",
            "Client.audit",
            "Client.batches",
            "Client.budgets",
        ),
        *("Client.events", "Client.lanes", "Client.limits", "Client.attachments"),
        *("Client.schedules", "Client.templates", "Client.users"),
        *("Client.trials", "Client.experiments"),
        *("Client.webhooks", "Sessions.participants"),
    }
    found = {
        f"{noun}.{verb}" for noun, all_of in owners.items() for verb in all_of if verb[0] != "_"
    }
    assert found - properties == listed


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_without_a_transaction_writes_once_and_relies_on_no_lock(
    name: str, client: Client, jobs: Path
) -> None:
    alone: dict[int, list[str]] = {}

    def note(conn: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if conn.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            written = statement.lstrip().upper()
            within = written.startswith("WITH") and any(one in written for one in WRITE_WITHIN)
            if written.startswith(WRITES) or within or any(lock in written for lock in LOCKS):
                alone.setdefault(id(conn), []).append(statement)

    engine = client._executor.database.engine
    event.listen(engine, "before_cursor_execute", note)
    VERBS[name](client, jobs)
    event.remove(engine, "before_cursor_execute", note)
    assert alone or name != "Client.send", "nothing was heard of what is written alone"
    for statements in alone.values():
        assert len(statements) == 1
        assert not any(lock in statements[0].upper() for lock in LOCKS)


#: What they return of words is a set-up's, or what the caller has said just now.
NOBODYS = {"Templates", "Schedules.create", "Client.send to people"}


def test_whatever_returns_what_was_said_is_written_down_where_that_is_asked_for(
    client: Client, jobs: Path
) -> None:
    """A verb that is new, and reads content, says so: `shows=` of its `single` or `transaction`."""
    first = next(client.batches.get("old").iter_results())
    assert first.turn_id is not None
    rows.run(client._executor.database, first.turn_id)
    silent = []
    with Client(settings=replace(client.settings, audit_reads=Reads.ALL)) as reading:
        for name, verb in VERBS.items():
            before = len(client.audit.list(action="content.read", limit=1000))
            with suppress(TurnmillError, IndexError):
                holds = said_in(verb(reading, jobs))
                after = len(client.audit.list(action="content.read", limit=1000))
                if holds and after == before and not {name, name.partition(".")[0]} & NOBODYS:
                    silent.append(name)
    assert silent == []
    assert after > 10


@pytest.mark.parametrize(("key", "atomic"), [(None, False), ("k", True)])
def test_sending_with_a_key_asks_for_a_transaction(
    key: str | None, atomic: bool, client: Client
) -> None:
    options = turn_options(idempotency_key=key)
    new = new_turn("hello", options, max_text_bytes=100)
    verb = sending.send("s", new, Backpressure(client.settings))
    assert verb.atomic is atomic

"""Every listing on a terminal of 80 columns: a row is a line, whatever names are in it."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from sqlalchemy import update

from tests import rows
from tests.acceptance.terminal import Terminal
from turnmill import Client, Settings
from turnmill.domain.states import TurnState
from turnmill.show.as_typed import as_typed
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import AccountKey, close
from turnmill.store.schema import migrate
from turnmill.store.schema.tables import sessions

LONG = "a-rather-long-name-of-somebody@an-even-longer-domain.example.com"
WIDE = "会話セッションの名前がとても長いので折り返されるはず-第二部"
MODEL = "gpt-5-mini-2026-08-07-with-a-tail-that-is-long-too"
TEMPLATE = "a-template-with-a-long-name-for-customers-of-the-house"
#: What is listed, how many rows there are at least, and a column that is never left out.
LISTINGS = (
    ("sessions ls", 3, "status"),
    ("turns ls", 3, "state"),
    ("files ls", 2, "user"),
    ("users holds", 2, "reason"),
    ("users erasures", 1, "state"),
    ("templates ls", 1, "version"),
    ("templates sessions {template}", 1, "status"),
    ("participants ls {session}", 2, "unread"),
    ("schedules ls", 2, "when"),
    ("queue ls", 1, "due"),
    ("batch ls", 1, "name"),
    ("webhooks ls", 1, "url"),
    ("events ls", 2, "kind"),
    ("events readers", 1, "behind"),
    ("limits ls", 1, "at once"),
    ("accounts ls", 3, "why"),
    ("experiments ls", 1, "template"),
    ("analytics feedback", 2, "score"),
    ("analytics behaviours", 1, "share"),
    ("upkeep ls", 5, "due"),
    ("audit ls", 9, "whose"),
    ("budget ls", 2, "left"),
)


def furnish(client: Client, store: Database, folder: Path) -> dict[str, str]:
    """Have something of each kind, with long names, long ids and wide letters."""
    client.templates.put(TEMPLATE, system_prompt="Be brief.", note=LONG)
    some = [
        client.sessions.create(user_id=LONG, key=f"support/2026/11/27/{LONG}", model=MODEL),
        client.sessions.create(user_id=WIDE, key=WIDE),
        client.sessions.create(user_id="ada", template=TEMPLATE),
    ]
    for one in some:
        client.sessions.pause(one)
    with store.begin() as conn:
        conn.execute(update(sessions).values(status="active"))
    for one, ends in zip(some, (TurnState.SUCCEEDED, TurnState.FAILED, None), strict=True):
        turn = rows.send(store, one.id, "Hello")
        if ends is not None:
            error = "context_length_exceeded_by_far" if ends is TurnState.FAILED else None
            rows.run(store, turn, ends, error_code=error)
            client.turns.feedback(turn, -0.5, f"{WIDE} {LONG}", by=LONG)
            client.attachments.put(b"words", user_id=one.user_id, name=f"{WIDE}{LONG}.txt")
            client.schedules.create(one, "Hi", cron="0 9 * * 1-5", timezone="America/Sao_Paulo")
        client.sessions.participants.add(one, f"{WIDE} too")
    client.lanes.pause(lane="bulk")  # so that nothing moves
    (folder / "jobs").write_text(json.dumps({"text": "Hi", "session": WIDE}) + "\n")
    client.batches.create(folder / "jobs", name=f"{WIDE} {LONG}")
    _set_up(client, store)
    return {"session": str(some[0].id), "template": TEMPLATE}


def _set_up(client: Client, store: Database) -> None:
    client.budgets.set(limit_usd="1234.56", user_id=LONG, period="month", timezone="Asia/Kolkata")
    client.budgets.set(limit_usd=5, session=WIDE, period="total")
    asked: dict[str, Any] = {"requests_per_minute": 600_000, "tokens_per_minute": 2_000_000_000}
    client.limits.set(provider="openai", model=MODEL, **asked, concurrent=20_000)
    client.webhooks.create(url=f"https://{LONG.partition('@')[2]}/{MODEL}", events=["session.*"])
    client.users.hold(LONG, reason=f"a court has asked for everything of {LONG}")
    client.users.hold(WIDE, reason="x")
    client.users.erase("ada", reason=f"asked for by {LONG}", grace=timedelta(days=30))
    client.experiments.start(TEMPLATE, name=f"{WIDE} {LONG}", model=MODEL, share=0.25)
    flex = {"account": "0f3a9bcd", "model": MODEL, "tier": "flex"}
    with store.begin() as conn:
        for kind, more in (("account", {"account": "0f3a9bcd"}), ("account", flex)):
            key = AccountKey(kind=kind, provider="openai", **more)
            refused: Any = {"code": "insufficient_quota_of_the_house", "permanent": True}
            close(conn, key, wait=lambda _: timedelta(hours=1), **refused)
        hangs = AccountKey(kind="breaker", provider="anthropic", model=MODEL)
        close(conn, hangs, wait=lambda _: timedelta(hours=1), code="fails")


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("narrow")
    url = f"sqlite:///{folder}/turns.db"
    migrate.upgrade(url)
    settings = Settings(database_url=url, home=folder / ".turnmill", by_hand=True)
    with closing(Database(url)) as store, Client(settings=settings) as client:
        found = furnish(client, store, folder)
        yield found | {"folder": str(folder), "url": url}


def shown(ids: dict[str, str], command: str, *, columns: int) -> list[str]:
    """Return the lines of a terminal that is so wide."""
    surroundings = {"TURNMILL_DATABASE_URL": ids["url"], "COLUMNS": str(columns)}
    terminal = Terminal(Path(ids["folder"]), {**surroundings, "FORCE_COLOR": "1"})
    said = terminal.run(*command.format(**ids).split())
    assert said.code == 0, said.err
    return re.sub(r"\x1b\[[\d;]*m", "", said.out).rstrip("\n").split("\n")


@pytest.mark.long
@pytest.mark.parametrize(("command", "rows_there", "column"), LISTINGS)
def test_a_row_is_a_line_on_80_columns_and_on_120(
    ids: dict[str, str], command: str, rows_there: int, column: str
) -> None:
    for columns in (80, 120):
        lines = shown(ids, command, columns=columns)
        assert all(cell_len(line) <= columns for line in lines)
        assert column in lines[0]
        piped = shown(ids, command, columns=10_000)
        assert len(lines) == len(piped) >= 1 + rows_there, "\n".join(lines)


@pytest.mark.long
@pytest.mark.parametrize("command", ["audit ls", "sessions ls", "files ls", "accounts ls"])
def test_wide_leaves_nothing_out_and_cuts_nothing(ids: dict[str, str], command: str) -> None:
    narrow = shown(ids, command, columns=80)
    wide = shown(ids, f"{command} --wide", columns=80)
    assert "…" in "".join(narrow) and "…" not in "".join(wide)
    assert len(wide) == len(narrow) and len(wide[0].split()) > len(narrow[0].split())


def test_wide_says_nothing_beside_json(tmp_path: Path) -> None:
    said = Terminal(tmp_path, {}).run("audit", "ls", "--wide", "--json")
    assert (said.code, said.out) == (2, "")
    assert "--json cannot stand beside --wide: JSON has everything" in said.err


def test_a_remedy_of_doctor_is_a_line_that_can_be_copied_on_any_terminal(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/{LONG}.db"
    for columns in (40, 80, 10_000):
        environment = {"TURNMILL_DATABASE_URL": url, "COLUMNS": str(columns)}
        said = Terminal(tmp_path, environment).run("doctor")
        plain = re.sub(r"\x1b\[[\d;]*m", "", said.out)
        found = json.loads(Terminal(tmp_path, environment).run("doctor", "--json").out)
        remedies = [one["fix"] for one in found["findings"] if one["fix"]]
        assert max(len(remedy) for remedy in remedies) > 26  # behind the name of its check
        for remedy in remedies:
            shown = as_typed(remedy)
            assert any(line.endswith(f"→ {shown}") for line in plain.split("\n")), shown

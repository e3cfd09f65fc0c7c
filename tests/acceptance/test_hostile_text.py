"""What users wrote, in front of whoever operates: nothing of it is obeyed by a terminal."""

import ast
import contextlib
import io
import os
import pty
import shlex
import sys
import threading
import unicodedata
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from rich.live import Live
from sqlalchemy import select, update

from tests import rows
from tests.acceptance.terminal import Terminal, clean_environment
from tests.acceptance.walk import WALK
from tests.commands import leaves
from turnmill import Client, Settings
from turnmill.cli import COMMANDS, cli, main
from turnmill.cli.waiting import spinner, waiting
from turnmill.domain.ids import SessionId
from turnmill.domain.states import TurnState
from turnmill.show.terminal import Guarded, guard_terminals, on_one_line, say, visible
from turnmill.store.database import Database
from turnmill.store.schema import migrate
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.people_tables import participants, shared_log
from turnmill.store.schema.tables import attempts, batches, sessions, turns
from turnmill.verbs.batch_progress import drawn_lines

#: A title, a colour by C1, a cleared screen, a bell, a backspace, a bidi override, a hidden letter.
EVIL = "a\x1b]0;t\x07b\x9b31mc\x1b[2Jd\x08e\u202ef\u200bg\rh\u2066i\U000e0041j\x7fk"
#: What would be obeyed: rich's own colours, cursor moves and line ends are none of it.
OBEYED = ("\x1b]", "\x9b", "\x1b[2J", "\x07", "\x08", "\u202e", "\u200b", "\rh", "\u2066", "\x7f")

#: Into `chat`.
TYPED = f"{EVIL}\n/history\n/session\n/nonsense\x07\n"

#: Commands that print no rows: those that start programs, and those that look at this machine.
NO_ROWS = {"up", "demo", "worker", "beat", "flower", "home", "health", "roles", "env"}


def spoil(store: Database, session: SessionId) -> Any:
    """Let every text be hostile that somebody else chooses; return the batch."""
    spoilt = {"user_id": EVIL, "model": EVIL, "key": EVIL, "metadata": {"a": EVIL}}
    with store.begin() as conn:
        conn.execute(update(sessions).values(**spoilt).where(sessions.c.id == session))
        conn.execute(update(turns).values(error_code=EVIL, custom_id=EVIL, finish_reason=EVIL))
        conn.execute(update(attempts).values(worker=EVIL, error_code=EVIL, model=EVIL))
        conn.execute(update(batches).values(name=EVIL))
        conn.execute(update(participants).values(name=EVIL).where(participants.c.name == "bob"))
        conn.execute(update(shared_log).values(name=EVIL))
        conn.execute(update(feedback).values(name=EVIL))
        conn.execute(update(attachments).values(name=EVIL, user_id=EVIL, media_type=EVIL))
        return conn.execute(select(batches)).first()


@pytest.fixture
def ids(tmp_path: Path) -> dict[str, str]:
    """A store in which every text that somebody else chooses is hostile; it passed by no check."""
    url = f"sqlite:///{tmp_path}/turns.db"
    migrate.upgrade(url)
    store = Database(url)
    session = rows.start(store, user_id="ada", key="k", system_prompt=EVIL)
    done = rows.send(store, session, EVIL, metadata={"note": EVIL})
    rows.run(store, done, TurnState.FAILED, error_code="odd", error_detail=EVIL)
    again = rows.send(store, session, EVIL)
    rows.run(store, again)
    open_turn = rows.send(store, session, EVIL)
    (tmp_path / "jobs").write_text('{"user_id": "ada", "text": "hi"}\n')
    said = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url}).run("batch", "submit", "jobs")
    assert said.code == 0, said.err
    with Client(settings=Settings(database_url=url, home=tmp_path / ".turnmill")) as client:
        file = client.attachments.put(b"words", user_id="ada")
        for prompt in (EVIL, f"{EVIL} and {EVIL}"):
            client.templates.put("t", system_prompt=prompt, note=EVIL)
        client.sessions.participants.add(session, "bob")
        client.turns.feedback(done, -1, EVIL, by="bob")
        client.send(session, EVIL, sender="bob", to="participants")
        schedule = client.schedules.create(session, EVIL, cron="@yearly")
    batch = spoil(store, session)
    store.close()
    assert batch is not None
    return {
        "session": str(session),
        "turn": str(done),
        "open": str(open_turn),
        "batch": str(batch.id),
        "schedule": str(schedule.id),
        "file": str(file.id),
    }


class Screen:
    """A terminal that keeps every byte which it is sent."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8", buffering=1)
        self._seen: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def end(self) -> str:
        """Return all that came, once nothing more comes."""
        self.stream.close()
        self._reader.join(timeout=10)
        os.close(self._master)
        return b"".join(self._seen).decode()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the way in which a terminal ends
            while chunk := os.read(self._master, 4096):
                self._seen.append(chunk)


def shown_by(command: list[str], *, folder: Path, typed: str = "", **variables: str) -> str:
    """Run a command whose stdout and stderr are a terminal, and return what that was sent."""
    screen = Screen()
    environment = clean_environment() | {
        "TURNMILL_DATABASE_URL": f"sqlite:///{folder}/turns.db",
        "TERM": "xterm-256color",
        **variables,
    }
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["turnmill", *command]),
        mock.patch.object(sys, "stdin", io.StringIO(typed)),
        contextlib.redirect_stdout(screen.stream),
        contextlib.redirect_stderr(screen.stream),
        pytest.raises(SystemExit),
    ):
        main()
    return screen.end()


def test_every_command_that_prints_rows_is_in_the_walk() -> None:
    context = click.Context(cli)
    for name in COMMANDS.keys() - NO_ROWS:
        command = cli.get_command(context, name)
        assert command is not None
        for leaf in leaves(command, name):
            assert any(walked.startswith(leaf) for walked in WALK), f"{leaf} is not walked"


@pytest.mark.long
def test_nothing_of_what_users_wrote_is_obeyed_by_a_terminal(
    tmp_path: Path, ids: dict[str, str]
) -> None:
    (tmp_path / "evil\x1b]0;t\x07").write_text('{"user_id": "ada", "text": "hi"}\n')
    everything = ""
    for line in WALK:
        command = [word.format(**ids) for word in shlex.split(line)]
        shown = shown_by(command, folder=tmp_path, typed=TYPED)
        assert not [evil for evil in OBEYED if evil in shown], (line, shown)
        assert "Traceback" not in shown, (line, shown)
        everything += shown
    # It was shown, and not left out.
    assert (
        everything.count("\\u001b]0;t\\u0007") > len(WALK) * 0.8
    )  # figures alone are shown by some


def test_what_commands_draw_while_they_work_is_drawn_and_not_spelled() -> None:
    screen = Screen()
    with contextlib.redirect_stdout(screen.stream), contextlib.redirect_stderr(screen.stream):
        guard_terminals()
        with drawn_lines(what="submitted") as draw:
            draw(1, 2)
            say(EVIL)  # what is said meanwhile is as harmless
        with waiting("a reply"):
            say(EVIL)
        with spinner("another one") as spinning:
            assert isinstance(spinning, Live)
            spinning.refresh()
    shown = screen.end()
    assert shown.count("another one") > 1
    assert "\\u001b[" not in shown.replace("\\u001b[2J", "")
    assert not [evil for evil in OBEYED if evil in shown]


def test_a_terminal_of_unknown_width_is_shown_everything(
    tmp_path: Path, ids: dict[str, str]
) -> None:
    assert ids["turn"][:8] in shown_by(["turns", "ls"], folder=tmp_path, COLUMNS="0")


def test_the_pipe_gets_what_was_said_as_it_was_said(tmp_path: Path, ids: dict[str, str]) -> None:
    url = f"sqlite:///{tmp_path}/turns.db"
    alone = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url, "COLUMNS": "10000"})
    assert EVIL in alone.run("sessions", "show", ids["session"], "--text").out
    assert EVIL in alone.run("turns", "show", ids["turn"], "--text").out
    listed = alone.run("turns", "ls").out
    assert "\x1b" not in listed
    assert len(listed.splitlines()) == 5  # a name with a line end in it makes no line


def test_what_acts_or_hides_is_shown_and_what_is_read_stays() -> None:
    kept = set("\n\t\u200c\u200d")
    numbers = {*range(0x600, 0x606), 0x6DD, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        acts = unicodedata.category(letter) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
        if acts and letter not in kept and code not in numbers:
            assert letter not in visible(f"a{letter}b"), hex(code)
            assert letter not in on_one_line(f"a{letter}b"), hex(code)
        elif not acts and unicodedata.category(letter) != "Cn":
            assert visible(letter) == letter, hex(code)
    for text in ("👩\u200d💻", "👩🏽\u200d🚀", "می\u200cخواهم", "क्\u200dष", "שלום", "a\tb\nc"):
        assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
    assert on_one_line("a\nb\tc") == "a\\nb\\tc"
    assert visible("pass\u200dword") == "pass\\u200dword"


def test_a_stream_to_a_terminal_lets_nothing_pass_that_anybody_writes() -> None:
    stream = io.StringIO()
    guarded = Guarded(stream)
    print(EVIL, file=guarded)
    guarded.writelines([EVIL, "\n"])
    assert not [evil for evil in OBEYED if evil in stream.getvalue()]


def test_commands_print_by_that_one_place_alone() -> None:
    """`click.echo`, `print` and a Console of one's own would pass by it."""
    root = Path(cli.callback.__code__.co_filename).parents[1]  # type: ignore[union-attr]
    for folder in ("cli", "show"):
        for path in sorted((root / folder).rglob("*.py")):
            if path.name == "terminal.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called not in {"click.echo", "click.secho", "print", "Console"}, path
                    assert not called.startswith(("sys.stdout.write", "sys.stderr.write")), path

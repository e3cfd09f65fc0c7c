"""The code of the documentation is run as it stands, in a folder in which `turnmill up` runs."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.pages import ROOT, Block, blocks_of, commands_of, pages
from tests.acceptance.terminal import clean_environment
from tests.conftest import fresh_database, make_home
from turnmill import AttachmentNotFound, Client
from turnmill.running_home import settings_of_home
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until

pytestmark = pytest.mark.long  # a minute of a core, all of them together

WITHIN = 30
SOON = timedelta(seconds=WITHIN)
#: What a page says of a client, of a session and of "your code" is made of these.
BEGINNING = """\
import asyncio
from turnmill import AsyncClient, Client
client = Client.from_env()
session = client.sessions.create(user_id="ada", key="ada:1", provider="mock", model="mock")
"""
SHELLS = {"sh": "sh", "bash": "bash", "console": "sh"}
ENDED = {0, -signal.SIGTERM, -signal.SIGINT}


def _to_run(*languages: str) -> list[Block]:
    every = (block for page in pages() for block in blocks_of(page))
    return [one for one in every if one.language in languages and _is_run_here(one)]


def _is_run_here(block: Block) -> bool:
    return not {"not run", "run by"} & set(block.marks)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a newcomer's folder: his home is empty, and `turnmill up` runs in it."""
    home = make_home()
    (home.path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (home.path / "home").mkdir()
    up = subprocess.Popen(
        [".venv/bin/turnmill", "up", "--json", "--concurrency", "50"],
        cwd=home.path,
        env=_environment(home.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert up.stdout is not None
    assert up.stdout.readline(), "`turnmill up` ended before it was ready"
    yield home.path
    up.terminate()
    up.communicate(timeout=40)
    home.discard()


def _environment(folder: Path) -> dict[str, str]:
    path = f"{folder}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    return clean_environment() | {"HOME": str(folder / "home"), "PATH": path}


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    """Yield a client of the system; nothing of one page is left for the next."""
    settings = settings_of_home({"TURNMILL_HOME": str(folder / ".turnmill")})
    with Client(settings=settings) as client:
        yield client
        for session in client.sessions.list():
            client.sessions.delete(session)
        # Not left to upkeep: bytes that go while a later page restores its dump are missed there.
        for file in client.attachments.list():
            with suppress(AttachmentNotFound):
                client.attachments.delete(file)


def _names(client: Client) -> dict[str, str]:
    """Return what stands for the words that a reader puts his own in for."""
    turn = client.send(client.sessions.create(user_id="ada"), "Hello")
    turn.result(timeout=WITHIN)
    return {"ID": str(turn.id)}


def _run(argv: list[str], folder: Path) -> str:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert done.returncode == 0, f"{argv[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    "page", sorted({block.page for block in _to_run("python")}), ids=lambda one: one.name
)
def test_the_python_of_a_page_runs_from_its_first_to_its_last_block(
    folder: Path, client: Client, page: Path
) -> None:
    program = folder / f"{page.stem}.py"
    here = [block for block in _to_run("python") if block.page == page]
    parts = [one.marks.get("before", "") + "\n" + one.text for one in here]
    parts = [f"{part}\n{one.marks.get('after', '')}" for part, one in zip(parts, here, strict=True)]
    program.write_text("\n".join([BEGINNING, *parts]))
    _run([sys.executable, "-W", "error", str(program)], folder)


@pytest.mark.parametrize("block", _to_run(*SHELLS), ids=str)
def test_what_is_to_be_typed_does_what_it_is_typed_for(
    folder: Path, client: Client, block: Block
) -> None:
    typed = commands_of(block)
    if "| jq " in typed and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    for word, name in _names(client).items():
        typed = re.sub(rf"\b{word}\b", name, typed)
    script = f"set -e\n{block.marks.get('before', '')}\n{typed}"
    argv = [SHELLS[block.language], "-c", script]
    if said := block.marks.get("until"):
        _run_until(said, argv, folder)
    else:
        _run(argv, folder)


def _run_until(said: str, argv: list[str], folder: Path) -> None:
    """Start what runs until it is stopped, wait for what it says, and stop it."""
    shown = folder / "shown"
    with (
        shown.open("w") as output,
        subprocess.Popen(
            argv,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as running,
    ):
        try:
            is_said = wait_until(lambda: said in shown.read_text(), timeout=SOON)
            running.terminate()
            code = running.wait(timeout=WITHIN)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert is_said and code in ENDED, f"{code}: {shown.read_text()}"


@pytest.mark.parametrize("block", _to_run("sql"), ids=str)
def test_the_sql_of_a_page_is_taken_by_a_database(
    postgres_server: EmbeddedPostgres, migrated_template: str, block: Block
) -> None:
    """As its superuser, and taken back: in an empty one where it says how to prepare one."""
    template = "template1" if "CREATE SCHEMA" in block.text else migrated_template
    with (
        fresh_database(postgres_server, template) as url,
        psycopg.connect(url) as connection,
    ):
        connection.execute(block.text.encode())
        connection.rollback()


def test_the_program_of_the_readme_says_what_stands_below_it(folder: Path, client: Client) -> None:
    program, shown = [*blocks_of(ROOT / "README.md")][:2]
    said = _run([sys.executable, "-c", program.text], folder)
    assert _told(said) == _told(shown.text)


def _told(text: str) -> list[str]:
    """Return the lines without what depends on the moment: how far it is, the mock's first word."""
    text = re.sub(r"^(queued|running|succeeded)$", "queued", text, flags=re.MULTILINE)
    return re.sub(r"\w+\. You said", "….  You said", text).splitlines()

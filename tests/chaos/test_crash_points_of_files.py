"""A process that is killed between any two lines of keeping, using and deleting files.

Whatever it leaves behind, upkeep finds: no bytes that nobody knows, no row without bytes, no quota
that is never given back.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest
from sqlalchemy import delete, func, select, update

from tests import rows
from tests.forked import fork
from turnmill.domain.content import Message
from turnmill.domain.errors import AttachmentNotFound, AttachmentRefused
from turnmill.domain.ids import TurnId
from turnmill.files.folder import Folder
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.line.accept import accept
from turnmill.store.line.attached import use
from turnmill.store.nouns import sessions
from turnmill.store.records import NewTurn
from turnmill.store.schema import migrate
from turnmill.store.schema.file_tables import attachment_uses, attachments, file_usage
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.types import db_now
from turnmill.sync.attachments import Attachments
from turnmill.verbs.attachments import as_part
from turnmill.verbs.verb import Verb
from turnmill_worker.process.tidying import Tidying

pytestmark = pytest.mark.long

T = TypeVar("T")

KILLS = 200
#: What is stepped through: every line of these is a place to die at.
STEPPED = (
    *("files/folder.py", "files/storing.py", "nouns/attachments.py", "line/attached.py"),
    *("sync/attachments.py", "process/tidying.py", "store/database.py"),
)


class Stepper:
    """Counts lines, and dies at one of them."""

    def __init__(self, last: int | None) -> None:
        self.lines = 0
        self._last = last

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename.endswith(STEPPED) else None

    def _line(self, _frame: FrameType, event: str, _: Any) -> Any:
        self.lines += event == "line"
        if self.lines == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._line


class Alone:
    """As much of an executor as attachments need, without anything that runs beside it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.settings = Settings(files_url=str(folder))
        self.files = Folder(folder)

    def run(self, verb: Verb[T]) -> T:
        run = self.database.run if verb.atomic else self.database.run_single
        return run(verb.on).result


def live(alone: Alone) -> None:
    """Do all that is done with files, one after the other."""
    store = alone.database
    files = Attachments(alone)  # type: ignore[arg-type]
    one = files.put(b"one " * 100_000, user_id="ada", name="a.txt")
    assert files.put(b"one " * 100_000, user_id="ada") == one
    session = rows.start(store)
    turn = NewTurn(id=TurnId(new_id()), messages=(Message("user", (as_part(one),)),))
    with store.begin() as conn:
        accept(conn, session, turn)
        use(conn, session, turn.id, [one.id])
    with pytest.raises(AttachmentRefused):
        files.put(b"two " * 200_000 + b"\0", user_id="ada")
    files.delete(files.put(b"three", user_id="ada"))
    with store.begin() as conn:
        sessions.remove(conn, session)
    tidying = Tidying(store, alone.settings)
    tidying.tidy()
    tidying.sweep()
    with pytest.raises(AttachmentNotFound):
        files.get(one)


def in_a_child(work: Callable[[], Any]) -> bool:
    """Do it in a child; tell whether it came to its end."""
    pid = fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the edge of the child
            os._exit(3)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def fresh(url: str, folder: Path) -> Alone:
    return Alone(Database(url, pool_size=1, overflow=0), folder)


def stepped(url: str, folder: Path, last: int) -> bool:
    def work() -> None:
        sys.settrace(Stepper(last))
        live(fresh(url, folder))

    return in_a_child(work)


@pytest.fixture(params=["postgres", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        yield request.getfixturevalue("database_url")
        return
    made = f"sqlite:///{tmp_path / 'turns.db'}"
    migrate.upgrade(made)
    yield made


def tidied(alone: Alone) -> None:
    """Let time pass, end all sessions, and do what upkeep does."""
    with alone.database.begin() as conn:
        for session in conn.scalars(select(session_rows.c.id)).all():
            sessions.remove(conn, session)
        due = attachments.c.due_at.is_not(None)
        conn.execute(update(attachments).where(due).values(due_at=db_now()))
    for path in Path(alone.settings.files_url).rglob("*"):
        os.utime(path, (0, 0))
    Tidying(alone.database, alone.settings).sweep()


def assert_nothing_is_left(alone: Alone, last: int) -> None:
    with alone.database.begin() as conn:
        for table in (attachments, attachment_uses, file_usage):
            assert conn.scalar(select(func.count()).select_from(table)) == 0, (table.name, last)
    left = [path for path in Path(alone.settings.files_url).rglob("*") if path.is_file()]
    assert left == [], last


def test_killed_between_any_two_lines_nothing_is_left_that_upkeep_does_not_find(
    url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    whole = Stepper(None)
    alone = fresh(url, folder)
    sys.settrace(whole)
    try:
        live(alone)
    finally:
        sys.settrace(None)
    assert whole.lines > KILLS // 2
    survived = 0
    for n in range(KILLS // 2):
        last = 1 + n * whole.lines // (KILLS // 2)
        survived += stepped(url, folder, last)
        tidied(alone)
        assert_nothing_is_left(alone, last)
    assert survived < KILLS // 20
    alone.database.close()


def test_the_test_would_see_what_is_left(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    alone = fresh(url, folder)
    Attachments(alone).put(b"one", user_id="ada")  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        assert_nothing_is_left(alone, 0)
    with alone.database.begin() as conn:
        conn.execute(delete(attachments))
        conn.execute(delete(file_usage))
    with pytest.raises(AssertionError):
        assert_nothing_is_left(alone, 0)
    tidied(alone)
    assert_nothing_is_left(alone, 0)
    alone.database.close()

"""Whether files can be kept where they are to be, and whether those that are known are there."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Findings, note, ok, wrong
from turnmill.show.wording import count

if TYPE_CHECKING:
    from turnmill.files.port import FileStore
    from turnmill.store.database import Database
    from turnmill.store.file_records import Attachment

#: Attachments that are looked at, the newest first.
_SAMPLE = 200
_PROBE = b"turnmill doctor"
#: Whose file that is: no user has this name.
_NOBODY = "\0turnmill doctor"
_FIX = "TURNMILL_FILES_URL; what keeps it from being read and written is in the error"


class _Plain:
    """Stands beside a file store in which a file of nobody's is written."""

    keys = None


def check_files(examination: Examination) -> Findings:
    """Whether the file store takes a file and gives it back, and has those that rows know of."""
    from turnmill.domain.errors import FilesUnavailable
    from turnmill.files.opened import file_store

    database, settings = examination.database, examination.settings
    known = [] if database is None else _newest(database)
    if not known and not settings.files_url:
        return  # nobody has given any: there may be no folder yet
    if settings.files_url == "memory://":
        yield note(
            "files are kept in memory: they are gone with each process", code="files_in_memory"
        )
        return
    store = file_store(settings, beside=_Plain(), lasting=True)
    try:
        _try(store)
        missing = [one for one in known if not _is_there(store, one)]
    except FilesUnavailable as error:
        yield wrong(str(error), error.hint or _FIX, code=error.code)
        return
    yield ok(f"a file can be kept, read and deleted; {count(len(known), 'attachment')} looked for")
    if missing:
        users = len({one.user_id for one in missing})
        what = f"{len(missing)} of {count(len(known), 'attachment')} have no bytes here"
        yield wrong(
            f"{what}, of {count(users, 'user')}",
            "is this the file store of this database (TURNMILL_FILES_URL, TURNMILL_HOME)? else put"
            " its backup back; `turnmill files rm ID` forgets one",
            code="files_missing",
        )


def _newest(database: Database) -> list[Attachment]:
    from turnmill.store.nouns import attachments

    return database.run(attachments.find, user_id=None, limit=_SAMPLE)


def _try(store: FileStore) -> None:
    """Keep a file, read it and delete it; raises FilesUnavailable."""
    from turnmill.domain.errors import FilesUnavailable
    from turnmill.files.port import MissingBytes
    from turnmill.new_ids import new_id
    from turnmill.store.file_records import key_of

    key = key_of(_NOBODY, new_id())  # what is left of it, upkeep finds
    try:
        store.put(key, [_PROBE])
        read = b"".join(store.chunks(key))
    except MissingBytes:
        read = b""
    finally:
        with suppress(FilesUnavailable):
            store.delete(key)
    if read != _PROBE:
        raise FilesUnavailable("the file store does not give back what it was given")


def _is_there(store: FileStore, one: Attachment) -> bool:
    from turnmill.store.file_records import key_of

    return store.size(key_of(one.user_id, one.id)) is not None

"""What a caller hands in as a file: a path, bytes, an open file, or a URL."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any, BinaryIO

from turnmill.domain.errors import AttachmentRefused, InvalidInput
from turnmill.domain.plain import text_of
from turnmill.files.port import CHUNK, FileStore, Found
from turnmill.files.storing import Storing, too_large
from turnmill.net.fetching import Fetched, fetch
from turnmill.net.public_address import Reach
from turnmill.settings import Settings

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_LONGEST_NAME = 200
_SOURCES = "a path, bytes, a file open for reading bytes, or a URL"


@dataclass(slots=True)
class Arriving:
    """A file that is about to be kept, of a kind that is taken. Close it."""

    storing: Storing
    size: int | None  #: where it is known before it was read
    digest: str  #: a hash of its content, where it can be read twice; empty where not
    _open: Any = field(repr=False)

    def finish(self, store: FileStore, key: str, granted: int) -> Found:
        """Store it. Blocks; see `Storing.finish`."""
        return self.storing.finish(store, key, granted)

    def close(self) -> None:
        """Let go of what was opened for it."""
        if self._open is not None:
            with suppress(OSError):
                self._open.close()


def arriving(source: object, *, name: object, media_type: object, settings: Settings) -> Arriving:
    """Open what a caller hands in and look at its beginning; nothing is kept yet. Blocks.

    Raises InvalidInput, AddressRefused, NotReached or AttachmentRefused.
    """
    given = None if name is None else given_name(name)
    claimed = _claim(media_type)
    if isinstance(source, str) and _SCHEME.match(source):
        return _from_url(source, given, claimed, settings)
    if isinstance(source, bytes | bytearray | memoryview):
        held = BytesIO(memoryview(source))  # of a subclass, what it holds
        return _from_file(held, given or "", claimed, settings, ours=True)
    if isinstance(source, str | os.PathLike):
        file, called = _opened(source)
        return _from_file(file, called if given is None else given, claimed, settings, ours=True)
    if not callable(_asked(source, "read")):
        raise InvalidInput(f"a {type(source).__name__} is no file", hint=_SOURCES)
    theirs: Any = source
    called = _own_name(source) if given is None else given
    return _from_file(theirs, called, claimed, settings, ours=False)


def _from_url(url: str, name: str | None, claimed: str, settings: Settings) -> Arriving:
    fetched: Fetched = fetch(url, reach=Reach.of(settings.fetch_from), most=settings.max_file_bytes)
    called = clean_name(fetched.name) if name is None else name
    storing = Storing(
        fetched.chunks(),
        name=called,
        claimed=claimed or fetched.media_type,
        most=settings.max_file_bytes,
    )
    return _begun(Arriving(storing, fetched.size, "", fetched))


def _from_file(
    file: BinaryIO, name: str, claimed: str, settings: Settings, *, ours: bool
) -> Arriving:
    most = settings.max_file_bytes
    try:
        size, digest = _measured(file, most)
    except BaseException:
        if ours:
            file.close()
        raise
    storing = Storing(_read(file), name=name, claimed=claimed, most=most)
    return _begun(Arriving(storing, size, digest, file if ours else None))


def _begun(new: Arriving) -> Arriving:
    try:
        new.storing.begin()
    except BaseException:
        new.close()
        raise
    return new


def _measured(file: BinaryIO, most: int) -> tuple[int | None, str]:
    """Return the size and the hash of what can be read twice."""
    try:
        start = file.tell() if file.seekable() else None
    except Exception:  # noqa: BLE001
        # The edge to a caller's own kind of file, which may have nothing but `read`.
        start = None
    if start is None:
        return None, ""
    size, content = 0, sha256()
    for piece in _read(file):
        size += len(piece)
        if size > most:
            raise too_large(most)
        content.update(piece)
    try:
        file.seek(start)
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own kind of file.
        raise _unread(error) from None
    return size, content.hexdigest()


def _read(file: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            piece = file.read(CHUNK)
        except Exception as error:  # noqa: BLE001
            # The edge to a caller's own kind of file.
            raise _unread(error) from None
        if piece is None:
            raise InvalidInput("the file has not come yet", hint="one that waits for its bytes")
        if not piece:
            return
        if not isinstance(piece, bytes):
            raise InvalidInput("the file gives text", hint='open it for bytes: open(path, "rb")')
        yield piece


def _unread(error: Exception) -> InvalidInput:
    what = f"the file cannot be read: {type(error).__name__}"
    return InvalidInput(what, hint='open(path, "rb"), or a path')


def _opened(path: "str | os.PathLike[str]") -> tuple[BinaryIO, str]:
    """Open a plain file; a pipe, a device or a folder is none."""
    try:
        where = os.fsdecode(path)
        descriptor = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own kind of path, too.
        raise InvalidInput(f"the file cannot be opened: {_why(error)}", hint=_SOURCES) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AttachmentRefused("a path must be that of a plain file")
    return open(descriptor, "rb"), clean_name(where)


def _why(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else "no path"


def _own_name(file: object) -> str:
    return clean_name(text_of(_asked(file, "name")) or "")


def _asked(file: object, name: str) -> Any:
    """Return what a file says of itself; None where it has no such thing, or raises an error."""
    try:
        return getattr(file, name, None)
    except Exception:  # noqa: BLE001
        return None  # the edge to a caller's own kind of file


def _claim(media_type: object) -> str:
    if media_type is None:
        return ""
    # Browsers say more behind it: audio/webm;codecs=opus.
    if not isinstance(media_type, str) or not re.fullmatch(
        r"[\w.+-]{1,60}/[\w.+-]{1,60} *(;[ -~]{0,200})?", media_type
    ):
        raise InvalidInput(
            "media_type must be a type, such as image/png", hint="leave it out: its bytes tell"
        )
    return str.__str__(media_type)


def given_name(name: object) -> str:
    """Return the name that a caller gives a file; raises AttachmentRefused for a path."""
    if not isinstance(name, str):
        raise InvalidInput(f"name must be a str, not {type(name).__name__}", hint='name="a.pdf"')
    text = str.__str__(name)
    if text != clean_name(text):
        raise AttachmentRefused(
            "the name of a file is no path, and can be printed",
            hint=f"up to {_LONGEST_NAME} characters, without / and \\",
        )
    return text


def clean_name(path: str) -> str:
    """Return the last part of a path, without what cannot be printed; empty where none is left."""
    last = re.split(r"[/\\]", path)[-1]
    name = "".join(one for one in last if one.isprintable()).strip()[:_LONGEST_NAME].strip()
    return "" if not name.strip(". ") else name

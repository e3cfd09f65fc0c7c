"""Fetching what a URL leads to: from public addresses, within bounds of size, time and patience."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urljoin

from turnmill.domain.errors import AddressRefused, AttachmentRefused, NotReached
from turnmill.net.public_address import Reach, Target, target_of

MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
#: All of it, from the first name that is looked up to the last byte.
WITHIN = 60.0
#: To a connection, and between two pieces of an answer.
_PATIENCE = 10.0
_PIECE = 64 * 1024
_HEADERS = {
    "User-Agent": "turnmill",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # what unpacks to more than it is, is not even asked for
    "Connection": "close",
}


@dataclass(slots=True)
class Fetched:
    """An answer whose body is yet to come. Close it, or use it in `with`."""

    media_type: str  #: as the server says
    size: int | None  #: as it says; None: it does not
    name: str = field(repr=False)  #: the last part of the URL's path
    _answer: http.client.HTTPResponse = field(repr=False)
    _line: "_Line" = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body; raises NotReached where it is cut off, or does not come in time."""
        left = self.size
        while True:
            with _as_ours():
                piece = self._answer.read(_PIECE)
            if not piece:
                break
            left = None if left is None else left - len(piece)
            yield piece
        if self._line.cut or (left is not None and left > 0):
            raise NotReached("the file does not come whole, or not in time")

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def fetch(url: object, *, reach: Reach, most: int, within: float = WITHIN) -> Fetched:
    """Ask for what the URL leads to, and return it where the server has it. Blocks.

    Redirects are followed up to three times, each after the same look at where it leads. Raises
    AddressRefused, NotReached, or AttachmentRefused for an answer of more than `most` bytes.
    """
    until = monotonic() + within
    target = target_of(url)
    where = str(url)
    for _ in range(MOST_REDIRECTS + 1):
        line = _Line(target, reach, until)
        try:
            answer = line.ask()
            if answer.status not in _REDIRECTS:
                return _found(answer, line, target, most)
            where = urljoin(where, answer.headers.get("Location", ""))
        except BaseException:
            line.close()
            raise
        line.close()
        before, target = target, target_of(where)
        if before.scheme == "https" and target.scheme != "https":
            raise AddressRefused("a redirect leads from https to http")
    raise NotReached(f"the URL redirects more than {MOST_REDIRECTS} times")


def _found(answer: http.client.HTTPResponse, line: "_Line", target: Target, most: int) -> Fetched:
    if answer.status != 200:
        raise NotReached(f"the server answers {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise AttachmentRefused("the server sends the file packed", hint="fetch it yourself")
    size = answer.length
    if size is not None and size > most:
        raise AttachmentRefused(f"the file is larger than {most} bytes")
    name = unquote(target.path.partition("?")[0].rpartition("/")[2])
    return Fetched(answer.headers.get("Content-Type", ""), size, name, answer, line)


class _Line:
    """One connection, which is cut when its time is over, whatever the other end does."""

    cut = False

    def __init__(self, target: Target, reach: Reach, until: float) -> None:
        self._target = target
        left = until - monotonic()
        if left <= 0:
            raise NotReached("it does not answer in time")
        self._socket = reach.connect(target, timeout=min(left, _PATIENCE))
        self._timer = threading.Timer(max(until - monotonic(), 0.0), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def ask(self) -> http.client.HTTPResponse:
        """Send the request, and read the answer up to its body."""
        target = self._target
        connection = http.client.HTTPConnection(target.host, target.port)
        with _as_ours():
            if target.scheme == "https":
                tls = ssl.create_default_context()
                self._socket = tls.wrap_socket(self._socket, server_hostname=target.host)
            connection.sock = self._socket
            connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in ({"Host": target.authority} | _HEADERS).items():
                connection.putheader(name, value)
            connection.endheaders()
            return connection.getresponse()

    def close(self) -> None:
        """Hang up."""
        self._timer.cancel()
        with suppress(OSError), closing(self._socket):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        self.cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def _as_ours() -> Iterator[None]:
    """Turn what sockets and HTTP say into an error of ours, which quotes nothing of theirs."""
    try:
        yield
    except ssl.SSLCertVerificationError:
        raise NotReached("the server's certificate is not good") from None
    except (OSError, http.client.HTTPException, ValueError):
        raise NotReached("the server does not answer, or not as servers do") from None

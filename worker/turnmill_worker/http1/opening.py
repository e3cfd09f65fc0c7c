"""Opening a connection: names, addresses, and TLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import aiohappyeyeballs

from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.small_tls import encrypted

_REMEMBERED_S = 10.0  #: a name's addresses
_NEXT_AFTER_S = 0.25  #: one address does not answer: the next one is tried beside it
#: A vendor may be silent for minutes, and what stands between forgets connections by then. So we
#: ask once a minute whether it is there, and give up after five without an answer, as the SDKs do.
_ASKED_AFTER_S = 60
_ASKED = 5

_Address = tuple[Any, Any, int, str, Any]


class Origin(NamedTuple):
    """Where to."""

    host: str
    port: int
    tls: ssl.SSLContext | None


class Opener:
    """Opens connections to one origin, on one event loop."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self._looking: asyncio.Task[Sequence[_Address]] | None = None
        self._addresses: Sequence[_Address] = ()
        self._remembered_until = 0.0

    async def open(self, make: Callable[[], Connection]) -> Connection:
        """Return a connection that `make` made; raises OSError. The caller sets the time limit."""
        addresses = await self._resolved()
        sock = await aiohappyeyeballs.start_connection(
            [*addresses], happy_eyeballs_delay=_NEXT_AFTER_S, interleave=1, loop=self._loop
        )
        ask_whether_it_is_there(sock)
        return await on_socket(
            sock, make(), self._loop, tls=self._origin.tls, name=self._origin.host
        )

    async def _resolved(self) -> Sequence[_Address]:
        """Return the addresses of the name, looked up once for all who open a connection now.

        A look-up cannot be ended: whoever gives up leaves it to those who come next. One of each
        would take the threads of everybody else.
        """
        if self._loop.time() < self._remembered_until:
            return self._addresses
        if self._looking is None:
            self._looking = self._loop.create_task(self._looked_up())
            self._looking.add_done_callback(self._end_looking)
        return await asyncio.shield(self._looking)

    async def _looked_up(self) -> Sequence[_Address]:
        self._addresses = await self._loop.getaddrinfo(
            self._origin.host, self._origin.port, type=socket.SOCK_STREAM
        )
        self._remembered_until = self._loop.time() + _REMEMBERED_S
        return self._addresses

    def _end_looking(self, looking: asyncio.Task[Sequence[_Address]]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # perhaps nobody waits for it any more


def ask_whether_it_is_there(sock: socket.socket) -> None:
    """Let the system see to it that nobody between forgets the connection, and that its end shows.

    Two hours pass before that where nothing is said of it.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for names, value in (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), _ASKED_AFTER_S),
        (("TCP_KEEPINTVL",), _ASKED_AFTER_S),
        (("TCP_KEEPCNT",), _ASKED),
    ):
        known = [getattr(socket, name) for name in names if hasattr(socket, name)]
        with suppress(IndexError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, known[0], value)


async def on_socket(
    sock: socket.socket,
    connection: Connection,
    loop: asyncio.AbstractEventLoop,
    *,
    tls: ssl.SSLContext | None,
    name: str,
) -> Connection:
    """Let the connection be one on a socket that is connected, and return it; raises OSError.

    The socket is the transport's from here on, whatever comes of it. Closed under it, the transport
    would stand in the way of whoever gets a socket of that number next.
    """
    if tls is None:
        await loop.create_connection(lambda: connection, sock=sock)
    else:
        await encrypted(loop, sock, connection, tls, name)
    return connection

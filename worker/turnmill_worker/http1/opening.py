"""Opening a connection: names, addresses, and TLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohappyeyeballs

from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.small_tls import small_buffers

_REMEMBERED_S = 10.0  #: a name's addresses
_NEXT_AFTER_S = 0.25  #: one address does not answer: the next one is tried beside it

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
        self._one_at_a_time = asyncio.Lock()
        self._addresses: Sequence[_Address] = ()
        self._remembered_until = 0.0

    async def open(self, make: Callable[[], Connection]) -> Connection:
        """Return a connection that `make` made; raises OSError. The caller sets the time limit."""
        addresses = await self._resolved()
        sock = await aiohappyeyeballs.start_connection(
            [*addresses], happy_eyeballs_delay=_NEXT_AFTER_S, interleave=1, loop=self._loop
        )
        made: list[Connection] = []

        def made_here() -> Connection:
            made.append(make())
            return made[0]

        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with small_buffers():
                _, connection = await self._loop.create_connection(
                    made_here,
                    sock=sock,
                    ssl=self._origin.tls,
                    server_hostname=self._origin.host if self._origin.tls else None,
                )
        except BaseException:
            if made:
                # The socket is the transport's by now. Closed under it, the transport would stand
                # in the way of whoever gets a socket of that number next.
                made[0].close()
            else:
                sock.close()
            raise
        return connection

    async def _resolved(self) -> Sequence[_Address]:
        """Return the addresses of the name, looked up once for all who open a connection now."""
        async with self._one_at_a_time:
            if self._loop.time() >= self._remembered_until:
                self._addresses = await self._loop.getaddrinfo(
                    self._origin.host, self._origin.port, type=socket.SOCK_STREAM
                )
                self._remembered_until = self._loop.time() + _REMEMBERED_S
        return self._addresses

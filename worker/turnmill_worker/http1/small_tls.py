"""TLS connections that read into one buffer of 16 KiB, where asyncio's hold 256 KiB each.

asyncio's `SSLProtocol` allocates its buffer when it is made and keeps it as long as the connection:
most of what a call in flight holds. Neither its size nor its class can be given to
`create_connection`, `start_tls` or aiohttp, so the class is exchanged once for a subclass that
asks a context variable: connections that are opened within `small_buffers` share a buffer with all
others of their thread, and those of everybody else are as they were.

It can be shared since what is read leaves it at once: an event loop asks for a buffer, fills it,
and has its bytes taken over by OpenSSL, before it turns to any other connection.

OpenSSL has buffers of 16 KiB, too, and lets go of each when it has been emptied. Only the tickets
of TLS 1.3, which a server sends behind the handshake, leave one for writing that nothing is written
into until the next request; writing nothing lets go of it, and sends nothing.
"""

import ssl
import threading
from asyncio import sslproto
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

#: One TLS record: no read ever yields more.
SMALL = 16 * 1024

_shares: ContextVar[bool] = ContextVar("turnmill_shares_tls_buffer", default=False)


class _OfThread(threading.local):
    """What all event loops of a thread read into."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(SMALL))


_of_thread = _OfThread()


class SharingSSLProtocol(sslproto.SSLProtocol):
    """asyncio's own, without a buffer to itself where its context says so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._shares = _shares.get()
        if self._shares:
            self.max_size = 0  # type: ignore[misc]  # of the class, as asyncio's stubs have it
        super().__init__(*args, **kwargs)  # which makes its buffer of that size
        if self._shares:
            self.max_size = SMALL  # type: ignore[misc]  # of what is read from OpenSSL at once

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake; or hang up, where whoever wanted it has given up before that.

        asyncio's goes on then, with nobody left who would ever close it.
        """
        own: Any = self
        if self._shares and own._app_transport is not None and own._app_transport._closed:
            transport.abort()
        else:
            super().connection_made(transport)

    def get_buffer(self, n: int) -> Any:
        """Return what is read into next; `buffer_updated` follows before anything else does."""
        if not self._shares:
            return super().get_buffer(n)
        self._ssl_buffer_view = _of_thread.buffer
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read; leave no buffer behind that nobody writes into."""
        super().buffer_updated(nbytes)
        own: Any = self  # asyncio's stubs do not know its state
        is_open = own._state is sslproto.SSLProtocolState.WRAPPED
        if self._shares and is_open and not own._write_backlog:
            with suppress(ssl.SSLError):
                own._sslobj.write(b"")


@contextmanager
def small_buffers() -> Iterator[None]:
    """Let connections that are opened in here, by this task, share a small buffer."""
    if not issubclass(sslproto.SSLProtocol, SharingSSLProtocol):
        sslproto.SSLProtocol = SharingSSLProtocol  # type: ignore[misc]
    token = _shares.set(True)
    try:
        yield
    finally:
        _shares.reset(token)

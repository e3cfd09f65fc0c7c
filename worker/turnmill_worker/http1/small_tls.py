"""TLS connections that hold 16 KiB to read into, where asyncio's would hold 256 KiB.

asyncio's `SSLProtocol` allocates its buffer when it is made and keeps it as long as the connection:
most of what a call in flight holds. Neither its size nor its class can be given to
`create_connection`, `start_tls` or aiohttp, so the class is exchanged once for a subclass that
reads its size from a context variable: connections that are opened within `small_buffers` get the
small one, all others of the process are as they were.
"""

from asyncio import sslproto
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: One TLS record: no read ever yields more.
SMALL = 16 * 1024

_size: ContextVar[int] = ContextVar("turnmill_tls_buffer", default=sslproto.SSLProtocol.max_size)


class SizedSSLProtocol(sslproto.SSLProtocol):
    """asyncio's own, with a buffer as large as its context asks for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # First, since the buffer is made of it.
        self.max_size = _size.get()  # type: ignore[misc]  # of the class, as asyncio's stubs have it
        super().__init__(*args, **kwargs)


@contextmanager
def small_buffers() -> Iterator[None]:
    """Give connections that are opened in here, by this task, a small buffer."""
    if not issubclass(sslproto.SSLProtocol, SizedSSLProtocol):
        sslproto.SSLProtocol = SizedSSLProtocol  # type: ignore[misc]
    token = _size.set(SMALL)
    try:
        yield
    finally:
        _size.reset(token)

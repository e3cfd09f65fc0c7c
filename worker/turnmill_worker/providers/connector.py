"""aiohttp's connections as our own are: little memory with TLS, and lengths that are said twice.

Nothing of how a TLS connection is read can be given to aiohttp; so asyncio's class for it is
exchanged once, as soon as anybody goes through a proxy, for one that asks a context variable.
Connections of everybody else are as they were.
"""

import socket
from asyncio import sslproto
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from turnmill_worker.http1.heads import Heads
from turnmill_worker.http1.opening import ask_whether_it_is_there
from turnmill_worker.http1.small_tls import SharingSSLProtocol

_shares: ContextVar[bool] = ContextVar("turnmill_shares_tls_buffer", default=False)
_Theirs: Any = sslproto.SSLProtocol


class _EitherSSLProtocol(_Theirs):  # type: ignore[misc]
    """Stands for asyncio's; makes one of it, or of ours."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not _EitherSSLProtocol:
            return super().__new__(cls)  # somebody's own
        return (SharingSSLProtocol if _shares.get() else _Theirs)(*args, **kwargs)


@contextmanager
def small_buffers() -> Iterator[None]:
    """Let connections that asyncio opens in here, for this task, share a small buffer."""
    if sslproto.SSLProtocol is _Theirs:
        sslproto.SSLProtocol = _EitherSSLProtocol  # type: ignore[misc]
    token = _shares.set(True)
    try:
        yield
    finally:
        _shares.reset(token)


class Connector(aiohttp.TCPConnector):
    """Opens connections."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(socket_factory=_socket, **kwargs)
        self._factory: Any = partial(_Handler, loop=self._loop)

    # Not `connect`: most calls take a connection that is open already, and need no buffer.
    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        with small_buffers():
            return await super()._create_connection(*args, **kwargs)


class Unreadable(aiohttp.ClientError):
    """Something came that is no HTTP."""


class _Handler(ResponseHandler):
    _heads: Heads | None = None  #: of the answer that is awaited

    def set_response_params(self, **kwargs: Any) -> None:
        self._heads = Heads()
        super().set_response_params(**kwargs)

    def data_received(self, data: bytes) -> None:
        if data and self._heads is not None:
            data = self._heads.take(data)
            if not data:
                return
            if self._heads.mended:
                self.force_close()
        super().data_received(data)
        payload = self._payload
        # Nobody tells whoever reads the body that what has come is none: he would wait for more.
        if self.exception() is not None and payload is not None and not payload.is_eof():
            payload.set_exception(Unreadable())


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    sock = socket.socket(*address[:3])
    ask_whether_it_is_there(sock)
    return sock

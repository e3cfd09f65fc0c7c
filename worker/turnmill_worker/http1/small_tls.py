"""TLS connections that read into one buffer of 16 KiB, where asyncio's hold 256 KiB each.

asyncio's `SSLProtocol` allocates its buffer when it is made and keeps it as long as the connection:
most of what a call in flight holds. Neither its size nor its class can be given to
`create_connection`; so `encrypted` runs a subclass of it on a plain transport, of whatever event
loop. Its instances share a buffer with all others of their thread; other connections of the
process are as they were.

It can be shared since what is read leaves it at once: an event loop asks for a buffer, fills it,
and has its bytes taken over by OpenSSL, before it turns to any other connection.

OpenSSL has buffers of 16 KiB, too, and lets go of each when it has been emptied. Only the tickets
of TLS 1.3, which a server sends behind the handshake, leave one for writing that nothing is written
into until the next request; writing nothing lets go of it, and sends nothing. What it has encrypted
it puts into memory that never shrinks; so a small request goes through it in small records, and
what it became is taken out after each. What it is to decrypt it is given in pieces, for the same
reason.
"""

import asyncio
import socket
import ssl
import threading
from asyncio import sslproto
from contextlib import suppress
from typing import Any, cast

from turnmill_worker.http1.remains import unread

#: One TLS record: no read ever yields more.
SMALL = 16 * 1024
#: What is smaller than a record is written in pieces of this size: 22 bytes more for each.
_PIECE = 1024
#: OpenSSL is given so much at once of what was read: whole answers, mostly.
_GIVEN = 4 * 1024
#: Where the system knows it: what has come is acknowledged now, not with what we send next.
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
#: What OpenSSL raises where it has to hear something from the other side first.
_AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)
#: What asyncio's keeps for each connection, as it stands in Python 3.11 to 3.13. They are too many
#: to share their names with other instances; in slots they take a quarter. One that is missing
#: here works as well.
_KEPT = (
    "_app_protocol",
    "_app_protocol_is_buffer",
    "_app_reading_paused",
    "_app_state",
    "_app_transport",
    "_app_transport_created",
    "_app_writing_paused",
    "_conn_lost",
    "_eof_received",
    "_extra",
    "_handshake_start_time",
    "_handshake_timeout_handle",
    "_incoming",
    "_incoming_high_water",
    "_incoming_low_water",
    "_loop",
    "_outgoing",
    "_outgoing_high_water",
    "_outgoing_low_water",
    "_server_hostname",
    "_server_side",
    "_shutdown_timeout_handle",
    "_ssl_buffer",
    "_ssl_buffer_view",
    "_ssl_handshake_timeout",
    "_ssl_reading_paused",
    "_ssl_shutdown_timeout",
    "_ssl_writing_paused",
    "_sslcontext",
    "_sslobj",
    "_state",
    "_transport",
    "_waiter",
    "_write_backlog",
    "_write_buffer_size",
    "max_size",
)


class _OfThread(threading.local):
    """What all event loops of a thread read into."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(SMALL))


_of_thread = _OfThread()


_Theirs: Any = sslproto.SSLProtocol  # whose stubs do not know its state


class SharingSSLProtocol(_Theirs):  # type: ignore[misc]
    """asyncio's own, without a buffer to itself."""

    __slots__ = (*_KEPT, "_has_spoken")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Of the class in asyncio's, which a slot hides.
        self._handshake_start_time = self._handshake_timeout_handle = None
        self._shutdown_timeout_handle = None
        self.max_size = 0
        super().__init__(*args, **kwargs)  # which makes its buffer of that size
        self.max_size = SMALL  # of what is read from OpenSSL at once
        self._write_backlog: list[Any] = []  # an empty deque takes 700 bytes
        self._has_spoken = False  #: the server, of what it was asked

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake; or hang up, where whoever wanted it has given up before that.

        asyncio's goes on then, with nobody left who would ever close it.
        """
        if transport.is_closing() or self._app_transport._closed:
            transport.abort()
        else:
            super().connection_made(transport)

    def connection_lost(self, exc: Any) -> None:
        """Read what had come before it was lost, which asyncio's lets go."""
        if exc is not None and self._is_open:
            for data in unread(self._transport):
                self._incoming.write(data)
                self._do_read()
        super().connection_lost(exc)

    def get_buffer(self, n: int) -> Any:
        """Return what is read into next; `buffer_updated` follows before anything else does."""
        self._ssl_buffer_view = _of_thread.buffer
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read; leave no buffer behind that nobody writes into."""
        if not self._has_spoken:
            self._acknowledge()
        read = self._ssl_buffer_view[:nbytes]
        for start in range(0, nbytes, _GIVEN):
            self._ssl_buffer_view = read[start : start + _GIVEN]
            super().buffer_updated(len(self._ssl_buffer_view))
        if self._is_open and not self._write_backlog:
            with suppress(ssl.SSLError):
                self._sslobj.write(b"")

    def resume_writing(self) -> None:
        """Go on with what was not encrypted while the socket took no more."""
        super().resume_writing()
        if self._write_backlog and self._is_open:
            self._do_write()

    def _acknowledge(self) -> None:
        """Tell the server at once what we have got: its tickets, perhaps.

        One that does not ask for TCP_NODELAY holds back what it says next until it knows. It may
        refuse a request that we are still sending, and hang up on the rest: what it has held back
        never leaves then.
        """
        if self._transport is not None and _QUICKACK is not None:
            with suppress(OSError):
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    @property
    def _is_open(self) -> bool:
        return bool(self._state is sslproto.SSLProtocolState.WRAPPED)

    def _on_handshake_complete(self, handshake_exc: Any) -> None:
        super()._on_handshake_complete(handshake_exc)
        self._extra.pop("peercert", None)  # it was verified, and nobody asks for its names

    def _do_read__copied(self) -> None:
        """Hand over what was decrypted, at once: what cannot be comes behind it.

        asyncio's forgets a whole answer that an alert, or nonsense, has come in one piece with.
        """
        with suppress(*_AGAIN):
            while not self._app_reading_paused:
                data = self._sslobj.read(self.max_size)
                if not data:
                    self._call_eof_received()
                    self._start_shutdown()
                    return
                self._has_spoken = True
                self._app_protocol.data_received(data)  # which may want no more of it now

    def _fatal_error(self, *args: Any) -> None:
        """Hang up; nobody takes it for open until the loop comes to that."""
        if self._app_transport is not None:
            self._app_transport._closed = True
        super()._fatal_error(*args)

    def _do_write(self) -> None:
        """Encrypt what is to be written, and hand it over; nothing is left with OpenSSL."""
        sealed: list[bytes] = []
        with suppress(*_AGAIN):
            # What is left when the connection ends is encrypted in any case: its end comes behind.
            while self._write_backlog and not (self._ssl_writing_paused and self._is_open):
                self._write_piece()
                sealed.append(self._outgoing.read())
        if sealed:
            self._transport.write(b"".join(sealed))
            if self._transport.is_closing() and self._app_transport is not None:
                self._app_transport._closed = True  # nobody goes on writing to it
        self._process_outgoing()

    def _write_piece(self) -> None:
        backlog = self._write_backlog
        most = SMALL if self._write_buffer_size >= SMALL else _PIECE
        data = memoryview(backlog[0])
        count = self._sslobj.write(data[:most])
        self._write_buffer_size -= count
        if count < len(data):
            backlog[0] = data[count:]
        else:
            del backlog[0]


async def encrypted(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    name: str,
) -> asyncio.Transport:
    """Connect the protocol by TLS on a socket that is connected, and return what it writes to.

    Raises OSError, and ValueError for a name that is none.
    `name` is whom the certificate has to be of. The socket is the transport's from here on.
    """
    waiter: asyncio.Future[None] = loop.create_future()
    try:
        tls = SharingSSLProtocol(loop, protocol, context, waiter, server_hostname=name)
    except BaseException:
        sock.close()  # the name is none
        raise
    app_transport = cast(asyncio.Transport, tls._app_transport)
    try:
        await loop.create_connection(lambda: tls, sock=sock)
        await waiter
    except BaseException:
        app_transport.abort()
        raise
    return app_transport

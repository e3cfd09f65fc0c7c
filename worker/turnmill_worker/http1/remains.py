"""What had come on a connection before it was lost, and nobody has read."""

import asyncio
import os
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from contextlib import suppress

_PIECE = 64 * 1024


def unread(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """Yield the bytes that stand in the socket of a transport, as long as that is open.

    A loop that is told of a failed write closes the socket, and would read no more of it: a server
    that answers early, and hangs up on the rest of a request, has said something all the same.
    """
    sock = transport.get_extra_info("socket")
    if not isinstance(sock, TransportSocket):
        return  # of another loop than asyncio's: its number may be somebody else's by now
    with suppress(OSError):
        while sock.fileno() >= 0 and (data := os.read(sock.fileno(), _PIECE)):
            yield data

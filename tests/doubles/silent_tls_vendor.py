"""A vendor behind TLS that takes requests and never answers: `… CERTIFICATE KEY`, as a process.

Its first line is the port; then comes one line for each request that has arrived.
"""

import asyncio
import ssl
import sys
from contextlib import suppress


async def serve(certificate: str, key: str) -> None:
    """Listen on 127.0.0.1 until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(_take, "127.0.0.1", 0, ssl=context, backlog=1000)
    _say(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        _say("request")
        await reader.read()
    writer.close()


def _say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

"""One request to somebody's address: to what was looked at, and to nothing that it points to."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import aiohappyeyeballs

from turnmill.domain.errors import AddressRefused, NotReached
from turnmill.net.public_address import Address, Target, target_of
from turnmill.store.hook_records import Sent
from turnmill_worker.http1.connection import Connection
from turnmill_worker.http1.failures import Failure
from turnmill_worker.http1.opening import on_socket
from turnmill_worker.http1.reading import Bounds
from turnmill_worker.providers.failures import retry_after
from turnmill_worker.webhooks.names import Names
from turnmill_worker.webhooks.signing import Signed

#: Of all that a request takes: looking up, connecting, TLS, and until the answer has a status.
TIMEOUT = 15.0
_MOST_ADDRESSES = 4
#: Of an address that does not answer: the next one is tried beside it.
_NEXT_AFTER_S = 0.25
_GONE = 410
#: Of an answer its head is read, and no more: the status says it.
_BOUNDS = Bounds(body=64 * 1024, refusal=64 * 1024, large=64 * 1024)


async def send(url: str, request: Signed, names: Names, *, timeout: float = TIMEOUT) -> Sent:
    """Post it once, and return what came of that; raises nothing.

    The name is resolved once, all that it means may be reached, and that is connected to. No
    redirect is followed: where it points to, nobody has asked for.
    """
    began = time.monotonic()
    status, code, wait = None, None, None
    try:
        async with asyncio.timeout(timeout):
            status, wait = await _posted(target_of(url), request, names, timeout=timeout)
    except TimeoutError:
        code = "timeout"
    except (AddressRefused, NotReached) as error:
        code = error.code
    except ssl.SSLError:
        code = "tls"
    except (OSError, Failure) as error:
        code = type(error).__name__
    ok = status is not None and 200 <= status < 300
    if status is not None and not ok:
        code = f"http_{status}"
    took = int((time.monotonic() - began) * 1000)
    return Sent(
        ok=ok, status=status, error_code=code, took_ms=took, gone=status == _GONE, wait=wait
    )


async def _posted(
    target: Target, request: Signed, names: Names, *, timeout: float
) -> tuple[int, timedelta | None]:
    """Return the status, and for how long the address asks not to be tried."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    addresses = await names.addresses_of(target)
    connection = await _connected(target, addresses[:_MOST_ADDRESSES])
    try:
        async with connection.stream(
            _bytes_of(target, request),
            bounds=_BOUNDS,
            silence=timeout,
            deadline=until,
        ) as answer:
            return answer.status, retry_after(answer.headers, now=datetime.now(UTC))
    finally:
        connection.close()


async def _connected(target: Target, addresses: Sequence[Address]) -> Connection:
    """Connect to an address itself, the one that answers; the certificate has to be of the name."""
    loop = asyncio.get_running_loop()
    sock = await aiohappyeyeballs.start_connection(
        [_as_looked_up(one, target.port) for one in addresses],
        happy_eyeballs_delay=_NEXT_AFTER_S,
        loop=loop,
    )
    connection = Connection(loop, lambda _: None, asyncio.Semaphore(1))
    is_tls = target.scheme == "https"
    return await on_socket(sock, connection, loop, tls=_tls() if is_tls else None, name=target.host)


def _as_looked_up(address: Address, port: int) -> tuple[Any, Any, int, str, Any]:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port)


def _bytes_of(target: Target, request: Signed) -> bytes:
    fields: Mapping[str, str] = {
        "Host": target.authority,
        "User-Agent": "turnmill",
        "Content-Type": "application/json",
        "Content-Length": str(len(request.body)),
        "Connection": "close",
        **request.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

"""Ports on loopback."""

import random
import socket

LOOPBACK = "127.0.0.1"

#: Below those that systems give to whoever connects: no connection takes one of these meanwhile.
_LEAST, _MOST = 10_000, 32_000
_TRIES = 100


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` now."""
    with socket.socket() as probe:
        # Servers set this too; without it a port is busy for a minute after its server stopped.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(wanted: int) -> int:
    """Return `wanted` where it is free (and not 0), else one that is, at random.

    Nothing reserves it: whoever asks must be ready to lose it and ask again.
    """
    if wanted and is_free(wanted):
        return wanted
    for _ in range(_TRIES):
        port = random.randint(_LEAST, _MOST)
        if is_free(port):
            return port
    return _given()


def _given() -> int:
    """Return a port that the system picks."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        given: int = probe.getsockname()[1]
    return given

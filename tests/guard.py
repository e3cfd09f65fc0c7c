"""No test talks to anything but this machine: an attempt is an error, in whatever library."""

import os
import sys
from ipaddress import ip_address
from typing import Any

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def forbid_network() -> None:
    """Refuse connections that leave the machine, here; and take the keys away from children."""
    for key in KEYS:
        os.environ.pop(key, None)
    sys.addaudithook(_refuse_to_leave)


def _refuse_to_leave(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _is_here(str(address[0])):
        raise ConnectionRefusedError(f"a test may not connect to {address[0]}")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

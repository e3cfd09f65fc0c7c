"""Which addresses may be reached for a URL that somebody else has given: public ones alone.

A name is resolved once, all that it resolves to is looked at, and what was looked at is what is
connected to: a name that means something else a moment later reaches nothing.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from turnmill.domain.errors import AddressRefused, NotReached
from turnmill.domain.plain import text_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: What `socket.getaddrinfo` does.
Lookup = Callable[..., Sequence[Any]]

PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 2_000
_LONGEST_NAME = 253
_MOST_ADDRESSES = 16
_LOOKUPS = 32  #: at once: a resolver that hangs keeps a thread each

#: The part of IPv6 that is given out; all else is private, reserved, or bears an IPv4 address.
_GIVEN_OUT = ip_network("2000::/3")
#: Not public, whatever the registry calls it.
_REFUSED: Sequence[Network] = tuple(
    ip_network(one)
    for one in (
        "100.64.0.0/10",  # shared by a provider's customers; a cloud's metadata is there, too
        "168.63.129.16/32",  # a cloud's own services, seen from its machines alone
        "192.0.0.0/24",  # protocols
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/4",  # everybody
        "240.0.0.0/4",
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4: bears an IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)

_lookups = threading.BoundedSemaphore(_LOOKUPS)


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL leads to, before its name is resolved."""

    scheme: str  #: http or https
    host: str  #: as a certificate has it: lower case, ASCII, without a dot at the end
    port: int
    path: str = field(repr=False)  #: with its query; what is asked of the host
    literal: Address | None = None  #: the host, where it is an address

    @property
    def authority(self) -> str:
        """Return what the header Host says."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What may be reached: public addresses, and those networks that an operator has named."""

    allowed: Sequence[Network] = ()
    lookup: Lookup = socket.getaddrinfo

    @classmethod
    def of(cls, networks: Sequence[str]) -> "Reach":
        """Return one that reaches these networks, too; raises ValueError for what is none."""
        return cls(allowed=tuple(ip_network(one) for one in networks))

    def require(self, address: Address) -> None:
        """Raise AddressRefused unless the address may be reached."""
        if not is_public(address) and not any(address in one for one in self.allowed):
            raise AddressRefused()

    def resolve(self, target: Target, *, timeout: float) -> list[Address]:
        """Return the addresses of the host, each of which may be reached. Blocks.

        One that may not refuses them all: a name with two faces is not given the choice. Raises
        AddressRefused, or NotReached for a name that nobody knows, or not in time.
        """
        found = [target.literal] if target.literal else _in_time(target, self.lookup, timeout)
        return self.checked(found)

    def look_up(self, target: Target) -> list[Address]:
        """Do what `resolve` does, for as long as the resolver takes: on a thread of its own."""
        return self.checked([target.literal] if target.literal else _found(target, self.lookup))

    def checked(self, addresses: Sequence[Address]) -> list[Address]:
        """Return them where each may be reached; raises AddressRefused."""
        for one in addresses:
            self.require(one)
        return [*addresses]

    def connect(self, target: Target, *, timeout: float) -> socket.socket:
        """Return a connection to one of the host's addresses. Blocks; raises as `resolve` does.

        All of it takes `timeout` at the most. An address that does not answer leaves the others
        their share of what is left.
        """
        until = monotonic() + timeout
        addresses = self.resolve(target, timeout=timeout)[:_MOST_ADDRESSES]
        for tried, address in enumerate(addresses):
            share = (until - monotonic()) / (len(addresses) - tried)
            if share <= 0:
                break
            try:
                made = socket.create_connection((str(address), target.port), timeout=share)
            except OSError:
                continue
            made.settimeout(timeout)
            return made
        raise NotReached("nobody answers there")


def target_of(url: object) -> Target:
    """Return what a URL leads to, or raise AddressRefused.

    Refused, beside what is no URL, are forms that one reader takes for a name and the next for an
    address: numbers that are no four decimal ones, a user and password before the host, blanks,
    backslashes, escapes.
    """
    text = text_of(url)
    if not text or len(text) > _LONGEST_URL:
        raise AddressRefused("a URL must be a str of up to 2,000 characters")
    if any(one <= " " or one in "\\\x7f" or one.isspace() for one in text):
        raise AddressRefused("a URL has neither blanks nor backslashes", hint="escape them with %")
    try:
        text.encode()  # what is no text is nothing that can be kept
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused("the URL cannot be understood") from None
    if parts.scheme not in PORTS:
        raise AddressRefused("only http and https are fetched")
    if "@" in parts.netloc or "%" in parts.netloc:
        raise AddressRefused("a URL may have no user, password or escapes before its path")
    literal, name = _host(host, bracketed="[" in parts.netloc)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(
        scheme=parts.scheme,
        host=name,
        port=_port(port, parts.scheme),
        path=_ascii(path),
        literal=literal,
    )


def is_public(address: Address) -> bool:
    """Tell whether the address is one of everybody's, on the internet."""
    if isinstance(address, IPv6Address):
        if address.scope_id or address not in _GIVEN_OUT:
            return False
    elif not address.is_global:
        return False
    return address.is_global and not any(
        address in one for one in _REFUSED if one.version == address.version
    )


def _port(given: int | None, scheme: str) -> int:
    if given == 0:
        raise AddressRefused("no host listens on port 0")
    return given or PORTS[scheme]


def _ascii(path: str) -> str:
    """Return a path as it is sent: what is no ASCII is escaped."""
    return "".join(
        one if one.isascii() else "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "replace"))
        for one in path
    )


def _host(host: str, *, bracketed: bool) -> tuple[Address | None, str]:
    if bracketed:
        try:
            six = IPv6Address(host)
        except ValueError:
            raise AddressRefused("an address in brackets must be IPv6") from None
        return six, six.compressed
    name = _name(host)
    last = name.rpartition(".")[2]
    if not last.isdecimal() and not last.startswith("0x"):
        return None, name
    try:
        four = ip_address(name)
    except ValueError:
        raise AddressRefused("an address must be four decimal numbers") from None
    return four, str(four)


def _name(host: str) -> str:
    try:
        name = (host if host.isascii() else host.encode("idna").decode()).lower().rstrip(".")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    plain = all(
        label and len(label) <= 63 and all(one.isalnum() or one in "-_" for one in label)
        for label in labels
    )
    if not name or not plain or len(name) > _LONGEST_NAME:
        raise AddressRefused("the URL has no host that can be looked up")
    return name


def _in_time(target: Target, lookup: Lookup, timeout: float) -> list[Address]:
    """Look the name up on a thread, which is left behind where the resolver hangs."""
    found: list[Address] = []
    if not _lookups.acquire(timeout=timeout):
        raise NotReached("names are not looked up in time")

    def look() -> None:
        try:
            found.extend(_found(target, lookup))
        except NotReached:
            found.clear()
        finally:
            _lookups.release()

    thread = threading.Thread(target=look, name="turnmill-lookup", daemon=True)
    thread.start()
    thread.join(timeout)
    addresses = [*found]  # a copy: whoever comes late writes to nobody
    if not addresses:
        raise NotReached("the name cannot be looked up")
    return addresses


def _found(target: Target, lookup: Lookup) -> list[Address]:
    """Return what the resolver says, each address once; raises NotReached. Blocks."""
    try:
        said = lookup(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [ip_address(one[4][0]) for one in said]
    except (OSError, ValueError):
        addresses = []
    if not addresses:
        raise NotReached("the name cannot be looked up")
    return list(dict.fromkeys(addresses))

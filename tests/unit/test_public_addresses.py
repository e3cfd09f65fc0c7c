"""Which addresses may be reached for a URL of somebody else's."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from turnmill.domain.errors import AddressRefused, NotReached
from turnmill.net.public_address import Reach, is_public, target_of

#: One private host in the forms in which it passes for something else, and others like it.
PRIVATE_URLS = [
    *(
        f"http://{host}/"
        for host in ("127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "127.0.0.1.")
    ),
    *(
        f"http://{host}/"
        for host in ("2130706433", "0x7f000001", "0x7F.0x0.0x0.0x1", "017700000001")
    ),
    *(f"http://{host}/" for host in ("0177.0.0.1", "0x7f.1", "00000177.0.0.1", "127.0.0.01")),
    *(f"http://{host}/" for host in ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1")),
    *(f"http://{host}/" for host in ("169.254.169.254", "100.100.100.200", "168.63.129.16")),
    *(f"http://{host}/" for host in ("2852039166", "0xa9fea9fe", "0251.0376.0251.0376")),
    *(f"http://{host}/" for host in ("100.64.0.1", "198.18.0.1", "192.0.0.192", "192.0.2.1")),
    *(f"http://{host}/" for host in ("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1")),
    *(f"http://[{host}]/" for host in ("::1", "::", "0:0:0:0:0:0:0:1", "::127.0.0.1", "ff02::1")),
    *(f"http://[{host}]/" for host in ("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:a9fe:a9fe")),
    *(f"http://[{host}]/" for host in ("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1")),
    *(f"http://[{host}]/" for host in ("2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1")),
    *(f"http://[{host}]/" for host in ("fe80::1", "fe80::1%25eth0", "fc00::1", "fd00:ec2::254")),
    *(f"http://{host}/" for host in ("localhost", "LOCALHOST.", "a.localhost")),
    *(f"http://{host}/" for host in ("user@127.0.0.1", "1.1.1.1@127.0.0.1", "1.1.1.1:80@10.0.0.1")),
    *(
        f"http://{host}/"
        for host in ("%31%32%37.0.0.1", "127.0.0.1%00.a.com", "127.0.0.1%2f.a.com")
    ),
    *(f"http://{host}/" for host in ("１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1")),
    *("http://1.1.1.1\\@127.0.0.1/", "http:\\\\127.0.0.1/", "http://127.0.0.1 /", "http:127.0.0.1"),
    *("file:///etc/passwd", "ftp://1.1.1.1/", "gopher://1.1.1.1/", "unix:///run/x", "data:,x"),
    *("//1.1.1.1/", "http://", "http:///x", "http://1.1.1.1:0/", "http://1.1.1.1:70000/", ""),
]


def answering(*addresses: str) -> Any:
    """Return a lookup by which every name has these addresses."""
    return lambda host, port, **_: [(0, 0, 0, "", (one, port)) for one in addresses]


def as_on_every_machine(host: str, port: int, **_: Any) -> Any:
    return answering("127.0.0.1", "::1")(host, port)


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_a_private_address_is_reached_in_no_form(url: str) -> None:
    with pytest.raises(AddressRefused):
        Reach(lookup=as_on_every_machine).resolve(target_of(url), timeout=1)


def test_there_are_sixty_such_forms() -> None:
    assert len(set(PRIVATE_URLS)) >= 60


def test_half_a_character_in_a_url_is_refused_before_anything_is_kept() -> None:
    with pytest.raises(AddressRefused, match="cannot be understood"):
        target_of("https://a.example/\ud800")


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111"])
def test_everybodys_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_name_with_a_private_face_is_refused_whatever_its_other_face() -> None:
    with pytest.raises(AddressRefused):
        Reach(lookup=answering("1.1.1.1", "10.0.0.1")).resolve(
            target_of("http://two.example/"), timeout=1
        )


def test_what_was_looked_at_is_what_is_connected_to() -> None:
    asked = []

    def once(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return answering("127.0.0.1" if len(asked) == 1 else "10.0.0.1")(host, port)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reach = Reach(lookup=once, allowed=Reach.of(["127.0.0.0/8"]).allowed)
        with reach.connect(target_of(f"http://changing.example:{port}/"), timeout=5) as made:
            assert made.getpeername() == ("127.0.0.1", port)
    assert asked == ["changing.example"]


def test_a_resolver_that_hangs_is_left_behind() -> None:
    import threading

    never = threading.Event()

    def hangs(*_: Any, **__: Any) -> Any:
        never.wait(30)
        return []

    with pytest.raises(NotReached):
        Reach(lookup=hangs).resolve(target_of("http://slow.example/"), timeout=0.05)
    never.set()


def test_a_target_says_what_a_request_needs() -> None:
    target = target_of("https://Ex-ample.COM.:8443/a/ü?b=c")
    assert (target.host, target.port, target.authority) == (
        "ex-ample.com",
        8443,
        "ex-ample.com:8443",
    )
    assert target.path == "/a/%C3%BC?b=c"
    assert target_of("http://[2606:4700::1111]/").authority == "[2606:4700::1111]"

"""Fetching by URL: servers that mean harm are left within bounds of size, time and place."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import pytest

from tests.unit.hostile_files import TAKEN, png
from turnmill import AddressRefused, AttachmentRefused, Client, InvalidInput, NotReached, Settings
from turnmill.net.fetching import fetch
from turnmill.net.public_address import Reach

HERE = Reach.of(["127.0.0.0/8"])
MOST = 1_000_000

Answer = Callable[[socket.socket], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Give the URL of a server that answers so, after it has read what was asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    made, _ = server.accept()
                except OSError:
                    return
                with made, suppress(OSError):
                    made.recv(65_536)
                    answer(made)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/cat.png?size=1"
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def saying(content: bytes, *headers: str, status: str = "200 OK", length: bool = True) -> Answer:
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(content)}")

    def answer(made: socket.socket) -> None:
        made.sendall("\r\n".join([*lines, "", ""]).encode() + content)

    return answer


def without_end(piece: bytes, *headers: str) -> Answer:
    def answer(made: socket.socket) -> None:
        saying(b"", *headers, length=False)(made)
        while True:
            made.sendall(piece)

    return answer


def dripping(beginning: bytes, drop: bytes) -> Answer:
    """Send a drop from time to time, so that no wait for the next one is long."""

    def answer(made: socket.socket) -> None:
        made.sendall(beginning)
        tick = threading.Event()
        while not tick.wait(0.05):
            made.sendall(drop)

    return answer


def got(url: str, *, within: float = 10.0) -> bytes:
    with fetch(url, reach=HERE, most=MOST, within=within) as fetched:
        return b"".join(fetched.chunks())


def test_what_a_server_has_is_kept_under_the_name_of_its_url() -> None:
    settings = Settings(database_url="sqlite://", fetch_from=("127.0.0.0/8",))
    picture = saying(png(3, 4), "Content-Type: image/png")
    with Client(settings=settings) as client, serving(picture) as url:
        kept = client.attachments.put(url, user_id="ada")
        assert (kept.name, kept.media_type, kept.width) == ("cat.png", "image/png", 3)
        session = client.sessions.create(user_id="ada", provider="mock", model="mock")
        reply = client.send(session, "look", attachments=[url]).result(timeout=20)
        assert "image/png of 68 bytes, 3x4" in reply.text
        assert len(client.attachments.list()) == 1


def test_a_file_in_chunks_and_one_that_ends_with_the_connection_are_read() -> None:
    in_chunks = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    with serving(saying(in_chunks, "Transfer-Encoding: chunked", length=False)) as url:
        assert got(url) == b"abc"
    with serving(saying(b"abc", "Connection: close", length=False)) as url:
        assert got(url) == b"abc"


@pytest.mark.parametrize("told", ["text/html", "image/gif", "application/pdf"])
def test_a_server_that_lies_about_a_type_is_not_believed(told: str) -> None:
    settings = Settings(database_url="sqlite://", fetch_from=("127.0.0.0/8",))
    with (
        Client(settings=settings) as client,
        serving(saying(png(), f"Content-Type: {told}")) as url,
    ):
        with pytest.raises(AttachmentRefused):
            client.attachments.put(url, user_id="ada")
        assert client.attachments.list() == []


@pytest.mark.parametrize(
    "where",
    [
        *("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/"),
        *(
            "http://2130706433/",
            "file:///etc/passwd",
            "http://192.168.0.1@127.0.0.1/",
            "gopher://x",
        ),
        *("//169.254.169.254/", "http://0x7f.1/", "http://[::ffff:10.0.0.1]/", "ftp://1.1.1.1/"),
    ],
)
def test_no_redirect_leads_where_a_url_may_not(where: str) -> None:
    away = saying(b"", f"Location: {where}", status="302 Found")
    with serving(away) as url, pytest.raises(AddressRefused):
        got(url)


def test_redirects_have_an_end() -> None:
    round_and_round = saying(b"", "Location: /again", status="307 Temporary Redirect")
    with serving(round_and_round) as url, pytest.raises(NotReached):
        got(url)
    with serving(saying(b"", status="302 Found")) as url, pytest.raises(NotReached):
        got(url)


def test_a_file_that_is_too_large_is_not_even_begun() -> None:
    endless = without_end(b"x" * 65_536, f"Content-Length: {10**12}")
    with serving(endless) as url, pytest.raises(AttachmentRefused):
        got(url)


def test_a_body_without_end_is_cut_by_its_size() -> None:
    settings = Settings(database_url="sqlite://", fetch_from=("127.0.0.0/8",), max_file_bytes=MOST)
    for piece, header in (
        (b"hello " * 10_000, "Content-Type: text/plain"),
        (b"2710\r\n" + b"hello " * 1666 + b"hell\r\n", "Transfer-Encoding: chunked"),
    ):
        with Client(settings=settings) as client, serving(without_end(piece, header)) as url:
            with pytest.raises(AttachmentRefused):
                client.attachments.put(url, user_id="ada")
            assert (client.attachments.list(), client.attachments.usage("ada")) == ([], 0)


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_drips_is_left_when_the_time_is_over(beginning: bytes, drop: bytes) -> None:
    began = monotonic()
    with serving(dripping(beginning, drop)) as url, pytest.raises(NotReached):
        got(url, within=0.6)
    assert monotonic() - began < 5


@pytest.mark.parametrize(
    "answer",
    [
        saying(b"x", status="404 Not Found"),
        saying(b"x", status="206 Partial Content"),
        saying(b"x", status="500 Oh"),
        saying(b"", status="204 No Content"),
        lambda made: made.sendall(b"SSH-2.0-OpenSSH\r\n"),
        lambda made: made.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
        lambda made: made.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
        lambda made: made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
        lambda made: made.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        lambda made: made.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        lambda made: None,
    ],
)
def test_a_server_that_answers_with_no_file_is_said_not_to(answer: Answer) -> None:
    with serving(answer) as url, pytest.raises(NotReached):
        got(url)


def test_a_file_that_is_packed_on_its_way_is_refused() -> None:
    for packed in ("gzip", "br", "deflate, gzip"):
        answer = saying(b"x", f"Content-Encoding: {packed}")
        with serving(answer) as url, pytest.raises(AttachmentRefused):
            got(url)


def test_a_certificate_that_nobody_has_signed_is_not_believed() -> None:
    with serving(saying(b"x")) as url, pytest.raises(NotReached):
        got(url.replace("http:", "https:"))


def test_where_nobody_listens_is_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotReached):
        got(f"http://127.0.0.1:{port}/")


def test_nothing_private_is_fetched_by_a_client_unless_it_was_named() -> None:
    with Client(database_url="sqlite://") as client, serving(saying(TAKEN["text/plain"])) as url:
        session = client.sessions.create(user_id="ada", provider="mock", model="mock")
        for attempt in (
            lambda: client.attachments.put(url, user_id="ada"),
            lambda: client.send(session, "look", attachments=[url]),
        ):
            with pytest.raises(AddressRefused) as caught:
                attempt()
            assert isinstance(caught.value, InvalidInput)
            assert "127" not in str(caught.value)
        assert (client.attachments.list(), client.turns.list()) == ([], [])

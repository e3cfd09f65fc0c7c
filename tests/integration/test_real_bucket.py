"""A bucket of S3, as a stand-in that others have written speaks it: moto, out of the registry."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.attachments import PDF, a_png
from tests.openai_sessions import WAIT, store_of
from tests.unit.test_file_stores import (
    test_a_put_that_fails_keeps_nothing_and_raises_what_it_was as test_a_put_that_fails_keeps_nothing,  # noqa: E501
)
from tests.unit.test_file_stores import (
    test_a_second_put_takes_the_place_of_the_first as test_a_second_put_takes_its_place,
)
from tests.unit.test_file_stores import (
    test_keys_are_listed_with_their_sizes as test_keys_are_listed,
)
from tests.unit.test_file_stores import (
    test_what_is_not_there_is_missing_and_deleting_it_is_no_error as test_what_is_not_there,
)
from tests.unit.test_file_stores import (
    test_what_was_put_is_read_in_pieces_from_wherever as test_what_was_put_is_read,
)
from tests.waiting import until
from turnmill import Client, Image
from turnmill.files.objects import Objects
from turnmill.settings import Settings
from turnmill_worker.process.tidying import Tidying

__all__ = [
    "test_a_put_that_fails_keeps_nothing",
    "test_a_second_put_takes_its_place",
    "test_keys_are_listed",
    "test_what_is_not_there",
    "test_what_was_put_is_read",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_PACKAGE = "moto[s3,server]==5.2.1"
_URL = "s3://files/turnmill"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where the stand-in listens; it is installed apart, for these tests alone."""
    folder = str(tmp_path_factory.mktemp("moto"))
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--target", folder)
    subprocess.run([*install, "--only-binary", ":all:", _PACKAGE], check=True, timeout=500)
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"PYTHONPATH": folder}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as moto:
        until(lambda: _answers(url))
        yield url
        moto.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.URLError:
        return False


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty bucket."""
    for name, value in {
        "AWS_ENDPOINT": server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for method, path in (("POST", "/moto-api/reset"), ("PUT", "/files")):
        asked = urllib.request.Request(server + path, method=method)
        with urllib.request.urlopen(asked, timeout=10):
            pass
    return _URL


@pytest.fixture
def store(bucket: str) -> Objects:
    return Objects(bucket)


def test_a_file_of_many_parts_is_read_from_anywhere_in_it(store: Objects) -> None:
    key, content = f"{'a' * 64}/{'b' * 32}", os.urandom(20 * 2**20 + 7)
    store.put(key, (content[at : at + 2**18] for at in range(0, len(content), 2**18)))
    assert store.size(key) == len(content)
    assert b"".join(store.chunks(key, start=9 * 2**20)) == content[9 * 2**20 :]


def test_what_a_turn_holds_is_in_the_bucket_until_nobody_needs_it(
    store: Objects, bucket: str, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'turns.db'}", files_url=bucket)
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        turn = client.send(session, "What is this?", attachments=[a_png(), PDF])
        assert "image" in turn.result(timeout=WAIT).text
        assert len([*store.keys("")]) == 2
        part = next(one for one in turn.messages()[0].parts if isinstance(one, Image))
        assert b"".join(client.attachments.open(part.id)) == a_png()
        client.sessions.delete(session)
        tidying = Tidying(store_of(client), settings)
        until(lambda: tidying.tidy() and not [*store.keys("")])

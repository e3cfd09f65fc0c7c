"""The examples of docs/voice.md, taken from the page and run."""

import io
import subprocess
import sys
import wave
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal, clean_environment
from tests.sounds import wav
from turnmill import Client
from turnmill.settings import Settings

PAGE = ROOT / "docs" / "voice.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "question.wav").write_bytes(wav(1.0))
    return tmp_path


def shown(language: str) -> str:
    return next(block.text for block in blocks_of(PAGE) if block.language == language)


def seconds_of(sound: bytes) -> float:
    with wave.open(io.BytesIO(sound), "rb") as opened:
        return opened.getnframes() / opened.getframerate()


def test_a_question_is_spoken_and_so_is_its_answer(here: Path) -> None:
    names: dict[str, Any] = {}
    with Client(settings=Settings(database_url="sqlite://")) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        exec(
            compile(shown("python"), str(PAGE), "exec"),
            {"client": client, "session": session},
            names,
        )
    reply = names["reply"]
    assert "You said: (16044 bytes of audio/wav" in reply.text
    assert reply.audio.duration == timedelta(seconds=0.06 * len(reply.text))
    assert seconds_of((here / "answer.wav").read_bytes()) == reply.audio.duration.total_seconds()


@pytest.mark.long
def test_the_command_says_it_aloud_and_writes_the_answer(here: Path) -> None:
    environment = clean_environment() | {"TURNMILL_DATABASE_URL": f"sqlite:///{here}/turns.db"}
    typed = shown("sh").split()
    assert typed[0] == "turnmill"
    done = subprocess.run(
        [sys.executable, "-m", "turnmill.cli", *typed[1:], "--provider", "mock"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "You said: (16044 bytes of audio/wav" in done.stdout
    assert "audio: answer.mp3 (audio/wav" in done.stderr
    assert seconds_of((here / "answer.mp3").read_bytes()) > 1


@pytest.mark.parametrize("place", ["-", "no-such-folder/answer.wav", "."])
def test_where_no_sound_can_be_written_nothing_is_sent(place: str, tmp_path: Path) -> None:
    there = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})
    said = there.run("send", "Hello", "--provider", "mock", "--save-audio", place)
    assert (said.code, said.out) == (2, "")
    assert not [*tmp_path.iterdir()]


def test_what_is_fetched_is_for_its_owner_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/turns.db"
    with Client(settings=Settings(database_url=url, home=tmp_path / ".turnmill")) as client:
        kept = client.attachments.put(b"words", user_id="ada")
    there = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url})
    assert there.run("files", "get", str(kept.id), "--to", "words").code == 0
    assert (tmp_path / "words").read_bytes() == b"words"
    assert (tmp_path / "words").stat().st_mode & 0o777 == 0o600
    assert there.run("files", "get", str(kept.id), "--to", "words").code == 1

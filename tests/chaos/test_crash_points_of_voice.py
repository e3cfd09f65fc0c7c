"""A worker that dies between two steps of a turn that is spoken: no step is paid for twice."""

import os
import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_audio import AudioDouble
from tests.doubles.openai_requests import KEY
from tests.sounds import wav
from turnmill import Audio
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
KILLS = int(os.environ.get("TURNMILL_TEST_KILLS", "200"))
#: Behind each commit, where everything that was paid for stands.
BEHIND = ("heard.after", "answered.after", "spoken.after")
#: Before it, with an answer in hand that no vendor gives a second time.
BEFORE = ("heard.before", "answered.before", "spoken.before")


@pytest.fixture(scope="module")
def double() -> AudioDouble:
    return AudioDouble()


@pytest.fixture(scope="module")
def stage(
    servers: Servers, double: AudioDouble, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    vendor, files = Vendor(double), str(tmp_path_factory.mktemp("files"))
    reach = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": double.base_url,
        "TURNMILL_FILES_URL": files,
    }
    try:
        with (
            System(servers, lease=LEASE, environment=reach) as system,
            system.client(files_url=files) as client,
        ):
            yield Stage(system, client)
            assert Books.of(system).complaints() == []
    finally:
        vendor.stop()


def paid(double: AudioDouble) -> tuple[int, int, int]:
    """Return how often was heard, answered and spoken."""
    answered = [one for one in double.calls if one.path.endswith("/responses") and one.executed]
    return len(double.heard), len(answered), len(double.spoken)


def ask(stage: Stage, session: str) -> Turn:
    return stage.client.send(session, Audio(wav(1.0)), reply_as="audio")


def session_of(stage: Stage) -> str:
    return stage.session(
        provider="openai", model="gpt-5-mini", settings={"audio_model": "openai/tts-1"}
    )


@pytest.mark.parametrize("point", BEHIND)
def test_a_worker_that_dies_behind_a_step_has_nobody_pay_for_it_again(
    stage: Stage, double: AudioDouble, point: str
) -> None:
    before = paid(double)
    session = session_of(stage)
    stage.arm(point)
    turn = ask(stage, session)
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert reply.audio is not None
    assert tuple(n - m for n, m in zip(paid(double), before, strict=True)) == (1, 1, 1)
    kinds = [one.kind for one in reply.attempts if one.outcome in ("called", "succeeded")]
    assert kinds == ["transcribe", "send", "speak"]
    assert all(one.cost_usd for one in reply.attempts if one.outcome in ("called", "succeeded"))
    said = stage.client.send(session, "And then?").result(timeout=WAIT).text
    assert said, "the session goes on"


@pytest.mark.parametrize(
    "point",
    [
        one if one == "spoken.before" else pytest.param(one, marks=pytest.mark.slow)
        for one in BEFORE
    ],
)
def test_a_worker_that_dies_with_an_answer_in_hand_has_that_step_alone_taken_again(
    stage: Stage, double: AudioDouble, point: str
) -> None:
    before = paid(double)
    stage.arm(point)
    turn = ask(stage, session_of(stage))
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert reply.audio is not None
    again = [n - m for n, m in zip(paid(double), before, strict=True)]
    twice = {"heard.before": [2, 1, 1], "answered.before": [1, 2, 1], "spoken.before": [1, 1, 1]}
    assert again == twice[point], "a speech that is kept is found, and not paid for again"
    assert reply.text == turn.messages()[-1].text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_workers_die_between_steps_and_no_step_is_paid_for_twice(
    stage: Stage, double: AudioDouble
) -> None:
    """TURNMILL_TEST_KILLS says how many it is to be instead."""
    draw = random.Random(7)
    before = paid(double)
    turns = []
    for _ in range(KILLS):
        stage.arm(draw.choice(BEHIND))
        turns.append(ask(stage, session_of(stage)))
        stage.fall()
    for turn in turns:
        assert turn.result(timeout=WAIT).audio is not None
    assert tuple(n - m for n, m in zip(paid(double), before, strict=True)) == (KILLS,) * 3
    until(lambda: Books.of(stage.system).unfinished == [])

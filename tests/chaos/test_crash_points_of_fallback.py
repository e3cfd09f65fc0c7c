"""A worker that dies between one vendor's failure and another one's answer: nothing is doubled."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests import closed_targets
from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.both_vendors import BothVendors
from turnmill import Reply
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
OWN = {"provider": "openai", "model": "gpt-5-mini"}
OTHER = "anthropic/claude-sonnet-4-5"


@pytest.fixture(scope="module")
def vendors() -> Iterator[BothVendors]:
    with BothVendors() as both:
        yield both


@pytest.fixture(scope="module")
def stage(servers: Servers, vendors: BothVendors) -> Iterator[Stage]:
    reach = {
        **vendors.environment,
        "TURNMILL_LAYERS": "gate?=tests.closed_targets:gate",
        closed_targets.VARIABLE: "openai=account",
    }
    with System(servers, lease=LEASE, environment=reach) as system, system.client() as client:
        yield Stage(system, client)
        assert Books.of(system).complaints() == []


@pytest.fixture(autouse=True)
def calm(vendors: BothVendors) -> None:
    vendors.forget()


def start(stage: Stage, **options: object) -> Turn:
    return stage.send(session=stage.session(**OWN, fallback=[OTHER], **options))


def course(reply: Reply) -> list[tuple[str | None, str, str | None]]:
    return [(one.provider, one.kind, one.outcome) for one in reply.attempts]


def asked(vendors: BothVendors) -> tuple[int, int]:
    return len(vendors.asked("openai")), len(vendors.asked("anthropic"))


def test_who_dies_when_the_failure_is_written_leaves_the_rest_to_another_worker(
    stage: Stage, vendors: BothVendors
) -> None:
    vendors.openai.meet("overloaded")
    stage.arm("settle.after")
    turn = start(stage)
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert course(reply) == [
        ("openai", "send", "retrying"),
        ("anthropic", "send", "succeeded"),
    ]
    assert (reply.answered_by, reply.answered_because) == (OTHER, "server_overloaded")
    assert asked(vendors) == (1, 1)


def test_who_dies_before_it_is_written_takes_the_failure_along_and_the_answer_comes_once(
    stage: Stage, vendors: BothVendors
) -> None:
    vendors.openai.always = "overloaded"
    stage.arm("settle.before")
    turn = start(stage)
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert reply.answered_by == OTHER
    assert asked(vendors) == (2, 1)


def test_who_dies_while_another_target_answers_has_it_asked_there_what_became_of_it(
    stage: Stage, vendors: BothVendors
) -> None:
    vendors.openai.meet("overloaded")
    vendors.anthropic.meet("hang")
    turn = start(stage)
    until(lambda: asked(vendors) == (1, 1))
    stage.kill_owner(turn)
    reply = turn.result(timeout=WAIT)
    assert course(reply)[1:3] == [
        ("anthropic", "send", "lost"),
        ("anthropic", "check", "unknowable"),
    ]
    assert reply.answered_by == OTHER
    assert asked(vendors) == (1, 2)


def test_what_is_held_when_its_worker_died_is_put_to_nobody_until_somebody_says_so(
    stage: Stage, vendors: BothVendors
) -> None:
    vendors.openai.meet("hang")
    turn = start(stage, on_ambiguous="hold")
    until(lambda: asked(vendors) == (1, 0))
    stage.kill_owner(turn)
    until(lambda: turn.refresh().state == "unknown")
    assert asked(vendors) == (1, 0)
    turn.release()
    assert turn.result(timeout=WAIT).answered_by == "openai/gpt-5-mini"


@pytest.mark.parametrize("point", ["target.before", "target.after"])
def test_who_dies_when_it_notes_who_is_asked_instead_has_asked_nobody(
    stage: Stage, vendors: BothVendors, point: str
) -> None:
    session = stage.session(**OWN, fallback=[OTHER], settings={"layers": ["gate"]})
    stage.arm(point)
    turn = stage.send(session=session)
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (OTHER, "account")
    assert asked(vendors) == (0, 1)

"""What applications may rely on: it changes on purpose, or not at all."""

from pathlib import Path

import pytest

import turnmill
from tests.api.described import lines
from turnmill.aio import client as aio
from turnmill.sync import client

ACCEPTED = Path(__file__).with_name("public_api.txt")

#: For operators and their scripts, which may block.
SYNC_ONLY = {"Client": {"analytics", "batches", "lanes"}}


def test_the_public_surface_is_the_one_that_was_accepted() -> None:
    assert lines() == ACCEPTED.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", turnmill.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    assert getattr(turnmill, name).__doc__


@pytest.mark.parametrize("name", ["Client", "Turn", "Turns", "Sessions"])
def test_the_asynchronous_twin_has_the_same_verbs(name: str) -> None:
    def verbs(owner: type) -> set[str]:
        return {verb for verb in dir(owner) if not verb.startswith("_")}

    missing = verbs(getattr(client, name)) - verbs(getattr(aio, f"Async{name}"))
    assert missing == SYNC_ONLY.get(name, set())


def test_error_codes_are_told_apart() -> None:
    errors = [
        each
        for each in (getattr(turnmill, name) for name in turnmill.__all__)
        if isinstance(each, type) and issubclass(each, turnmill.TurnmillError)
    ]
    codes = [each.code for each in errors]
    assert len(set(codes)) == len(codes)

"""What each program is told by its environment: a list of what it needs, and nothing else."""

from collections.abc import Callable, Mapping

import pytest

from turnmill.variables import VARIABLES
from turnmill_worker.stack import environments

THEIRS = dict.fromkeys(
    (
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "AWS_SECRET_ACCESS_KEY"),
        *("PGPASSWORD", "PGHOST", "HTTPS_PROXY", "https_proxy", "MY_TOKEN", "DATABASE_URL"),
    ),
    "canary",
)
PLAIN = {"PATH": "/bin", "HOME": "/h", "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "TMPDIR": "/t"}
OF_OWNER = {
    *("TURNMILL_SUPERUSER_URL", "TURNMILL_OWNER_URL", "TURNMILL_VIEWER_URL"),
    *("TURNMILL_PRODUCER_URL", "TURNMILL_AUDITOR_URL", "TURNMILL_ANALYST_URL"),
}
CALLER = PLAIN | THEIRS | dict.fromkeys(VARIABLES, "set")
Narrow = Callable[[Mapping[str, str]], dict[str, str]]


@pytest.mark.parametrize("narrow", [environments.plain, environments.of_beat])
def test_a_program_that_calls_no_provider_is_told_nothing_of_the_callers(narrow: Narrow) -> None:
    told = narrow(CALLER)
    assert "canary" not in told.values()
    assert PLAIN.items() <= told.items()
    assert told.keys().isdisjoint({*OF_OWNER, "TURNMILL_DATABASE_URL", "TURNMILL_LISTEN_URL"})


def test_servers_are_told_nothing_of_ours() -> None:
    assert environments.plain(CALLER) == PLAIN


def test_flower_is_told_of_the_database_as_a_viewer_alone_and_no_key_of_a_provider() -> None:
    told = environments.of_flower(CALLER)
    assert "canary" not in told.values()
    assert PLAIN.items() <= told.items()
    assert "TURNMILL_VIEWER_URL" in told
    assert "TURNMILL_DATABASE_URL" not in told
    assert told.keys().isdisjoint(OF_OWNER - {"TURNMILL_VIEWER_URL"})


def test_beat_is_told_the_schedule_and_flower_its_login() -> None:
    beat, flower = environments.of_beat(CALLER), environments.of_flower(CALLER)
    assert {name for name in VARIABLES if name.startswith("TURNMILL_SCHEDULE_")} <= beat.keys()
    assert "TURNMILL_BROKER_URL" in beat.keys() & flower.keys()
    assert ("TURNMILL_FLOWER_AUTH" in beat, "TURNMILL_FLOWER_AUTH" in flower) == (False, True)


def test_a_worker_is_told_all_but_the_credentials_of_others() -> None:
    told = environments.of_worker(CALLER | dict.fromkeys(environments.OVERRIDES, "x"))
    logins = {"TURNMILL_FLOWER_AUTH", "TURNMILL_FLOWER_VIEWER_AUTH"}
    assert CALLER.keys() - told.keys() == {*OF_OWNER, *logins}
    assert told.keys().isdisjoint(environments.OVERRIDES)

"""Options and parameters that say nothing beside others are refused: none is ignored."""

import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.terminal import Terminal
from turnmill import Client, InvalidInput, Settings

pytestmark = pytest.mark.long

#: With exit code 2, and the option named.
REFUSED = (
    ("analytics report --since 7d --by model", "--by"),
    ("analytics report --html r.html --no-refresh", "--no-refresh"),
    ("analytics report --thorough --by day", "--by"),
    ("analytics report --since 7d --days 3", "--days"),
    ("batch submit jobs --dry-run --reuse", "--reuse"),
    ("batch submit jobs --dry-run --mode live --name x", "--name and --mode"),
    ("batch submit jobs --dry-run --max-cost-usd 5 --deadline 2h", "--max-cost-usd and --deadline"),
    ("batch submit jobs --dry-run --watch", "--watch"),
    ("trial --model mock/m --dry-run --max-cost-usd 5", "--max-cost-usd"),
    ("trial --model mock/m --dry-run --watch", "--watch"),
    ("trial --model mock/m --judge-share 0.2", "--judge-share"),
    ("trial --model mock/m --judge exact --max-cost-usd 1 --judge-share 0.2", "--judge-share"),
    ("send hi --timeout 5", "--timeout"),
    ("send hi --save-audio a.mp3 --reply-as text", "--reply-as"),
    ("send hi --session s --model other", "--model"),
    ("send hi --session s --provider openai --fallback a/b", "--provider and --fallback"),
    ("chat --session s --system-prompt x --var a=b", "--system-prompt and --var"),
    ("chat --stream --json", "--stream"),
    ("sessions keep-content --user ada --days 5 --as-everybody", "--as-everybody"),
    ("turns retry 0190b2a4 --state failed", "--all"),
    ("turns cancel 0190b2a4 --limit 5", "--all"),
    ("turns retry 0190b2a4 --user ada", "--all"),
    ("migrate --downgrade base --revision 0040 --yes", "--revision"),
    ("migrate --downgrade base --finish --runtime-role r --yes", "--finish and --runtime-role"),
    ("queue pause --lane bulk --force", "--force"),
    ("encryption rotate --master --user ada", "--user"),
    ("tools approve 0190b2a4 call --all", "--all"),
)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    (tmp_path / "jobs").write_text('{"user_id": "bob", "text": "hi"}\n')
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})


def test_an_option_that_says_nothing_beside_another_is_refused(terminal: Terminal) -> None:
    for line, named in REFUSED:
        said = terminal.run(*shlex.split(line))
        assert (said.code, named in said.err) == (2, True), (line, said)


def test_a_session_that_stands_with_another_model_is_not_taken_for_the_one_that_is_asked_for(
    terminal: Terminal,
) -> None:
    made = ("send", "hi", "--session", "s", "--user", "ada", "--model", "m")
    assert [terminal.run(*made).code for _ in range(2)] == [0, 0]
    for option, value in (("--model", "other"), ("--system-prompt", "Be brief.")):
        other = [*made[:6], option, value]
        said = terminal.run(*other)
        assert (said.code, "conflict" in said.err, f"leave {option} out" in said.err) == (
            1,
            True,
            True,
        ), said


def test_a_moment_is_told_by_the_clocks_of_the_time_zone_that_is_named(terminal: Terminal) -> None:
    terminal.run("send", "hi", "--session", "s", "--user", "ada")
    create = ("schedules", "create", "s", "hi", "--timezone", "Asia/Kolkata", "--json")
    once = terminal.run(*create, "--at", "2030-01-01T09:30").json()
    assert once["next_at"].startswith("2030-01-01T04:00:00")
    aware = terminal.run(*create, "--at", "2030-01-01T09:30+01:00").json()
    assert aware["next_at"].startswith("2030-01-01T08:30:00")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(settings=Settings(database_url="sqlite://", home=tmp_path)) as made:
        made.lanes.pause(provider="mock")
        yield made


#: A parameter that says nothing beside others, or without one.
PARAMETERS: dict[str, Callable[[Client, Any, Any, Path], object]] = {
    "archive(timeout)": lambda c, s, _t, _p: c.sessions.archive(s, timeout=5),
    "move(timeout)": lambda c, s, _t, _p: c.sessions.move(s, model="m", timeout=5),
    "cancel(timeout)": lambda _c, _s, t, _p: t.cancel(timeout=timedelta(seconds=1)),
    "iter_results(timeout)": lambda c, _s, _t, p: [
        *c.batches.create(p, name="a").iter_results(timeout=1)
    ],
    "results(timeout)": lambda c, _s, _t, p: c.batches.create(p, name="a").results(
        p.parent / "out", timeout=1
    ),
    "on_leftover": lambda c, _s, _t, p: c.batches.create(p, mode="live", on_leftover="next"),
    "judge_share": lambda c, _s, _t, _p: c.trials.start("mock/m", judge_share=0.1),
    "timezone": lambda c, _s, _t, _p: c.budgets.set(
        limit_usd=1, period="total", timezone="Asia/Kolkata"
    ),
    "history and adopt": lambda c, _s, _t, _p: c.sessions.create(
        user_id="ada",
        provider="openai",
        model="m",
        adopt="conv_1",
        history=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    ),
    "variables": lambda c, _s, _t, _p: c.sessions.create(user_id="ada", variables={"a": "b"}),
    "after and reader": lambda c, _s, _t, _p: c.events.read(after=1, reader="one"),
    "session and user": lambda c, s, _t, _p: c.analytics.suggest(s, user_id="ada"),
    "a note": lambda c, s, _t, _p: c.send(s, "x", to="participants", lane="bulk"),  # type: ignore[call-overload]
}


def test_a_parameter_that_says_nothing_beside_others_is_refused(
    client: Client, tmp_path: Path
) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "hi")
    jobs = tmp_path / "jobs"
    jobs.write_text('{"user_id": "bob", "text": "hi"}\n')
    for name, call in PARAMETERS.items():
        with pytest.raises(InvalidInput) as caught:
            call(client, session, turn, jobs)
        assert caught.value.hint, name

"""A hint says what can be typed: options, not arguments of the library, beside a command."""

import re
import shlex
from pathlib import Path

import pytest

from tests.acceptance.terminal import Said, Terminal
from turnmill import Client
from turnmill.cli.commands.send import command as send
from turnmill.cli.in_options import in_options

#: What a program writes, and nobody types.
OF_PROGRAMS = re.compile(
    r"""\b[a-z_]+=([\s,\["'({]|True|$)|\bclient\.|\b(Decimal|timedelta|datetime)\("""
)


@pytest.fixture
def there(tmp_path: Path) -> Terminal:
    url = f"sqlite:///{tmp_path}/hints.db"
    with Client(database_url=url) as client:
        client.sessions.create(user_id="ada", key="desk", provider="mock", model="mock")
        client.templates.put("support", provider="mock", model="mock")
        client.webhooks.create(url="https://example.com/", events=["*"])
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url})


def hint_of(said: Said) -> str:
    (hint,) = re.findall(r"^hint: (.*)$", said.err, re.MULTILINE)
    return str(hint)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("sessions move desk", "--provider, --model, or both"),
        ("limits set mock", "--requests 600, --tokens N or --concurrent N; remove takes away"),
        ("schedules create desk Hi", '--cron "30 9 * * mon-fri", or --at 2027-10-31T12:00'),
        ("schedules create desk Hi --cron x", '--cron "30 9 * * mon-fri": minute, hour, '),
        ("budget set --limit-usd x", "--limit-usd 12.50, or a number"),
        ("budget set --limit-usd 1 --user a --session desk", "--session, --user or --tag key="),
        ("trial --model smaller", '--model "openai/gpt-5-nano", or --provider beside it'),
        ("trial --model mock/other", "--since further back, or another template; --dry-run tells"),
        ("experiments start support", '--model "gpt-5-nano", --settings \'{'),
        ("send Hi --user ada --var a=b", '--template "support"'),
        ("send Hi --fallback mock", "--fallback anthropic/claude-sonnet-4-5"),
        ("analytics suggest --user a --session desk", "--session or --user, or neither"),
        ("accounts open mock", "`turnmill accounts ls`"),
        ("participants remove desk bob --yes", "`turnmill participants ls` lists them"),
        ("queue pause --provider other", "--force for one that is to come"),
        ("users hold ada --reason ''", "--reason 'case 7'"),
    ],
)
def test_arguments_are_named_as_the_options_of_what_was_typed(
    there: Terminal, typed: str, told: str
) -> None:
    said = there.run(*shlex.split(typed))
    assert said.code in {1, 3}, said.err
    hint = hint_of(said)
    assert told in re.sub(r"`\S.*? -m turnmill\.cli|`\S*turnmill", "`turnmill", hint)
    assert not OF_PROGRAMS.search(hint)


def test_an_argument_that_no_option_stands_for_stays_as_it_is() -> None:
    for hint in ("more time: expires=", "postgresql://…/name?user=ada"):
        assert in_options(hint, send) == hint


def test_a_key_that_stands_for_no_session_is_told_how_it_comes_to(there: Terminal) -> None:
    hint = hint_of(there.run("send", "Hi", "--session", "new"))
    assert "send --session KEY --user USER" in hint
    assert there.run("send", "Hi", "--session", "new", "--user", "ada").code == 0


def test_a_folder_of_templates_that_nobody_names_is_asked_for(there: Terminal) -> None:
    said = there.run("templates", "sync")
    assert (said.code, "TURNMILL_TEMPLATES" in said.err) == (2, True)

"""Advice: every command that a hint or a page names exists, with the options that it names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import turnmill
from turnmill.cli import cli
from turnmill.show.as_typed import as_typed, program

ROOT = Path(turnmill.__file__).resolve().parents[2]
_SOURCES = sorted(
    path
    for folder in ("api_client", "worker", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md"} and "adr" not in path.parts and path.name != "api.md"
)
_QUOTED = re.compile(r"`turnmill ([a-z][^`\n]*)`")
_NEXT = re.compile(r"next: turnmill ([a-z][^\"\n{]*)")


def advice() -> Iterator[tuple[str, str]]:
    for path in [*_SOURCES, ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        for found in [*_QUOTED.findall(text), *_NEXT.findall(text)]:
            yield str(path.relative_to(ROOT)), re.sub(r"\{.*", "", found)


def missing_in(line: str) -> str:
    """Return what of `turnmill LINE` does not exist; empty where all of it does."""
    words = shlex.split(line.replace("…", "x").replace("'", ""))
    command: click.Command | None = cli
    context = click.Context(cli)
    while words and isinstance(command, click.Group):
        alternatives = words.pop(0).split("|")
        found = [command.get_command(context, word) for word in alternatives]
        if None in found:
            return f"turnmill {line}"
        command = found[0]
    if command is None or command.ignore_unknown_options:
        return ""
    known = {name for parameter in command.params for name in parameter.opts}
    options = {word.partition("=")[0] for word in words if re.match("-[^0-9]", word)}
    return " ".join(sorted(options - known - {"--help"}))


def test_the_look_itself_finds_what_does_not_exist() -> None:
    assert missing_in("turns shwo ID")
    assert missing_in("migrate --finnish") == "--finnish"
    assert not missing_in("turns show ID --text")


@pytest.mark.parametrize(("where", "line"), sorted(set(advice())))
def test_every_command_that_is_advised_exists_with_its_options(where: str, line: str) -> None:
    assert not missing_in(line), where


@pytest.mark.parametrize(
    ("called", "typed"),
    [
        ("/srv/app/.venv/bin/turnmill", ".venv/bin/turnmill"),
        ("turnmill", "turnmill"),
        ("/srv/app/turnmill/cli/__main__.py", "python -m turnmill.cli"),
    ],
)
def test_advice_names_the_program_as_it_was_called(
    called: str, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setattr("sys.executable", "/srv/app/.venv/bin/python")
    monkeypatch.setattr("os.path.relpath", lambda path: path.removeprefix("/srv/app/"))
    program.cache_clear()
    try:
        said = as_typed("turnmill 0.1.0: `turnmill turns ls`, or next: turnmill doctor")
    finally:
        program.cache_clear()
    assert said == f"turnmill 0.1.0: `{typed} turns ls`, or next: {typed} doctor"


def pages(
    command: click.Command = cli, above: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Yield how each command is called, and its page of help on a terminal of 80 columns."""
    context = click.Context(command, info_name=command.name, parent=above, terminal_width=80)
    yield context.command_path, command.get_help(context)
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        if not found.ignore_unknown_options:  # Celery's own
            yield from pages(found, context)


def test_no_page_of_help_is_cut_or_wider_than_a_terminal() -> None:
    read = dict(pages())
    assert len(read) > 100
    for called, page in read.items():
        lines = page.splitlines()
        assert not [line for line in lines if len(line) > 80], called
        assert not [line for line in lines[1:] if line.endswith("...")], called


def test_whatever_is_said_names_commands_as_they_can_be_typed() -> None:
    """`say` and `tell` print what they are given; `advise` and `as_typed` put the program right."""
    bare = re.compile(r"\b(?:say|tell)\(\s*f?\"[^\"]*(?:^|[ :(])turnmill [a-z]+ [a-z-]")
    told = {path: bare.findall(path.read_text(encoding="utf-8")) for path in _SOURCES}
    assert {str(path.relative_to(ROOT)): found for path, found in told.items() if found} == {}

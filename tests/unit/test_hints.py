"""Advice: every command that a hint or a page names exists, with the options that it names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import turnmill
from turnmill.cli import cli

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

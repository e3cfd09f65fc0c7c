"""What the documentation says is so: its code runs, its commands, links and variables exist."""

import ast
import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from tests.acceptance.pages import GENERATED, ROOT, Block, blocks_of, commands_of, pages, prose_of
from turnmill.cli import cli
from turnmill.store.nouns.why import Cause
from turnmill.store.schema.belongings import BELONGINGS
from turnmill.variables import VARIABLES

BLOCKS = [block for page in pages() for block in blocks_of(page)]
SHELLS = {"sh", "bash", "console"}
#: Run by test_docs_run.py, unless its mark says otherwise.
RUN = {"python", "sql", *SHELLS}
#: What a block that is not run may lack here; it says which.
MISSING = (
    "needs a container engine",
    "needs a vendor's key",
    "needs root",
    "needs servers of yours",
    "needs what is to be installed",
    "takes minutes",
)
#: Told to processes by processes of ours alone.
INTERNAL = {"TURNMILL_READY_FD"}


def _each_line_is_json(text: str) -> None:
    for line in text.splitlines():
        json.loads(line)


PARSERS: Mapping[str, Callable[[str], object]] = {
    "python": ast.parse,
    "json": json.loads,
    "jsonl": _each_line_is_json,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "ini": lambda text: configparser.ConfigParser(strict=False).read_string(text),
}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is_and_can_be_read_as_that(block: Block) -> None:
    assert block.language in {"text", *RUN, *PARSERS}
    if parse := PARSERS.get(block.language):
        parse(block.text)


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.marks], ids=str)
def test_a_block_that_is_not_run_says_what_for_or_which_test_does(block: Block) -> None:
    if reason := block.marks.get("not run"):
        assert reason.startswith(MISSING)
    if test := block.marks.get("run by"):
        assert block.page.name in (ROOT / test).read_text(encoding="utf-8")
    assert block.language in RUN


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "text"], ids=str)
def test_no_command_hides_in_a_block_that_is_only_shown(block: Block) -> None:
    typed = re.compile(r"\$ |(\S*/)?(turnmill|celery|pip|make|docker|python3?) ")
    assert not [line for line in block.text.splitlines() if typed.match(line)]


def _named_commands() -> Iterator[tuple[str, str]]:
    """Yield every command of ours that a page names, and where."""
    for page in pages():
        prose = prose_of(page).replace(r"\|", "|")
        for span in re.findall(r"`([^`]+)`", prose):
            yield page.name, " ".join(span.split())
    for block in BLOCKS:
        if block.language in SHELLS:
            for line in commands_of(block).replace("\\\n", " ").splitlines():
                yield str(block), line.partition(" #")[0].partition(" | ")[0]


_CALLED = re.compile(r"(?:^|[\s/(&|;])turnmill (?!-m )([a-zA-Z-][^)&;>]*)")
NAMED = sorted(
    {(where, ours[1]) for where, line in _named_commands() for ours in _CALLED.finditer(line)}
)


@pytest.mark.parametrize(("where", "command"), NAMED)
def test_every_command_of_the_docs_exists_with_its_options(where: str, command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    _look_up(cli, words)


def _look_up(command: click.Command, words: list[str]) -> None:
    """Follow the words through the tree of commands; arguments are anything."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0].isupper() or not words[0].isascii():
            return
        for name in words[0].split("|"):
            found = command.get_command(click.Context(command), name)
            assert found is not None, name
            _look_up(found, words[1:])
        return
    if command.ignore_unknown_options:
        return
    known = {"--help", *(name for one in command.params for name in one.opts + one.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert given <= known
    for option in command.params:
        if isinstance(option.type, click.Choice):
            assert _values_of(option.opts, words) <= {*map(str, option.type.choices)}


def _values_of(names: list[str], words: list[str]) -> set[str]:
    """Return what is said for an option; what is written in capitals stands for anything."""
    after = [later for word, later in pairwise(words) if word in names]
    told = [word.partition("=")[2] for word in words if word.partition("=")[0] in names]
    values = (value for said in (*after, *told) if said for value in said.split("|"))
    return {value for value in values if not value.isupper()}


def test_the_table_of_commands_has_every_one() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").replace(r"\|", "|")
    first_cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    told = {name for cell in first_cells for name in re.findall(r"`([a-z-]+)", cell)}
    assert {*cli.list_commands(click.Context(cli))} <= told


def test_the_table_of_commands_has_each_of_a_group() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").replace(r"\|", "|")
    first_cells = " ".join(re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE))
    rows = (span.split(" ") for span in re.findall(r"`([^`]+)`", first_cells))
    told = {(group, one) for group, *rest in rows for one in "|".join(rest).split("|")}
    every = {
        (name, one)
        for name in cli.list_commands(click.Context(cli))
        if isinstance(group := cli.get_command(click.Context(cli), name), click.Group)
        for one in group.list_commands(click.Context(group))
    }
    assert every <= told


def _slug(heading: str) -> str:
    """Return the anchor that a forge makes of a heading."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_slug(one) for one in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)}


@pytest.mark.parametrize(
    "page", [*pages(), ROOT / "CHANGELOG.md", GENERATED], ids=lambda one: one.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in _anchors(there), target


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", readme))
    linked |= {
        name
        for page in linked
        for name in re.findall(
            r"\]\(([\w-]+\.md)", (ROOT / "docs" / page).read_text(encoding="utf-8")
        )
    }
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= linked


def test_the_table_of_what_a_turn_waits_for_has_every_cause() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    (part,) = re.findall(r"^## Why a turn waits\n(.*?)^## ", page, flags=re.DOTALL | re.MULTILINE)
    assert {cause.value for cause in Cause} <= set(re.findall(r"`([a-z_]+)`", part))


def test_every_variable_of_the_docs_is_read_by_something() -> None:
    for page in (*pages(), ROOT / ".env.example", ROOT / "docker-compose.yml"):
        named = set(re.findall(r"\bTURNMILL_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        unknown = {one for one in named - VARIABLES if one != "TURNMILL_SCHEDULE"}
        assert not unknown, page


def test_every_variable_that_is_read_is_in_the_table_of_settings() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    rows = {name for cell in cells for name in re.findall(r"TURNMILL_\w+", cell)}
    assert VARIABLES - INTERNAL - rows == {one for one in VARIABLES if "_SCHEDULE_" in one}


def test_the_page_on_privacy_has_each_table_that_holds_words_or_names_somebody() -> None:
    page = (ROOT / "docs/privacy.md").read_text("utf-8")
    stored = page.partition("## What is stored where")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", stored))
    of_people = {one.table.name for one in BELONGINGS if one.content or one.user is not None}
    assert of_people - told == set()

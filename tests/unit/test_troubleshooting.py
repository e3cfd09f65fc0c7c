"""docs/troubleshooting.md has every code that is raised, written into a row, or found by doctor."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import turnmill
import turnmill_worker
import turnmill_worker.providers
import turnmill_worker.stack
from turnmill.cli import cli
from turnmill.cli.commands.doctor import CHECKS
from turnmill.cli.doctor.findings import Area
from turnmill.connections.broker_causes import _CAUSES
from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.errors import ProviderError, TurnmillError
from turnmill.domain.errors.remedies import REMEDIES
from turnmill.store.connecting import _SAID

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
NAMED = frozenset(re.findall(r"`([a-z_]+)`", PAGE))
OUR_CODE = [
    path
    for package in (turnmill, turnmill_worker)
    for path in Path(package.__path__[0]).rglob("*.py")
    if not {"testing", "mock", "migrations"} & set(path.parts)
]
#: A code of ours; what a vendor or a class of Python's names has other letters or no table.
CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def kinds(of: type[TurnmillError]) -> Iterator[type[TurnmillError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


PROVIDER_ERRORS = {kind.__name__ for kind in kinds(ProviderError)}


def written(source: str) -> Iterator[str]:
    """Yield the codes that a module gives to kinds of errors, verdicts and findings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            yield from of_class(node)
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        values = node.args[:1] if name in PROVIDER_ERRORS | {"_cannot", "Fault"} else []
        values += [one.value for one in node.keywords if one.arg in ("code", "error_code")]
        for value in values:
            yield from constants(value)


def of_class(kind: ast.ClassDef) -> Iterator[str]:
    for line in kind.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(getattr(target, "id", "") == "code" for target in targets):
            yield from constants(line.value or ast.Constant(None))  # type: ignore[attr-defined]


def constants(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from constants(value.body)
        yield from constants(value.orelse)
        return
    text = value.value if isinstance(value, ast.Constant) else None
    if isinstance(text, str) and CODE.fullmatch(text):
        yield text


def test_every_code_that_our_code_writes_is_explained() -> None:
    codes = {code for path in OUR_CODE for code in written(path.read_text())}
    assert {"key_missing", "worker_lost", "jobs_overdue", "store_full", "stopped"} <= codes
    assert codes <= NAMED


def test_every_rule_of_alerts_is_explained() -> None:
    assert {f"alert_{rule.value}" for rule in Rule} <= NAMED


def test_what_to_do_about_a_turn_is_told_with_its_error_by_each_code_of_the_page() -> None:
    (part,) = re.findall(r"## Error codes of turns(.*?)\n## ", PAGE, flags=re.DOTALL)
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| ([^|]*) \|$", part, flags=re.MULTILINE)
    # Of what goes on by itself, or was somebody's wish, there is nothing to do.
    codes = {
        code
        for named, advice in rows
        if not advice.startswith(("nothing", "it is tried again"))
        for code in re.findall(r"`(\w+)`", named)
    }
    assert codes == set(REMEDIES)


def test_every_error_that_our_code_makes_has_a_hint() -> None:
    without = {
        kind.__name__
        for kind in kinds(TurnmillError)
        if not kind.hint and not issubclass(kind, ProviderError)
    }
    bare = [
        f"{path}:{node.lineno}"
        for path in OUR_CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in without
        and not {"hint", None} & {one.arg for one in node.keywords}
    ]
    assert not bare


def test_every_cause_of_a_server_that_cannot_be_used_is_explained() -> None:
    causes = {cause.code for _, cause in _CAUSES} | {meaning.reason for _, meaning in _SAID}
    assert causes <= NAMED


def test_every_check_stands_beside_its_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]* \| ?(.*?) ?\|$", PAGE, flags=re.MULTILINE)
    told = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: int(check.area) for name, check in CHECKS.items()}
    assert {int(code) for code, _ in rows} == {0, *map(int, Area)}


ADVICE = re.compile(r"turnmill(?P<words>( [a-z][a-z-]*(\|[a-z-]+)*){1,2})(?P<options>[^`.,;:\n]*)")
SAYING = ("connecting", "endings", "remedies")
SOURCES = [path for path in OUR_CODE if path.parts[-2] == "doctor" or path.stem in SAYING]


@pytest.mark.parametrize("source", ["docs/troubleshooting.md", *sorted(map(str, SOURCES))])
def test_every_command_that_a_remedy_names_exists(source: str) -> None:
    for advice in ADVICE.finditer("\n".join(texts(source))):
        for command in commands(advice["words"].split()):
            known = {"--help", *(option for one in command.params for option in one.opts)}
            assert set(re.findall(r"--[a-z-]+", advice["options"])) <= known, advice[0]


def texts(source: str) -> list[str]:
    """Return what stands in backticks on the page, or the texts of a module."""
    if source.endswith(".md"):
        return re.findall(r"`([^`]*)`", PAGE)
    nodes = ast.walk(ast.parse(Path(source).read_text()))
    values = (one.value for one in nodes if isinstance(one, ast.Constant))
    return [value for value in values if isinstance(value, str)]


def commands(words: list[str]) -> Iterator[click.Command]:
    """Yield what `queue pause|resume` stands for; raises where there is no such command."""
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    assert command is not None, words
    if not isinstance(command, click.Group) or len(words) == 1:
        yield command
        return
    for name in words[1].split("|"):
        found = command.get_command(context, name)
        assert found is not None, words
        yield found

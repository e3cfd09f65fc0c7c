"""The public surface as lines of text, the same on every Python.

`python -m tests.api.described > tests/api/public_api.txt` accepts a change of it.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType, UnionType
from typing import get_args

import turnmill
from turnmill import cli, wire
from turnmill.domain.errors import TurnmillError
from turnmill_worker.providers import port


def lines() -> list[str]:
    """Return the whole surface."""
    found: list[str] = []
    for name in sorted(turnmill.__all__):
        found.extend(_of_class(name, getattr(turnmill, name)))
    found.extend(_of_port())
    found.extend(f"turnmill {command}" for command in sorted(cli.COMMANDS))
    found.extend(f"wire.{name} = {value}" for name, value in _wire_names())
    return found


def _wire_names() -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(wire).items()):
        if name.isupper() and isinstance(value, str):
            yield name, value


def _of_class(name: str, each: type | UnionType | FunctionType) -> Iterator[str]:
    if isinstance(each, UnionType):
        yield f"{name} = {' | '.join(one.__name__ for one in get_args(each))}"
    elif isinstance(each, FunctionType):
        yield f"{name}{_parameters(each)}"
    elif issubclass(each, TurnmillError):
        yield f"{name}({', '.join(base.__name__ for base in each.__bases__)}) code={each.code}"
    elif issubclass(each, Enum):
        yield f"{name} = {' | '.join(str(member.value) for member in each)}"
    elif is_dataclass(each):
        yield f"{name}({', '.join(field.name for field in fields(each))})"
        own = set(vars(each)) - {field.name for field in fields(each)}
        yield from (f"{name}.{one}" for one in sorted(own) if not one.startswith("_"))
    else:
        yield f"{name}{_parameters(each)}"
        yield from _members(name, each)


def _members(name: str, each: type) -> Iterator[str]:
    parts = [one for one in each.__mro__ if one.__module__.startswith("turnmill")]
    for attribute in sorted({attribute for one in parts for attribute in vars(one)}):
        if attribute.startswith("_"):
            continue
        member = inspect.getattr_static(each, attribute)
        awaited = "await " if inspect.iscoroutinefunction(getattr(member, "fget", member)) else ""
        shown = _parameters(member) if callable(member) else ""
        yield f"{awaited}{name}.{attribute}{shown}"


def _parameters(function: object) -> str:
    """Return names, kinds and defaults. How annotations read depends on the Python."""
    assert callable(function)
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    without = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return str(without)


def _of_port() -> Iterator[str]:
    """Yield what authors of providers write against, types included: it is read, not evaluated."""
    assert port.__file__ is not None
    for node in ast.parse(Path(port.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            of = f"providers.{node.name}"
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            yield f"{of}({bases})"
            yield from (line for part in node.body for line in _of_part(of, part))
        elif isinstance(node, ast.Assign):
            yield f"providers.{ast.unparse(node)}"


def _of_part(of: str, part: ast.stmt) -> Iterator[str]:
    if isinstance(part, ast.AnnAssign):
        yield f"{of}.{ast.unparse(part)}"
    elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
        awaited = "await " if isinstance(part, ast.AsyncFunctionDef) else ""
        returned = "" if part.returns is None else f" -> {ast.unparse(part.returns)}"
        yield f"{awaited}{of}.{part.name}({ast.unparse(part.args)}){returned}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")

"""The public surface as lines of text, the same on every Python.

`python -m tests.api.described > tests/api/public_api.txt` accepts a change of it.
"""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import get_args, is_typeddict

import turnmill
from turnmill import cli, wire
from turnmill.aio.client import AsyncSessions, AsyncTurns
from turnmill.domain.errors import TurnmillError
from turnmill.sync import client
from turnmill.verbs import options
from turnmill.verbs.analytics import Analytics
from turnmill.verbs.batches import Batches
from turnmill.verbs.lanes import Lanes

#: Reached by an attribute of a client, never made by a user.
_REACHED = (Analytics, AsyncSessions, AsyncTurns, Batches, Lanes, client.Sessions, client.Turns)


def lines() -> list[str]:
    """Return the whole surface."""
    found: list[str] = []
    named = {name: getattr(turnmill, name) for name in turnmill.__all__}
    reached = {each.__name__: each for each in _REACHED}
    typed = {name: each for name, each in vars(options).items() if is_typeddict(each)}
    for name, each in sorted({**named, **reached, **typed}.items()):
        found.extend(_of_class(name, each))
    found.extend(f"turnmill {command}" for command in sorted(cli.COMMANDS))
    found.extend(f"wire.{name} = {value}" for name, value in _wire_names())
    return found


def _wire_names() -> Iterator[tuple[str, str]]:
    for name, value in sorted(vars(wire).items()):
        if name.isupper() and isinstance(value, str):
            yield name, value


def _of_class(name: str, each: type | UnionType) -> Iterator[str]:
    if isinstance(each, UnionType):
        yield f"{name} = {' | '.join(one.__name__ for one in get_args(each))}"
    elif is_typeddict(each):
        yield f"{name} {{{', '.join(sorted(each.__annotations__))}}}"
    elif issubclass(each, TurnmillError):
        yield f"{name}({', '.join(base.__name__ for base in each.__bases__)}) code={each.code}"
    elif issubclass(each, Enum):
        yield f"{name} = {' | '.join(str(member.value) for member in each)}"
    elif is_dataclass(each):
        yield f"{name}({', '.join(field.name for field in fields(each))})"
    else:
        yield f"{name}{_parameters(each)}"
        yield from _members(name, each)


def _members(name: str, each: type) -> Iterator[str]:
    for attribute in sorted(vars(each)):
        if attribute.startswith("_"):
            continue
        member = inspect.getattr_static(each, attribute)
        if callable(member):
            awaited = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"{awaited}{name}.{attribute}{_parameters(member)}"
        else:
            yield f"{name}.{attribute}"


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


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")

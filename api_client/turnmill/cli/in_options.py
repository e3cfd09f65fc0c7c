"""Hints name arguments as programs pass them; whoever typed a command reads its options instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import click

#: Options that are called otherwise than the argument that they become.
_CALLED: Mapping[str, str] = MappingProxyType(
    {
        "deliveries": "delivery",
        "requests_per_minute": "requests",
        "tokens_per_minute": "tokens",
        "user_id": "user",
    }
)
_ARGUMENT = re.compile(
    r"""(?<![\w.?&-])(?P<name>[a-z]+(?:_[a-z]+)*)=(?!=)
    (?P<value>True\b|…|"[^"]*"|'[^']*'|\[.*?\]|\{.*?\}|\(.*?\)|[a-z]+\([^)]*\)|[\w.]+|)""",
    re.VERBOSE | re.IGNORECASE,
)
#: How a value is typed that is no text.
_TYPED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"""Decimal\("(.*)"\)"""), r"\1"),
    (re.compile(r"""\("(.*)", "(.*)"\)"""), r"\1=\2"),
    (re.compile(r"""datetime\((\d+), (\d+), (\d+), (\d+),.*\)"""), r"\1-\2-\3T\4:00"),
    (re.compile(r"""timedelta\(([dh])\w+=(\d+)\)"""), r"\2\1"),
    (re.compile(r"""\["([^"]*)".*\]"""), r"\1"),
    (re.compile(r"""(\{.*\})"""), r"'\1'"),
)


def in_options(hint: str, command: click.Command) -> str:
    """Return a hint as it is read beside the command.

    An argument for which the command has no option stays as it is.
    """
    options = {_name_of(one): one for one in command.params if isinstance(one, click.Option)}

    def typed(found: re.Match[str]) -> str:
        option = options.get(_CALLED.get(found["name"], found["name"]))
        return found[0] if option is None else _as_typed(option, found["value"])

    return _ARGUMENT.sub(typed, hint)


def _name_of(option: click.Option) -> str:
    return option.opts[0].lstrip("-").replace("-", "_")


def _as_typed(option: click.Option, value: str) -> str:
    if option.is_flag or not value:
        return option.opts[0]
    if value in ("…", "[…]"):
        return f"{option.opts[0]} {option.metavar or '…'}"
    for how, written in _TYPED:
        value = how.sub(written, value)
    return f"{option.opts[0]} {value}"

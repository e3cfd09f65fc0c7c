"""Which MCP servers an operator has configured: a file says how each is reached, and what it may.

{"mcpServers": {"files": {"command": "uvx", "args": ["files-server", "/srv/files"]},
                "crm": {"url": "https://crm.example.com/mcp", "effects": "idempotent"}}}
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from turnmill.connections import rules
from turnmill.domain.bounds import (
    LONGEST_EXPIRY,
    LONGEST_TIMEOUT,
    SHORTEST_EXPIRY,
    SHORTEST_TIMEOUT,
)
from turnmill.domain.errors import InvalidSetting
from turnmill.domain.states import Effects
from turnmill.settings import Profile
from turnmill.tools import EXPIRES

VARIABLE = "TURNMILL_MCP"
#: Between the name of a server and that of its tool.
BETWEEN = "__"
MOST_SERVERS = 32
_MOST_BYTES = 1_000_000
_EXAMPLE = '{"mcpServers": {"files": {"command": "uvx", "args": ["files-server"]}}}'
_NAME = re.compile(r"(?!.*__)[a-zA-Z0-9]([a-zA-Z0-9_-]{0,30}[a-zA-Z0-9])?")
_REFERENCE = re.compile(r"\$\{(\w+)\}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRules:
    """What holds for calls of a tool."""

    timeout: timedelta = timedelta(seconds=60)
    #: Who says nothing may not have thought about it, and what a server says of itself is a hint.
    effects: Effects = Effects.AT_MOST_ONCE
    approval: bool = False
    expires: timedelta = EXPIRES


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How one server is reached, and what holds for its tools."""

    name: str
    url: str = field(default="", repr=False)  #: empty: it is a program
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: str = field(default="", repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = field(default=None, repr=False)
    stderr: bool = False  #: whether the worker's stderr is the program's, too
    only: frozenset[str] | None = None  #: the tools that there are, by the server's names
    each: ToolRules = field(default_factory=ToolRules)
    #: that have rules of their own
    tools: Mapping[str, ToolRules] = field(default_factory=dict)

    def rules_of(self, tool: str) -> ToolRules:
        """Return what holds for a tool, by the server's name of it."""
        return self.tools.get(tool, self.each)

    @property
    def longest(self) -> timedelta:
        """How long a call of any of its tools may take at the most."""
        return max(one.timeout for one in (self.each, *self.tools.values()))


def configured(
    file: Path, *, profile: Profile, environ: Mapping[str, str] | None = None
) -> tuple[ServerSettings, ...]:
    """Return the servers that the file lists. `${NAME}` stands for a variable of the environment.

    Raises InvalidSetting for what cannot be read, and UnsafeSetting for what production refuses;
    names of servers, tools and variables are quoted, and no values.
    """
    said = _read(file)
    servers = said.get("mcpServers")
    if set(said) != {"mcpServers"} or not isinstance(servers, dict):
        raise _refused("has no object mcpServers, or something beside it", hint=_EXAMPLE)
    if len(servers) > MOST_SERVERS:
        raise _refused(f"lists more than {MOST_SERVERS} servers", hint="a worker connects to each")
    env = os.environ if environ is None else environ
    found = tuple(_server(name, about, env) for name, about in servers.items())
    if profile is Profile.PRODUCTION:
        for one in filter(lambda one: one.url, found):
            rules.refuse_unsafe(rules.of_http(f"{VARIABLE}, server {one.name}", one.url))
    return found


def _server(name: str, about: Any, env: Mapping[str, str]) -> ServerSettings:
    if not _NAME.fullmatch(name):
        raise _refused(
            f"names a server {name[:64]!r}", hint="letters, digits, - and single _, at most 32"
        )
    reader = _Reader(name, about, env)
    reader.take("type", _text, "")  # other clients' files say it; the rest tells as much
    url, command = reader.take("url", _text, ""), reader.take("command", _text, "")
    if bool(url) == bool(command):
        raise reader.refused("has to have a url or a command, and one of them")
    each = _rules(reader, ToolRules())
    only = reader.take("only", _texts, None)
    found = ServerSettings(
        name=name,
        url=_checked(url, reader),
        command=command,
        headers=_only_with(url, reader.take("headers", _mapping, {}), "headers", reader),
        args=_only_with(command, reader.take("args", _texts, ()), "args", reader),
        env=_only_with(command, reader.take("env", _mapping, {}), "env", reader),
        cwd=_only_with(command, reader.take("cwd", _text, None), "cwd", reader),
        stderr=_only_with(command, reader.take("stderr", _flag, False), "stderr", reader),
        only=None if only is None else frozenset(only),
        each=each,
        tools=_of_tools(name, reader.take("tools", _object, {}), each, env),
    )
    reader.end()
    return found


def _of_tools(
    server: str, tools: Mapping[str, Any], each: ToolRules, env: Mapping[str, str]
) -> dict[str, ToolRules]:
    found: dict[str, ToolRules] = {}
    for name, about in tools.items():
        reader = _Reader(f"{server}, tool {name[:64]}", about, env)
        found[name] = _rules(reader, each)
        reader.end()
    return found


def _rules(reader: "_Reader", unless: ToolRules) -> ToolRules:
    """Return the rules that are said, and for all others those that hold otherwise."""
    return replace(
        unless,
        timeout=reader.take("timeout", _span(SHORTEST_TIMEOUT, LONGEST_TIMEOUT), unless.timeout),
        effects=reader.take("effects", Effects, unless.effects),
        approval=reader.take("approval", _flag, unless.approval),
        expires=reader.take("expires", _span(SHORTEST_EXPIRY, LONGEST_EXPIRY), unless.expires),
    )


class _Reader:
    """Takes what is said of one thing, key by key, so that nothing is passed over in silence."""

    def __init__(self, what: str, about: Any, env: Mapping[str, str]) -> None:
        self._what = what
        self._env = env
        if not isinstance(about, dict):
            raise self.refused("has to be an object")
        self._left = dict(about)

    def take(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Return what is said under the key, with references to variables replaced."""
        if key not in self._left:
            return default
        try:
            return read(self._replaced(self._left.pop(key)))
        except (TypeError, ValueError):
            raise self.refused(f"has a wrong {key}") from None

    def end(self) -> None:
        """Raise InvalidSetting where there is something that nobody has taken."""
        if self._left:
            raise self.refused(f"has an unknown key {min(self._left)[:64]!r}")

    def refused(self, why: str) -> InvalidSetting:
        """Return the error."""
        return _refused(f"says of server {self._what}: it {why}", hint="see docs/tools.md")

    def _replaced(self, said: Any) -> Any:
        if isinstance(said, str):
            return _REFERENCE.sub(self._value, said)
        if isinstance(said, list):
            return [self._replaced(one) for one in said]
        if isinstance(said, dict):
            return {key: self._replaced(one) for key, one in said.items()}
        return said

    def _value(self, found: re.Match[str]) -> str:
        value = self._env.get(found[1])
        if value is None:
            raise self.refused(f"refers to the variable {found[1]}, which is not set")
        return value


def _checked(url: str, reader: _Reader) -> str:
    try:
        parts = urlsplit(url)
        fits = not url or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        fits = False
    if not fits:
        raise reader.refused("has a url that is none of http:// or https://")
    return url


def _only_with(wanted: str, value: T, key: str, reader: _Reader) -> T:
    if value and not wanted:
        raise reader.refused(f"has {key}, which goes with the other kind of server")
    return value


def _text(said: Any) -> str:
    if not isinstance(said, str) or not said or "\0" in said:
        raise TypeError
    return said


def _texts(said: Any) -> tuple[str, ...]:
    if not isinstance(said, list):
        raise TypeError
    return tuple(map(_any_text, said))


def _any_text(said: Any) -> str:
    return said if isinstance(said, str) and not said else _text(said)


def _object(said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise TypeError
    return said


def _mapping(said: Any) -> dict[str, str]:
    return {_text(key): _any_text(value) for key, value in _object(said).items()}


def _flag(said: Any) -> bool:
    if not isinstance(said, bool):
        raise TypeError
    return said


def _span(least: timedelta, most: timedelta) -> Callable[[Any], timedelta]:
    def read(said: Any) -> timedelta:
        if isinstance(said, bool) or not isinstance(said, int | float):
            raise TypeError
        if not least.total_seconds() <= said <= most.total_seconds():
            raise ValueError
        return timedelta(seconds=said)

    return read


def _read(file: Path) -> dict[str, Any]:
    is_toml = file.suffix == ".toml"
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        why = f"cannot be read: {type(error).__name__}"
        raise _refused(why, hint="the path of a JSON or TOML file") from None
    if len(text) > _MOST_BYTES:
        raise _refused(f"is larger than {_MOST_BYTES} bytes", hint=_EXAMPLE)
    try:
        said = tomllib.loads(text.decode()) if is_toml else json.loads(text)
    except (ValueError, RecursionError):
        raise _refused("is no TOML" if is_toml else "is no JSON", hint=_EXAMPLE) from None
    if not isinstance(said, dict):
        raise _refused("holds no object", hint=_EXAMPLE)
    return said


def _refused(why: str, *, hint: str) -> InvalidSetting:
    return InvalidSetting(f"{VARIABLE}: the file {why}", hint=hint)

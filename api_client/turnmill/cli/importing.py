"""Files of conversations that were had elsewhere, made into sessions line by line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnmill.cli.context import say
from turnmill.domain.conversations import Conversation, conversation_from
from turnmill.domain.errors import InvalidInput, SessionNotFound
from turnmill.domain.scripts import script_of
from turnmill.show.terminal import on_one_line

if TYPE_CHECKING:
    from turnmill.sync.client import Client

#: Of one line: a history has fewer messages than would fill it.
_LONGEST_LINE = 64 * 2**20
_HINT = 'one conversation a line, such as {"messages": [{"role": "user", "content": "Hello"}, …]}'


@dataclass(slots=True)
class Told:
    """What an import has come to."""

    lines: int = 0
    made: int = 0
    known: int = 0  #: lines whose session stood before
    left_out: int = 0  #: last messages without a reply
    failed: list[int] = field(default_factory=list)  #: numbers of lines that are none


@dataclass(frozen=True, slots=True)
class ImportedLine:
    """A line of a file."""

    number: int
    digest: str = field(repr=False)  #: of what stands in it
    said: Conversation | InvalidInput


def read_conversations(path: str, *, max_text_bytes: int) -> Iterator[ImportedLine]:
    """Yield what each line that is not blank holds, or why it holds no conversation."""
    with open(path, "rb") as file:
        number = 0
        while raw := file.readline(_LONGEST_LINE):
            number += 1
            if raw.strip():
                digest = hashlib.sha256(raw.strip()).hexdigest()[:32]
                yield ImportedLine(number, digest, _conversation(raw, max_text_bytes))


def _conversation(raw: bytes, max_text_bytes: int) -> Conversation | InvalidInput:
    if len(raw) >= _LONGEST_LINE:
        return InvalidInput("the line is too long", hint=_HINT)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return InvalidInput("this is no JSON", hint=_HINT)
    try:
        return conversation_from(document, max_text_bytes=max_text_bytes)
    except InvalidInput as error:
        return error


def import_sessions(
    client: Client,
    lines: Iterator[ImportedLine],
    *,
    user: str,
    dry_run: bool = False,
    **options: Any,
) -> Told:
    """Make a session of each, under a key of its content: the same line again makes no other."""
    told = Told()
    for line in lines:
        told.lines += 1
        try:
            _import(client, line, told, user=user, dry_run=dry_run, options=options)
        except InvalidInput as error:
            say(f"line {line.number}: {on_one_line(str(error))}")
            told.failed.append(line.number)
    return told


def _import(
    client: Client,
    line: ImportedLine,
    told: Told,
    *,
    user: str,
    dry_run: bool,
    options: Mapping[str, Any],
) -> None:
    if isinstance(line.said, InvalidInput):
        raise line.said
    script = script_of(line.said.messages)
    if not script.turns:
        raise InvalidInput("nobody has answered anything in it", hint=_HINT)
    told.left_out += len(script.open)
    history = [message for turn in script.turns for message in turn]
    key = f"import:{hashlib.sha256(user.encode()).hexdigest()[:16]}:{line.digest}"
    if _stands(client, key):
        told.known += 1
        return
    if dry_run:
        told.made += 1
        return
    client.sessions.create(
        user_id=user, key=key, system_prompt=line.said.system_prompt, history=history, **options
    )
    told.made += 1


def _stands(client: Client, key: str) -> bool:
    try:
        client.sessions.get(key)
    except SessionNotFound:
        return False
    return True

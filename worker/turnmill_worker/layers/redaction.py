"""Redaction: personal data does not leave; placeholders do, and the reply has the data again."""

import asyncio
import json
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from turnmill.domain.content import Attached, Message, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import InvalidSetting, NotSent, Rejected, ThreadLost
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.personal_data import BUILT_IN, Redactor, pattern
from turnmill_worker.layers.placeholders import Placeholders
from turnmill_worker.plugins import Kind, plugins
from turnmill_worker.providers.boundary import Answer, name_of
from turnmill_worker.providers.parameters import KEPT_ELSEWHERE
from turnmill_worker.providers.port import Done, Emit, Request
from turnmill_worker.threads import Ran, Threads

#: Codes of turns that failed for it.
REDACTION_FAILED = "redaction_failed"
FILE_REFUSED = "file_not_redacted"

REDACTORS = Kind(noun="redactor", variable="TURNMILL_REDACT", group="turnmill.redactors", most=32)
_PATTERNS = "TURNMILL_REDACT_PATTERNS"
_KEY = "TURNMILL_REDACT_KEY"
_FILES = "TURNMILL_REDACT_FILES"
_SHORTEST_KEY = 16
_MOST_BYTES = 1_000_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
#: Calls whose words are looked at at once.
_THREADS = 16
_EXAMPLE = 'social_security = "\\\\b\\\\d{3}-\\\\d{2}-\\\\d{4}\\\\b"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What is found, and how it is named."""

    redactors: Sequence[Redactor]
    key: bytes = field(repr=False)
    refuse_files: bool = False
    within: timedelta = timedelta(seconds=10)  #: of all that one call says


def redact() -> Layer:
    """Return the layer: the factory of the entry point `redact`, set up by TURNMILL_REDACT_…."""
    return redaction(from_env(os.environ))


def redaction(chosen: Redaction) -> Layer:
    """Return the layer.

    What is stored stays as it was said. A vendor's thread is left for one with the whole history:
    of what was said in it before, nobody could tell any more what a placeholder stands for.
    """
    threads = Threads(_THREADS, name="redact")

    async def layer(call: Call, go: Go) -> Answer:
        if call.request.thread_ref:
            # What a reply that is looked up says may stand for what was said in earlier turns.
            raise ThreadLost(KEPT_ELSEWHERE)
        if chosen.refuse_files and _has_files(call.request):
            raise Rejected(FILE_REFUSED, hint=f"{_FILES}=send, or send its words")
        session = str(call.claim.session_id)
        names = Placeholders(chosen.redactors, key=chosen.key, session=session)
        request = await _hidden(call.request, names, threads, within=chosen.within)
        if call.emit is None:
            return _restored(await go(replace(call, request=request)), names)
        emit = _Restoring(call.emit, names)
        answer = await go(replace(call, request=request, emit=emit))
        await emit.end()
        return _restored(answer, names)

    return layer


def from_env(environ: Mapping[str, str]) -> Redaction:
    """Read TURNMILL_REDACT_…; raises InvalidSetting, as a worker does at its start."""
    listed = environ.get(REDACTORS.variable) or ",".join(BUILT_IN)
    names = [one.strip() for one in listed.split(",") if one.strip()]
    theirs = ",".join(one for one in names if one not in BUILT_IN)
    found = [BUILT_IN[one] for one in names if one in BUILT_IN]
    found += [one.made for one in plugins(theirs, REDACTORS)]
    file = environ.get(_PATTERNS)
    key = environ.get(_KEY, "")
    if key and len(key) < _SHORTEST_KEY:
        raise InvalidSetting(f"{_KEY} is short", hint=f"{_SHORTEST_KEY} characters or more")
    files = environ.get(_FILES) or "send"
    if files not in ("send", "refuse"):
        raise InvalidSetting(f"{_FILES} cannot be understood", hint="send or refuse")
    return Redaction(
        redactors=[*found, *(() if not file else _patterns(Path(file)))],
        key=key.encode() or secrets.token_bytes(32),
        refuse_files=files == "refuse",
    )


def _patterns(file: Path) -> list[Redactor]:
    """Return what finds the patterns of a file: numbers of a country's citizens, say."""
    try:
        text = file.read_bytes()[: _MOST_BYTES + 1].decode()
        said: Any = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise _refused(f"cannot be read: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise _refused("is neither TOML nor JSON") from None
    if len(text) > _MOST_BYTES or not isinstance(said, dict):
        raise _refused("holds no names with patterns")
    return [_pattern(name, expression) for name, expression in said.items()]


def _pattern(name: str, expression: object) -> Redactor:
    if not _NAME.fullmatch(name) or not isinstance(expression, str):
        raise _refused(f"has a line that is no name and pattern: {name[:40]!r}")
    try:
        return pattern(name, expression)
    except (re.error, RecursionError, OverflowError):
        raise _refused(f"has a pattern that cannot be read: {name!r}") from None


def _refused(why: str) -> InvalidSetting:
    return InvalidSetting(f"{_PATTERNS}: the file {why}", hint=_EXAMPLE)


async def _hidden(
    request: Request, names: Placeholders, threads: Threads, *, within: timedelta
) -> Request:
    """Return the request with placeholders, made in a thread: a long history takes its time."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            ran = await threads.call(partial(_with_placeholders, request, names))
    except TimeoutError as error:
        ran = Ran(None, error)
    if ran.raised is not None:
        # A redactor of somebody's: its words may quote what it was given.
        raise NotSent(REDACTION_FAILED, detail=name_of(ran.raised))
    hidden: Request = ran.result
    return hidden


def _with_placeholders(request: Request, names: Placeholders) -> Request:
    prompt = request.system_prompt
    return replace(
        request,
        system_prompt=None if prompt is None else names.hide(prompt),
        history=[_message(one, names) for one in request.history],
        messages=[_message(one, names) for one in request.messages],
    )


def _message(message: Message, names: Placeholders) -> Message:
    return Message(message.role, [_part(one, names.hide) for one in message.parts])


def _part(part: Part, change: Callable[[str], str]) -> Part:
    """Return the part with its words changed; a vendor's own item goes back as it came."""
    if isinstance(part, Text):
        return Text(change(part.text))
    if isinstance(part, ToolOutput):
        return replace(part, output=change(part.output))
    if isinstance(part, ToolCall):
        return replace(part, arguments=_arguments(part.arguments, change))
    if isinstance(part, Attached):
        return replace(part, name=change(part.name))
    return part


def _arguments(said: str, change: Callable[[str], str]) -> str:
    """Return a call's arguments with every text and number in them changed: JSON, as before."""
    try:
        read = json.loads(said)
    except (ValueError, RecursionError):
        return change(said)
    made = _leaves(read, change)
    return said if made == read else json.dumps(made, ensure_ascii=False)


def _leaves(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {change(name): _leaves(one, change) for name, one in value.items()}
    if isinstance(value, list):
        return [_leaves(one, change) for one in value]
    if isinstance(value, str):
        return change(value)
    if isinstance(value, int) and not isinstance(value, bool):
        made = change(str(value))
        return value if made == str(value) else made
    return value


def _restored(answer: Answer, names: Placeholders) -> Answer:
    if not isinstance(answer, Done):
        return answer
    return replace(answer, parts=[_part(one, names.restore) for one in answer.parts])


def _has_files(request: Request) -> bool:
    said = (*request.history, *request.messages)
    return any(isinstance(part, Attached) for one in said for part in one.parts)


class _Restoring:
    """Gives pieces on with what placeholders stand for: one may come in several pieces."""

    def __init__(self, emit: Emit, names: Placeholders) -> None:
        self._emit = emit
        self._names = names
        self._held = ""

    async def __call__(self, piece: str) -> None:
        if type(piece) is not str:
            await self._emit(piece)  # it is judged with the answer
            return
        text = self._held + piece
        ends = len(text) - self._names.open_end(text)
        self._held = text[ends:]
        if ends:
            await self._emit(self._names.restore(text[:ends]))

    async def end(self) -> None:
        """Give on what was no placeholder after all."""
        if self._held:
            held, self._held = self._held, ""
            await self._emit(self._names.restore(held))

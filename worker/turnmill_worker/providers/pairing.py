"""A conversation as every vendor takes it: each call with its output behind it, and nothing else.

Histories of ours may have changed their provider in the middle, been imported, or been cut short.
No vendor takes a call without an output, an output without a call, or a blank; and one that refuses
a history refuses every later message of its session. So none of these is ever sent.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from typing import Any

from pydantic_core import from_json

from turnmill.domain.content import (
    Message,
    Native,
    Part,
    Text,
    ToolCall,
    ToolOutput,
)
from turnmill.domain.errors import Rejected
from turnmill.store.codec import StoredHistory
from turnmill_worker.providers.fitting import item_of, unsupported

#: What is sent in the place of an output that nobody has.
NO_OUTPUT = "no output: the call was not run"
#: What is sent where a vendor wants words, and there are none.
NO_WORDS = "(no words)"
NAME_MAX = 64  #: of a tool, at either vendor

_SPEAKERS = frozenset({"user", "assistant", "system"})
_ROLES = _SPEAKERS | {"tool"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST = 24

#: Returns an assistant message's parts without the natives that cannot be sent.
Company = Callable[[Sequence[Part]], Sequence[Part]]


def _all(parts: Sequence[Part]) -> Sequence[Part]:
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one API makes of a conversation."""

    api: str  #: of native parts
    id_max: int  #: characters of a call's id
    #: a native item as a part of ours, where it is a call or an output that we have a part for
    part_of: Callable[[Mapping[str, Any]], Part | None] = lambda _: None
    #: an assistant message without the natives that cannot stand in it as it is
    company: Company = _all


def paired(
    messages: Iterable[Message], *, dialect: Dialect, held: Sequence[Message] = ()
) -> list[Message]:
    """Return the messages without blanks, and each call with its output in the message behind it.

    A message of role `tool` holds one output for each call of the assistant's right before it, and
    in their order. Of calls that have none it says so; an output that belongs to no call becomes
    words of the user. `held` are messages that the vendor has already: the outputs of their last
    calls come first. Raises Rejected for a part, or a role, that nobody can be sent.
    """
    said: list[Message] = []
    are_plain = True
    for message in messages:
        parts = message.parts
        if len(parts) == 1 and type(only := parts[0]) is Text and message.role in _SPEAKERS:
            if not is_blank(only.text):
                said.append(message)  # most are
        elif (read := _readable(message, dialect)) is not None:
            said.append(read)
            are_plain = are_plain and _is_plain(read)
    open_calls = _open_calls(held)
    if are_plain and not open_calls:
        return said
    return [*_in_order(said, ids=_Ids(dialect.id_max), calls=open_calls, dialect=dialect)]


def words_of(
    history: Sequence[Message], messages: Sequence[Message]
) -> list[tuple[str, str]] | None:
    """Return who says what, without blanks, where all that is said is words; else None.

    That is what `paired` comes to then, and most conversations are: their histories are read
    without messages being made of them, in half the time.
    """
    if not isinstance(history, StoredHistory) or not all(map(_is_plain, messages)):
        return None
    found = history.words()
    if found is None:
        return None
    found += [(one.role, one.text) for one in messages]
    if not _SPEAKERS.issuperset([role for role, _ in found]):
        return None
    return [one for one in found if one[1] and not one[1].isspace()]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as an object; what is none stands in one, under `unparsed`."""
    found = _object(call.arguments or "{}")
    return {"unparsed": call.arguments} if found is None else found


def said_arguments_of(call: ToolCall) -> str:
    """Return the arguments as JSON of an object: as the model wrote them, where they are that."""
    found = _object(call.arguments)
    return call.arguments if found is not None else json.dumps(arguments_of(call))


def name_of_tool(given: str) -> str:
    """Return a name that both vendors take; another one for each that they do not."""
    if 0 < len(given) <= NAME_MAX and not _NOT_IN_NAMES.search(given):
        return given
    digest = _digest(given)[:8]
    return f"{_NOT_IN_NAMES.sub('_', given)[: NAME_MAX - 9]}_{digest}"


def whole_pairs(halves: Iterable[tuple[Hashable, bool] | None]) -> set[int]:
    """Return the places of what stands in pairs: a name that opens one, and later one that ends it.

    Each name counts once. None is what belongs to no pair.
    """
    opened: dict[Hashable, int] = {}
    ended: set[Hashable] = set()
    found: set[int] = set()
    for place, half in enumerate(halves):
        if half is None or half[0] in ended:
            continue
        key, opens = half
        if opens:
            opened[key] = place
        elif key in opened:
            ended.add(key)
            found |= {opened[key], place}
    return found


def citing(parts: Sequence[Part], words_of: Callable[[Part], str | None]) -> list[Part]:
    """Return the parts, words that an item of the vendor's own says again left to it alone.

    `words_of` returns None for any other part. An item whose words do not end the text before it
    is left out: somebody has changed that text since. So is one in which nothing is to be read.
    """
    found: list[Part] = []
    for part in parts:
        if (said := words_of(part)) is None:
            found.append(part)
        elif (
            not is_blank(said)
            and found
            and isinstance(last := found[-1], Text)
            and last.text.endswith(said)
        ):
            found[-1:] = [*_joined([Text(last.text.removesuffix(said))]), part]
    return found


def is_blank(text: str) -> bool:
    """Tell whether there is nothing to be read in it."""
    return not text or text.isspace()


def _object(text: str) -> dict[str, Any] | None:
    """Return the object that a text is the JSON of, as strictly as vendors read it; else None."""
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class _Ids:
    """Ids of calls that a vendor takes: the same as they were, unless one cannot be sent."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._taken: set[str] = set()
        self._changed: Counter[str] = Counter()

    def take(self, given: str) -> str:
        """Return the id for a call. In a history that only grows it stays what it is."""
        fit = given
        while not self._fits(fit):
            fit = f"call_{_digest(f'{self._changed[given]} {given}')}"
            self._changed[given] += 1
        self._taken.add(fit)
        return fit

    def _fits(self, one: str) -> bool:
        if not 0 < len(one) <= self._longest or _NOT_IN_NAMES.search(one):
            return False
        return one not in self._taken


def _digest(given: str) -> str:
    return sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]


def _is_plain(message: Message) -> bool:
    return len(message.parts) == 1 and type(message.parts[0]) is Text and message.role != "tool"


def _readable(message: Message, dialect: Dialect) -> Message | None:
    """Return a message with what it says to this API, its texts joined; None where that is none."""
    if message.role not in _ROLES:
        raise Rejected("unsupported_role", detail=f"a message with the role {message.role}")
    parts = [*_joined(_readable_parts(message, dialect))]
    return Message(message.role, parts) if parts else None


def _readable_parts(message: Message, dialect: Dialect) -> Iterator[Part]:
    for part in message.parts:
        if isinstance(part, Native):
            if part.api in ("", dialect.api) and isinstance(item := item_of(part), dict):
                known = dialect.part_of(item)
                if known or message.role == "assistant":  # nobody else says the vendor's own
                    yield known or part
        elif isinstance(part, Text | ToolCall | ToolOutput):
            yield part
        elif message.role == "user":
            yield part  # whether it is taken, whoever builds the body says
        else:
            raise unsupported(part)


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts, texts that stand side by side as one, and no blank one."""
    for is_text, run in groupby(parts, lambda one: isinstance(one, Text)):
        if not is_text:
            yield from run
        elif not is_blank(text := "".join(one.text for one in run if isinstance(one, Text))):
            yield Text(text)


def _in_order(
    said: Sequence[Message], *, ids: _Ids, calls: Sequence[ToolCall], dialect: Dialect
) -> Iterator[Message]:
    pending = [(call, call.id) for call in calls]  # the vendor holds them by their own ids
    for call in calls:
        ids.take(call.id)
    for is_assistant, run in groupby(said, lambda one: one.role == "assistant"):
        if is_assistant:
            yield from _answered(pending, ())
            pending = []
            for message in _run_of_assistant([*run], dialect):
                renamed, pending = _renamed(message, ids)
                yield renamed
        else:
            yield from _answered(pending, [*run])
            pending = []
    yield from _answered(pending, ())


def _run_of_assistant(run: Sequence[Message], dialect: Dialect) -> Iterator[Message]:
    """Yield messages of the assistant's in a row: as one where they hold more than words."""
    if any(isinstance(part, ToolCall | Native) for one in run for part in one.parts):
        run = [Message("assistant", [part for one in run for part in one.parts])]
    for one in run:
        parts = one.parts if _is_plain(one) else dialect.company(_spoken(one))
        if parts:
            yield Message("assistant", parts)


def _spoken(message: Message) -> Sequence[Part]:
    """Return the parts of an assistant message; outputs are none of its to say."""
    return [_as_words(one) if isinstance(one, ToolOutput) else one for one in message.parts]


def _renamed(message: Message, ids: _Ids) -> tuple[Message, list[tuple[ToolCall, str]]]:
    """Return the message with ids and names that can be sent, and its calls with their new ids."""
    parts: list[Part] = []
    calls: list[tuple[ToolCall, str]] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            new = ids.take(part.id)
            calls.append((part, new))
            parts.append(replace(part, id=new, name=name_of_tool(part.name)))
        else:
            parts.append(part)
    return (Message(message.role, parts) if calls else message), calls


def _answered(calls: Sequence[tuple[ToolCall, str]], run: Sequence[Message]) -> Iterator[Message]:
    """Yield the outputs of the calls, whatever is there of them, and then what else was said."""
    wanted = Counter(call.id for call, _ in calls)
    outputs: dict[str, deque[ToolOutput]] = {name: deque() for name in wanted}
    others: list[Message] = []
    for message in run:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolOutput) and wanted[part.call_id] > 0:
                wanted[part.call_id] -= 1
                outputs[part.call_id].append(part)
            else:
                parts.append(_as_words(part))
        if parts:
            role = "user" if message.role == "tool" else message.role
            others.append(Message(role, [*_joined(parts)]))
    if calls:
        yield Message("tool", [_output_of(new, outputs[call.id]) for call, new in calls])
    yield from others


def _output_of(call_id: str, outputs: deque[ToolOutput]) -> ToolOutput:
    """Return the next output of a call under its new id, or one that says there is none."""
    if outputs:
        return replace(outputs.popleft(), call_id=call_id)
    return ToolOutput(call_id=call_id, output=NO_OUTPUT, is_error=True)


def _as_words(part: Part) -> Part:
    """Return a call or an output that stands where none can be as words; others as they are."""
    if isinstance(part, ToolCall):
        return Text(f"(a call of {part.name}: {part.arguments})")
    if isinstance(part, ToolOutput):
        return Text(f"(the output of a tool: {part.output})")
    return part


def _open_calls(held: Sequence[Message]) -> list[ToolCall]:
    """Return the calls at the end of what the vendor holds: their outputs are what comes next."""
    calls: list[ToolCall] = []
    for message in reversed(held):
        if message.role != "assistant":
            break
        calls[:0] = [one for one in message.parts if isinstance(one, ToolCall)]
    return calls

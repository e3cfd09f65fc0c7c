"""Items of the Responses API, and the parts that they are here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any

from turnmill.domain.content import Attached, Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill_worker.providers.fitting import item_of, named, unsupported
from turnmill_worker.providers.offering import call_of, native_of
from turnmill_worker.providers.openai.inputs import input_part_of
from turnmill_worker.providers.pairing import (
    NO_WORDS,
    Dialect,
    citing,
    is_blank,
    paired,
    said_arguments_of,
    whole_pairs,
    words_of,
)
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import joined, mapping, mappings, name, text

API = "responses"  #: of native parts

#: Calls that the vendor answers itself. Every other one waits for somebody else's output, and a
#: chain that has none goes no further.
ANSWERED = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "web_search_call",
    }
)

#: Holds the bytes of a picture, which we do not keep.
_PAINTED = "image_generation_call"
#: What travels back in a history of ours.
_KEPT = (ANSWERED | {"compaction", "mcp_list_tools", "reasoning"}) - {_PAINTED}
#: What is left out of an item that is only to be seen.
_NOT_SEEN = frozenset({"encrypted_content", "result"})
#: Models that do not reason.
_PLAIN = ("gpt-3.5", "gpt-4", "chatgpt-4")
#: They mean nothing to who has not stored them, but for what is encrypted in them.
_SEALED = frozenset({"compaction", "reasoning"})
#: What the vendor takes back of what stands for all that was said before it.
_OF_COMPACTION = ("id", "type", "encrypted_content")


def input_of(
    request: Request,
    messages: Sequence[Message],
    *,
    history: Sequence[Message] = (),
    held: Sequence[Message] = (),
) -> list[Any]:
    """Return messages of a request as `input`; `held` are those that the thread behind them holds.

    What is attached to them stands there by its name at the vendor, or with a gap for its bytes.
    """
    words = None if held else words_of(history, messages)
    if words is not None:
        return [_item(role, said) for role, said in words] or _nothing_said()
    # This API has no field for who of several people says something.
    dialect = _DIALECT if reasons(request.model) else _UNREASONING
    said = paired(map(named, (*history, *messages)), dialect=dialect, held=held)
    items: list[Any] = []
    for message in said:
        parts = message.parts
        if len(parts) == 1 and isinstance(only := parts[0], Text):
            items.append(_item(message.role, only.text))  # most are
        elif any(isinstance(one, Attached) for one in parts):
            content = [input_part_of(request, one) for one in parts]
            items.append({"role": message.role, "content": content})
        else:
            items += _items(message)
    return items or _nothing_said()


def reasons(model: str) -> bool:
    """Tell whether it may be asked for its reasoning, and given it back; others refuse that.

    A model that was fine-tuned, or is served by somebody else, does as its base does.
    """
    return not model.rpartition("/")[2].removeprefix("ft:").startswith(_PLAIN)


def _nothing_said() -> list[Any]:
    return [{"role": "user", "content": NO_WORDS}]


def parts_of(output: Sequence[Mapping[str, Any]], *, keep: bool, called: bool) -> list[Part]:
    """Return the parts of a reply, in the order of its items; at least a text.

    With `keep`, the vendor's own items are among them, which travel back; without `called` no call.
    Where it says what it has thought, or whom it cites, that is kept in any case, to be seen.
    """
    said = _joined_of(output, "text")
    marks = keep and any(map(_phase_of, output))
    if said and not marks and all(map(_is_plain, output)):
        return [Text(said)]  # most are nothing else
    # None without the reasoning that it belongs to.
    keep = keep and all(_can_return(one) for one in output if one.get("type") == "reasoning")
    found: list[Part] = []
    for item in output:
        kind = text(item.get("type"))
        if kind == "message":
            found += _words_in(item, "text" if said else "refusal", marks=marks)
        elif kind == "function_call" and called:
            found.append(_call(item, found))
        elif keep and kind in _KEPT and _can_return(item):
            found.append(native_of("openai", API, item))
        elif _tells_thoughts(item) or kind == _PAINTED:
            # To be seen only: sent back, it would want what it belongs to beside it, or its bytes.
            told = {name: one for name, one in item.items() if name not in _NOT_SEEN}
            found.append(native_of("openai", API, told))
    return _as_one(found)


def _words_in(item: Mapping[str, Any], kind: str, *, marks: bool) -> Iterator[Part]:
    """Yield the words of a message, and behind them what it says of these, where it travels back.

    Where they are from is kept in any case, to be seen.
    """
    words = _joined_of([item], kind, strict=False)
    if words:
        yield Text(words)
    if is_blank(words) or kind != "text":
        return
    if _cites(item):
        yield native_of("openai", API, item)
    elif marks and (phase := _phase_of(item)):
        yield native_of("openai", API, {"type": "message", "phase": phase})


def is_refusal(output: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the model has said why it does not answer, and nothing else."""
    return not _joined_of(output, "text") and bool(_joined_of(output, "refusal"))


def paints(output: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether there is a picture among the items."""
    return any(one.get("type") == _PAINTED for one in output)


def is_unanswered(item: Mapping[str, Any]) -> bool:
    """Tell whether somebody has to answer this item before the thread can go on."""
    kind = item.get("type")
    if not isinstance(kind, str) or not kind.endswith(("_call", "_approval_request")):
        return False
    return kind not in ANSWERED


def unanswered_in(output: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the items that somebody has to answer: not what the vendor has run in the answer.

    A shell in a container of its own, and a search of its own for tools, are followed by what came
    of them.
    """
    waiting = [one for one in output if is_unanswered(one)]
    if not waiting:
        return waiting  # nearly always
    answered = {(text(one.get("type")), name(one.get("call_id"))) for one in output}
    return [one for one in waiting if not _has_been_run(one, answered)]


def _has_been_run(call: Mapping[str, Any], answered: Collection[tuple[str, str]]) -> bool:
    if call.get("type") == "function_call":
        return False  # by us, if by anybody
    called, kind = name(call.get("call_id")), text(call.get("type"))
    is_answered = bool(called) and (f"{kind}_output", called) in answered
    return is_answered or call.get("execution") == "server"


def _items(message: Message) -> Iterator[Any]:
    role = message.role
    for part, following in zip_longest(message.parts, message.parts[1:]):
        match part:
            case Text():
                yield _item(role, part.text) | _marked_by(following)
            case ToolCall():
                said = said_arguments_of(part)
                yield {
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": said,
                }
            case ToolOutput():
                yield {
                    "type": "function_call_output",
                    "call_id": part.call_id,
                    "output": part.output,
                }
            case Native():
                if not _is_mark(item := item_of(part)):
                    yield _own(item)
            case _:
                raise unsupported(part)


def _item(role: str, said: str) -> dict[str, Any]:
    if role == "assistant":
        # The long form: llama.cpp takes no other for what the model said.
        content = [{"type": "output_text", "text": said}]
        return {"type": "message", "role": "assistant", "content": content}
    return {"role": role, "content": said}


def _call(item: Mapping[str, Any], found: Sequence[Part]) -> ToolCall:
    return call_of(
        call_id=item.get("call_id") or item.get("id"),
        called=item.get("name"),
        arguments=item.get("arguments"),
        taken={one.id for one in found if isinstance(one, ToolCall)},
    )


def _joined_of(items: Sequence[Mapping[str, Any]], kind: str, *, strict: bool = True) -> str:
    """Return what the messages among the items say: in texts, or in refusals.

    Some servers send a text where parts were. Where nothing is text that should be: Unreadable.
    """
    found = [one for item in items if item.get("type") == "message" for one in _words(item, kind)]
    return joined(found) if strict else "".join(map(text, found))


def _words(item: Mapping[str, Any], kind: str) -> Iterator[object]:
    content = item.get("content")
    parts = mappings(content)
    if not parts and content != [] and kind == "text":
        yield content
    for part in parts:
        if part.get("type") in ("output_text", "text") and kind == "text":
            yield part.get("text")
        elif part.get("type") == "refusal" and kind == "refusal":
            yield part.get("refusal")


def _as_one(parts: list[Part]) -> list[Part]:
    """Return the parts, neighbouring texts as one; an empty text where there is nothing at all."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and found and isinstance(last := found[-1], Text):
            found[-1] = Text(last.text + part.text)
        else:
            found.append(part)
    return found or [Text("")]


def _can_return(item: Mapping[str, Any]) -> bool:
    """Tell whether it means something to a vendor that has not stored it."""
    if item.get("type") not in _SEALED:
        return True
    is_whole = text(item.get("id")) and isinstance(item.get("summary"), list)
    return bool((is_whole or item["type"] == "compaction") and text(item.get("encrypted_content")))


def _part_of(item: Mapping[str, Any]) -> Part | None:
    """Return the part of ours that an item is, which somebody has kept as the vendor's own."""
    if item.get("type") == "function_call":
        return _call(item, ())
    if item.get("type") == "function_call_output" and isinstance(said := item.get("output"), str):
        return ToolOutput(call_id=text(item.get("call_id")), output=said)
    return None


def _is_plain(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "message" and not _cites(item)


def _phase_of(item: Mapping[str, Any]) -> str:
    """Return as what the model has said a message, on its way or in the end; "" where it is none.

    The vendor wants that back with the words: models do worse without.
    """
    return name(item.get("phase")) if item.get("type") == "message" else ""


def _is_mark(item: object) -> bool:
    """Tell whether it says of the words right before it as what they were said, and no more."""
    return isinstance(item, dict) and bool(_phase_of(item)) and "content" not in item


def _marked_by(part: Part | None) -> dict[str, str]:
    """Return what the part that follows some words says of them."""
    item = mapping(item_of(part)) if isinstance(part, Native) else {}
    return {"phase": _phase_of(item)} if _is_mark(item) else {}


def _cites(item: Mapping[str, Any]) -> bool:
    """Tell whether a message says where some of its words are from."""
    if item.get("type") != "message":
        return False
    return any(one.get("annotations") for one in mappings(item.get("content")))


def _tells_thoughts(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "reasoning" and bool(mappings(item.get("summary")))


def _words_cited(part: Part) -> str | None:
    """Return the words of a message that says where they are from; None for any other part."""
    item = mapping(item_of(part)) if isinstance(part, Native) else {}
    return _joined_of([item], "text", strict=False) if _cites(item) else None


def _own(item: Any) -> Any:
    """Return an item as the vendor takes it back: a message by what it says, not by its id."""
    if isinstance(item, dict) and item.get("type") == "compaction":
        return {name: item[name] for name in _OF_COMPACTION if item.get(name)}
    if not isinstance(item, dict) or not _cites(item):
        return item
    content = [
        {"type": "output_text", "text": said, "annotations": mappings(one.get("annotations"))}
        for one in mappings(item.get("content"))
        if one.get("type") in ("output_text", "text")
        and not is_blank(said := text(one.get("text")))
    ]
    phase = {"phase": said} if (said := _phase_of(item)) else {}
    return {"type": "message", "role": "assistant", "content": content, **phase}


def _company(parts: Sequence[Part], *, reasons: bool = True) -> list[Part]:
    """Leave out what the vendor would miss something of: half a pair, reasoning about nothing.

    And all reasoning, where the model does none.
    """
    parts = citing(parts, _words_cited)
    items = [mapping(item_of(one)) if isinstance(one, Native) else {} for one in parts]
    pairs = whole_pairs(map(_half, items))
    kept: list[Part] = []
    for place in reversed(range(len(parts))):
        kind = text(items[place].get("type"))
        if not isinstance(parts[place], Native) or place in pairs:
            stays = True
        elif kind in _SEALED:
            belongs = kind == "compaction" or (reasons and bool(kept))
            stays = belongs and _can_return(items[place])
        elif _is_mark(items[place]):
            stays = _marks_words(parts, items, place)
        else:
            is_ours_alone = kind in ("", "item_reference", _PAINTED)
            stays = not is_ours_alone and _half(items[place]) is None
        if stays:
            kept.append(parts[place])
    return kept[::-1]


def _marks_words(parts: Sequence[Part], items: Sequence[Mapping[str, Any]], place: int) -> bool:
    """Tell whether words stand before this mark; of those that somebody has joined, the last is."""
    if place + 1 < len(items) and _is_mark(items[place + 1]):
        return False
    before = next((n for n in reversed(range(place)) if not _is_mark(items[n])), None)
    return before is not None and isinstance(parts[before], Text)


def _half(item: Mapping[str, Any]) -> tuple[tuple[str, str], bool] | None:
    """Return which pair an item is half of, and whether it is the call; None for any other."""
    kind, call_id = text(item.get("type")), text(item.get("call_id"))
    if kind.endswith("_output"):
        return (kind.removesuffix("_output"), call_id), False
    return ((kind, call_id), True) if kind.endswith("_call") and is_unanswered(item) else None


_DIALECT = Dialect(api=API, id_max=64, part_of=_part_of, company=_company)
_UNREASONING = replace(_DIALECT, company=partial(_company, reasons=False))

"""What the mock is told to do, by a turn and its session; nonsense is refused."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from turnmill.domain.content import Message, ToolCall
from turnmill.domain.errors import Rejected
from turnmill.domain.replying import FinishReason
from turnmill_worker.providers.mock.heard import OUTPUTS, outputs_in
from turnmill_worker.providers.parameters import setting_refused
from turnmill_worker.providers.port import Request

#: Every fault, and after how many pieces of the reply it comes where nothing else is said.
#: None: not in the middle of a reply.
FAULT_WORDS: Mapping[str, int | None] = MappingProxyType(
    {
        "ok": None,
        "running": None,
        "rate_limited": 0,
        "overloaded": 0,
        "unreachable": None,
        "rejected": 0,
        "maybe_sent": 0,
        "cut": 0,
        "bad_json": 0,
        "hang": 0,
        "stall": 1,
        "thread_lost": None,
        "segfault": 0,
    }
)

_KEYS = frozenset(
    {
        "at_step",
        "before_calls",
        "calls",
        "chunks",
        "faults",
        "finish_reason",
        "latency",
        "replies",
        "reply",
        "retry_after",
        "rounds",
        "tokens_per_second",
        "transcript",
    }
)
#: What of a script is for whoever hears or speaks, and not for the model alone.
_OF_VOICES = ("at_step", "faults", "latency", "retry_after")
_INSTEAD_OF: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "reply": ("chunks", "replies"),
        "replies": ("chunks", "reply"),
        "chunks": ("replies", "reply"),
        "calls": ("rounds",),
        "faults": ("at_step",),
    }
)
_MOST = 10_000  #: of pieces, steps and rounds
_OF_ID = 12  #: hex digits of a turn's id in that of a call: no two of a session are the same


@dataclass(frozen=True, slots=True)
class Planned:
    """A call that the model is to make."""

    name: str
    arguments: str = field(repr=False)  #: JSON, or what the script has instead

    def as_call(self, request: Request, *, at: tuple[int, int]) -> ToolCall:
        """Return it as the model says it; `at` is its round and its place in there."""
        call_id = f"call-{request.turn_id.hex[-_OF_ID:]}-{at[0]}-{at[1]}"
        return ToolCall(id=call_id, name=self.name, arguments=self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What one attempt of one step is to meet."""

    fault: str = "ok"
    after: int | None = None  #: pieces that come before the fault; None: all of them
    latency: timedelta | None = None  #: None: as the environment says
    reply: str | None = field(default=None, repr=False)
    chunks: Sequence[str] = field(default=(), repr=False)  #: the reply, in the pieces that come
    tokens_per_second: float | None = None
    finish_reason: str = FinishReason.STOP  #: of its answer
    before_calls: str = field(default="", repr=False)  #: what is said beside the calls
    rounds: Sequence[Sequence[Planned]] = ()  #: the calls of each step, before there is an answer
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, request: Request) -> Self:
        """Read the script of a turn; a key in the turn's metadata wins over the session's."""
        script = _merged(_mapping(request.settings), _mapping(request.metadata))
        if not script:
            return cls()
        if unknown := script.keys() - _KEYS:
            raise _refused(f"{_shown(min(unknown))} is none of " + ", ".join(sorted(_KEYS)))
        fault, after = _fault(script, request)
        reply, chunks = _speech(script, request)
        return cls(
            fault=fault,
            after=after,
            latency=_seconds(script.get("latency")),
            reply=reply,
            chunks=chunks,
            tokens_per_second=_rate(script.get("tokens_per_second")),
            finish_reason=_ending(script.get("finish_reason")),
            before_calls=_text(script.get("before_calls"), "before_calls") or "",
            rounds=_rounds(script),
            retry_after=_seconds(script.get("retry_after")),
        )

    def calls_in(self, request: Request) -> tuple[ToolCall, ...]:
        """Return what the model calls in this step, or nothing where it answers.

        Raises Rejected for a tool that it was not offered.
        """
        made = sum(map(_calls_tools, request.messages))
        if made >= len(self.rounds):
            return ()
        planned = self.rounds[made]
        offered = {tool.name for tool in request.tools}
        for one in planned:
            if one.name not in offered:
                raise _refused(f"it calls {_shown(one.name)}, which the session does not offer")
        return tuple(one.as_call(request, at=(made + 1, n + 1)) for n, one in enumerate(planned))


def transcript_in(request: Request) -> str | None:
    """Return the words that the script says are heard."""
    return _text(
        _merged(_mapping(request.settings), _mapping(request.metadata)).get("transcript"),
        "transcript",
    )


def of_voice(request: Request, words: str) -> Request:
    """Return the request as one whose reply are these words, with the faults of its script."""
    script = _merged(_mapping(request.settings), _mapping(request.metadata))
    kept = {name: script[name] for name in _OF_VOICES if name in script}
    return replace(
        request,
        messages=[Message.of("user", words)],
        settings={"mock": {**kept, "reply": words}},
        metadata={},
    )


def _calls_tools(message: Message) -> bool:
    return message.role == "assistant" and any(isinstance(one, ToolCall) for one in message.parts)


def _mapping(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    script = holder.get("mock") or {}
    if not isinstance(script, Mapping):
        raise _refused("it must be an object")
    return script


def _merged(session: Mapping[str, Any], turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return both as one; what the turn says takes the place of all that it contradicts."""
    if not session or not turn:
        return turn or session
    displaced = {other for key in turn for other in _INSTEAD_OF.get(key, ())}
    return {**{key: session[key] for key in session.keys() - displaced}, **turn}


def _fault(script: Mapping[str, Any], request: Request) -> tuple[str, int | None]:
    """Return what this attempt meets, and after how many pieces of the reply."""
    faults = script.get("faults", ())
    if isinstance(faults, list | tuple):
        among = 1 <= request.attempt <= len(faults)  # 0: nothing was sent yet
        faults = faults[request.attempt - 1] if among else "ok"
    fault, after = _fault_and_place(faults)
    at_step = script.get("at_step")
    if at_step is not None and _count(at_step, "at_step", least=1) != request.step:
        return "ok", None
    return fault, after


def _fault_and_place(told: object) -> tuple[str, int | None]:
    if isinstance(told, Mapping) and len(told) == 1:
        [(fault, after)] = told.items()
        if FAULT_WORDS.get(fault) is not None:
            return str(fault), _count(after, "faults", least=0)
    elif isinstance(told, str) and told in FAULT_WORDS:
        return told, FAULT_WORDS[told]
    inside = ", ".join(word for word, after in FAULT_WORDS.items() if after is not None)
    raise _refused(
        f"faults are {', '.join(FAULT_WORDS)}; in the middle of a reply, as"
        f' {{"cut": 3}} after three pieces: {inside}'
    )


def _speech(script: Mapping[str, Any], request: Request) -> tuple[str | None, Sequence[str]]:
    """Return the reply that is told, if any, and the pieces in which it is to come."""
    reply, chunks = _text(script.get("reply"), "reply"), script.get("chunks")
    if script.get("replies") is not None:
        if reply is not None or chunks is not None:
            raise _refused("replies are one for each answer of a turn: give them alone")
        reply = _next_of(script["replies"], request)
    if chunks is None:
        return (None if reply is None else _filled(reply, request)), ()
    if reply is not None:
        raise _refused("chunks are the reply in pieces: give one of the two")
    if not isinstance(chunks, list | tuple) or not all(isinstance(one, str) for one in chunks):
        raise _refused("chunks are a list of texts")
    if not chunks or not all(chunks):
        raise _refused("there is at least one chunk, and a chunk has at least one character")
    pieces = [filled for one in chunks if (filled := _filled(one, request))]
    return "".join(pieces), pieces


def _next_of(replies: object, request: Request) -> str:
    """Return the reply that is due: the first answer of the turn, or one that mends another."""
    if not isinstance(replies, list | tuple) or not replies:
        raise _refused("replies are a list of texts")
    said = [one for one in request.messages if one.role == "assistant" and not _calls_tools(one)]
    return _text(replies[min(len(said), len(replies) - 1)], "a reply") or ""


def _filled(told: str, request: Request) -> str:
    return told.replace(OUTPUTS, outputs_in(request)) if OUTPUTS in told else told


def _rounds(script: Mapping[str, Any]) -> Sequence[Sequence[Planned]]:
    calls, rounds = script.get("calls"), script.get("rounds")
    if isinstance(rounds, list | tuple):
        if calls is not None:
            raise _refused("with a list of rounds, the calls stand in there")
        return tuple(_planned(one) for one in rounds)
    if calls is None:
        if rounds is not None:
            raise _refused("a number of rounds goes with calls")
        return ()
    times = 1 if rounds is None else _count(rounds, "rounds", least=1)
    return (_planned(calls),) * times


def _planned(calls: object) -> Sequence[Planned]:
    if not isinstance(calls, list | tuple) or not calls:
        raise _refused('calls are a list, such as [["weather", {"city": "Rome"}]]')
    return tuple(map(_one_planned, calls))


def _one_planned(call: object) -> Planned:
    name, arguments = call if isinstance(call, list | tuple) and len(call) == 2 else ("", None)
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping | str):
        raise _refused("a call is the name of a tool and its arguments, an object (or any text)")
    if isinstance(arguments, Mapping):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Planned(name, arguments)


def _text(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _refused(f"{name} is a text")


def _ending(value: object) -> str:
    if value is None:
        return FinishReason.STOP
    words = [one.value for one in FinishReason if one is not FinishReason.TOOL_CALLS]
    if value not in words:
        raise _refused("finish_reason is " + " or ".join(words))
    return str(value)


def _count(value: object, name: str, *, least: int, most: int = _MOST) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise _refused(f"{name} takes a whole number from {least} to {most}")


def _rate(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 1e6:
        raise _refused("tokens_per_second is a number from 0.001 to a million")
    return float(value)


def _seconds(value: object) -> timedelta | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
        raise _refused("times are numbers of seconds from 0 to a million")
    return timedelta(seconds=value)


def _shown(name: object) -> str:
    return repr(str(name)[:64])


def _refused(reason: str) -> Rejected:
    return setting_refused("mock", reason)

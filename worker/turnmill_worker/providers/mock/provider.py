"""A provider without a vendor: the same reply, usage and latency for the same turn, and faults.

The reply is one line, such as `Understood. You said: Hello [2 before]`: the first words come from
the seed, the text is cut at 200 characters, and the number counts the messages of the history that
the provider was shown, so that a test can see whether all were there. `messages_seen` reads it.
In a turn that called tools, what they gave stands before the number: `(weather: 21 degrees)`; so
do the types and sizes of files, which it reads: `(image/png of 70 bytes, 1x1)`.
Where a form of the reply is asked for, it has that form, and such a line in place of each text.

A script in the settings of a session, or in the metadata of a turn, under the key `mock`:

    {"mock": {"faults": ["rate_limited", {"cut": 3}], "latency": 0.2, "reply": "…"}}
    {"mock": {"chunks": ["It is ", "{outputs}"], "calls": [["weather", {"city": "Rome"}]]}}

`faults` has one entry an attempt and "ok" ever after; a single word instead of a list goes for
every attempt. `FAULTS` lists them. With `"thread": "chain"` in the settings of the session the mock
keeps the thread, as OpenAI does: its reference is all it needs to know what went before.
"""

import asyncio
import hashlib
import os
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from turnmill.domain.content import (
    Audio,
    File,
    Image,
    Kind,
    Message,
    Part,
    Text,
    ToolCall,
    ToolOutput,
    strings_of,
    text_of_all,
)
from turnmill.domain.errors import (
    InvalidSetting,
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
    Unreachable,
)
from turnmill.settings import mock_allowed
from turnmill_worker.providers.files import standing
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.mock.form import fitting
from turnmill_worker.providers.mock.heard import outputs_in
from turnmill_worker.providers.mock.pairs import as_vendors_are_sent
from turnmill_worker.providers.mock.script import Script
from turnmill_worker.providers.mock.seen import files_in, read_all
from turnmill_worker.providers.mock.streaming import in_time, say, seconds_to_say
from turnmill_worker.providers.parameters import choice, refuse_thread, setting_refused
from turnmill_worker.providers.port import Absent, Done, Emit, Request, Running, Unknowable, Usage

OPENINGS = ("Noted.", "I see.", "Understood.", "Right.")

_SEEN = re.compile(r"\[(\d+) before\]$")
_THREAD = re.compile(r"mock-thread-(\d+)")
_TEXT_SHOWN = 200
_HANG = timedelta(hours=1)  #: longer than any timeout of a caller


class MockProvider:
    """Answers at once, unless told otherwise."""

    name = "mock"
    accepts: frozenset[Kind] = frozenset({Text, Image, File, Audio, ToolCall, ToolOutput})

    def __init__(
        self,
        *,
        seed: str = "0",
        latency: tuple[timedelta, timedelta] = (timedelta(0), timedelta(0)),
        ledger: Path | None = None,
        faults: bool = True,
    ) -> None:
        """`latency` is the shortest and the longest; a turn and attempt always draw the same.

        Without `faults`, a script that asks for one is refused: they take a worker with them.
        """
        self._seed = seed
        self._latency = latency
        self._ledger = Executions(ledger) if ledger else None
        self._faults = faults

    @classmethod
    def from_env(cls) -> Self:
        """Read TURNMILL_MOCK_LATENCY (0.2, or 0.1-0.4), …_SEED and …_LEDGER (a path)."""
        ledger = os.environ.get("TURNMILL_MOCK_LEDGER")
        return cls(
            seed=os.environ.get("TURNMILL_MOCK_SEED", "0"),
            latency=_range(os.environ.get("TURNMILL_MOCK_LATENCY") or "0"),
            ledger=Path(ledger) if ledger else None,
            faults=mock_allowed(os.environ, faults=True),
        )

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        script = Script.of(request)
        if script.fault not in _HARMLESS and not self._faults:
            raise setting_refused("mock", "the production profile takes no faults")
        if not _is_chain(request) or not _THREAD.fullmatch(request.thread_ref):
            refuse_thread(request)
        request = as_vendors_are_sent(request)
        if request.files is not None:
            request = await standing(request)
            await read_all(request)
        answering = partial(FAULTS[script.fault], self, request, script, emit)
        return await in_time(request, answering)

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what the reply will take, and up to what the session lets it take.

        The mock pretends to know a thread of its own, and counts nothing of it.
        """
        usage = self._reply(request, Script.of(request)).usage
        limit = request.settings.get("max_output_tokens")
        if type(limit) is int and usage.output_tokens is not None:
            usage = replace(usage, output_tokens=max(limit, usage.output_tokens))
        return usage

    def expected(self, request: Request) -> Usage:
        """Return what the reply will take."""
        return self._reply(request, Script.of(request)).usage

    async def count(self, request: Request) -> int:
        """Return what its usage would say."""
        told = _usage(request, ()).input_tokens
        assert told is not None
        return told

    async def check(self, request: Request) -> Done | Running | Absent | Unknowable:
        script = Script.of(request)
        if request.native_ref:
            left = float(request.native_ref.rpartition("@")[2]) - time.time()
            if left > 0:
                return Running(native_ref=request.native_ref, poll_after=timedelta(seconds=left))
            return self._reply(request, script)
        if self._ledger is None:
            return Unknowable()
        of_turn = await asyncio.to_thread(self._ledger.calls_of, request.turn_id)
        calls = [call for call in of_turn if call.step == request.step]
        if not calls:
            return Absent()
        done = any(call.ended_at is not None for call in calls)
        return self._reply(request, script) if done else Unknowable()

    async def cancel(self, native_ref: str) -> Done | None:
        """Do nothing: the mock works on nothing."""
        return None

    async def close(self, thread_ref: str) -> None:
        """Do nothing: the mock remembers nothing."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def answer(self, request: Request, script: Script, emit: Emit | None = None) -> Done:
        """Execute the step as a vendor would, and write it down."""
        reply = self._reply(request, script)
        self.start(request)
        await self._think(request, script)
        await say(reply.text, script, emit)
        if self._ledger is not None:
            self._ledger.completed(request)
        return reply

    async def begin(self, request: Request, script: Script, emit: Emit | None = None) -> Running:
        """Execute the step in the background; `check` has the reply when the time is over."""
        at_once = replace(script, latency=timedelta(0), tokens_per_second=None)
        done = await self.answer(request, at_once)
        ready_at = time.time() + self._delay(request, script) + seconds_to_say(done.text, script)
        return Running(
            native_ref=f"{done.request_id}@{ready_at:.6f}", poll_after=timedelta(seconds=0.1)
        )

    async def answer_in_part(self, request: Request, script: Script, emit: Emit | None) -> None:
        """Get the request, and say as much as comes before the fault."""
        reply = self._reply(request, script)
        self.start(request)
        if script.after:
            await self._think(request, script)
            await say(reply.text, script, emit)

    def start(self, request: Request) -> None:
        """Write down that the vendor has got the request."""
        if self._ledger is not None:
            self._ledger.started(request)

    async def _think(self, request: Request, script: Script) -> None:
        delay = self._delay(request, script)
        if delay:
            await asyncio.sleep(delay)

    def _delay(self, request: Request, script: Script) -> float:
        if script.latency is not None:
            return script.latency.total_seconds()
        least, most = (bound.total_seconds() for bound in self._latency)
        if most == 0:
            return 0.0
        drawn = random.Random(f"{self._seed}:{_call_name(request)}")
        return drawn.uniform(least, most)

    def _reply(self, request: Request, script: Script) -> Done:
        seen = _messages_before(request)
        calls = script.calls_in(request)
        text = script.before_calls if calls else self._text(request, script, seen)
        finish_reason = "tool_calls" if calls else script.finish_reason
        if (most := _most_said(request)) is not None and len(text) > most:
            text, finish_reason = text[:most], "length"
        parts: Sequence[Part] = (Text(text), *calls) if text or not calls else calls
        return Done(
            parts=parts,
            usage=_usage(request, parts),
            finish_reason=finish_reason,
            thread_ref=_thread_ref(seen, request) if _is_chain(request) else "",
            request_id=f"mock-{_call_name(request).replace(':', '-')}",
            model=request.model,
        )

    def _text(self, request: Request, script: Script, seen: int) -> str:
        if script.reply is not None:
            return script.reply
        own = self._own_text(request, seen)
        return own if request.output_schema is None else fitting(request.output_schema, own)

    def _own_text(self, request: Request, seen: int) -> str:
        said = request.text if len(request.messages) == 1 else _said(request)
        digest = hashlib.sha256(f"{self._seed}:{seen}:{said}".encode()).digest()
        opening = OPENINGS[digest[0] % len(OPENINGS)]
        told = (files_in(request), outputs_in(request, most=_TEXT_SHOWN))
        heard = "".join(f" ({one})" for one in told if one)
        return f"{opening} You said: {said[:_TEXT_SHOWN]}{heard} [{seen} before]"


def messages_seen(reply: str) -> int:
    """Return how many messages of the history the mock was shown, from its reply."""
    found = _SEEN.search(reply)
    if found is None:
        raise ValueError("not a reply of the mock, or a scripted one")
    return int(found[1])


Fault = Callable[[MockProvider, Request, Script, Emit | None], Awaitable[Done | Running]]


def _refused(kind: type[ProviderError], code: str) -> Fault:
    """Return a fault in which the vendor executes nothing, or does not say it to the end."""

    async def refuse(
        mock: MockProvider, request: Request, script: Script, emit: Emit | None
    ) -> Done:
        if script.after:
            await mock.answer_in_part(request, script, emit)
        raise kind(code, retry_after=script.retry_after)

    return refuse


def _lost_reply(kind: type[ProviderError], code: str) -> Fault:
    """Return a fault in which the vendor answers and the answer is of no use."""

    async def lose(mock: MockProvider, request: Request, script: Script, emit: Emit | None) -> Done:
        await mock.answer(request, script, emit)
        raise kind(code)

    return lose


async def _maybe_sent(
    mock: MockProvider, request: Request, script: Script, emit: Emit | None
) -> Done:
    await mock.answer_in_part(request, script, emit)
    raise MaybeSent("disconnected")


async def _hang(mock: MockProvider, request: Request, script: Script, emit: Emit | None) -> Done:
    await mock.answer_in_part(request, script, emit)
    await asyncio.sleep(_HANG.total_seconds())
    raise MaybeSent("timeout")


async def _segfault(
    mock: MockProvider, request: Request, script: Script, emit: Emit | None
) -> Done:
    await mock.answer_in_part(request, script, emit)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("the process is gone")


async def _lose_thread(
    mock: MockProvider, request: Request, script: Script, emit: Emit | None
) -> Done:
    # A thread that was rebuilt from the history is not lost again.
    if request.thread_ref:
        raise ThreadLost("thread_lost")
    return await mock.answer(request, script, emit)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "ok": MockProvider.answer,
        "running": MockProvider.begin,  #: works in the background, as long as the latency says
        "rate_limited": _refused(RateLimited, "rate_limited"),
        "overloaded": _refused(Overloaded, "overloaded"),
        "unreachable": _refused(Unreachable, "unreachable"),
        "rejected": _refused(Rejected, "invalid_prompt"),
        "maybe_sent": _maybe_sent,  #: dropped in the middle: nobody knows
        "cut": _lost_reply(MaybeSent, "truncated"),  #: executed to the end, and the ledger says so
        "bad_json": _lost_reply(Rejected, "unreadable_reply"),  #: and paid: it is not asked again
        "hang": _hang,  #: never answers
        "stall": _hang,  #: begins to answer, and goes silent
        "thread_lost": _lose_thread,  #: only where there is a thread
        "segfault": _segfault,  #: takes the whole process with it
    }
)


_HARMLESS = frozenset({"ok", "running"})


def _is_chain(request: Request) -> bool:
    return choice(request.settings, "thread", among=("client", "chain")) == "chain"


def _messages_before(request: Request) -> int:
    kept = _THREAD.fullmatch(request.thread_ref)
    return int(kept[1]) - request.continues if kept else len(request.history)


def _thread_ref(seen: int, request: Request) -> str:
    return f"mock-thread-{seen + len(request.messages) + 1}"


def _call_name(request: Request) -> str:
    """Return what tells this call of the model from all others, but for calls made in doubt."""
    step = f":{request.step}" if request.step > 1 else ""
    return f"{request.turn_id}:{request.attempt}{step}"


def _said(request: Request) -> str:
    return text_of_all([one for one in request.messages if one.role == "user"])


def _most_said(request: Request) -> int | None:
    """Return how many characters may be said; None: as many as there are."""
    limit = request.settings.get("max_output_tokens")
    return 4 * limit - 1 if type(limit) is int and limit > 0 else None


def _usage(request: Request, reply: Sequence[Part]) -> Usage:
    told = sum(map(_length, (*request.history, *request.messages)))
    told += len(request.system_prompt or "")
    said = sum(len(one) for part in reply for one in strings_of(part))
    return Usage(input_tokens=told // 4 + 1, output_tokens=said // 4 + 1)


def _length(message: Message) -> int:
    if len(message.parts) == 1 and isinstance(first := message.parts[0], Text):
        return len(first.text)  # most are
    return sum(len(one) for part in message.parts for one in strings_of(part))


def _range(value: str) -> tuple[timedelta, timedelta]:
    least, _, most = value.partition("-")
    try:
        bounds = timedelta(seconds=float(least)), timedelta(seconds=float(most or least))
    except (ValueError, OverflowError):
        bounds = timedelta(1), timedelta(0)
    if not timedelta(0) <= bounds[0] <= bounds[1]:
        raise InvalidSetting(
            "TURNMILL_MOCK_LATENCY is not a time", hint="seconds, such as 0.2, or 0.1-0.4"
        )
    return bounds

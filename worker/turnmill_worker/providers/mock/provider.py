"""A provider without a vendor: the same reply, usage and latency for the same turn, and faults.

The reply is one line, such as `Understood. You said: Hello [2 before]`: the first words come from
the seed, the text is cut at 200 characters, and the number counts the messages of the history that
the provider was shown, so that a test can see whether all were there. `messages_seen` reads it.

A script in the settings of a session, or in the metadata of a turn, under the key `mock`:

    {"mock": {"faults": ["rate_limited", "ok"], "latency": 0.2, "reply": "…", "retry_after": 3}}

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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

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
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.parameters import choice, refuse_thread, setting_refused
from turnmill_worker.providers.port import Absent, Done, Emit, Request, Running, Unknowable, Usage

OPENINGS = ("Noted.", "I see.", "Understood.", "Right.")

_SEEN = re.compile(r"\[(\d+) before\]$")
_THREAD = re.compile(r"mock-thread-(\d+)")
_TEXT_SHOWN = 200
_HANG = timedelta(hours=1)  #: longer than any timeout of a caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What one attempt of one turn is to meet."""

    fault: str = "ok"
    latency: timedelta | None = None  #: None: as the environment says
    reply: str | None = field(default=None, repr=False)
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, request: Request) -> Self:
        """Read the script of a turn; a key in the turn's metadata wins over the session's."""
        script = {**_mapping(request.settings), **_mapping(request.metadata)}
        faults = script.get("faults", ())
        if not isinstance(faults, str):
            among = 1 <= request.attempt <= len(faults)  # 0: nothing was sent yet
            faults = faults[request.attempt - 1] if among else "ok"
        if faults not in FAULTS:
            raise setting_refused("mock", "faults are " + ", ".join(FAULTS))
        return cls(
            fault=faults,
            latency=_seconds(script.get("latency")),
            reply=script.get("reply"),
            retry_after=_seconds(script.get("retry_after")),
        )


class MockProvider:
    """Answers at once, unless told otherwise."""

    name = "mock"

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
        reply = await FAULTS[script.fault](self, request, script)
        if emit is not None and isinstance(reply, Done):
            for piece in re.split(r"(?<=\s)(?=\S)", reply.text):
                await emit(piece)
        return reply

    async def check(self, request: Request) -> Done | Running | Absent | Unknowable:
        script = Script.of(request)
        if request.native_ref:
            left = float(request.native_ref.rpartition("@")[2]) - time.time()
            if left > 0:
                return Running(native_ref=request.native_ref, poll_after=timedelta(seconds=left))
            return self._reply(request, script)
        if self._ledger is None:
            return Unknowable()
        calls = await asyncio.to_thread(self._ledger.calls_of, request.turn_id)
        if not calls:
            return Absent()
        done = any(call.ended_at is not None for call in calls)
        return self._reply(request, script) if done else Unknowable()

    async def cancel(self, native_ref: str) -> None:
        """Do nothing: the mock works on nothing."""

    async def close(self, thread_ref: str) -> None:
        """Do nothing: the mock remembers nothing."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def answer(self, request: Request, script: Script) -> Done:
        """Execute the turn as a vendor would, and write it down."""
        self.start(request)
        delay = self._delay(request, script)
        if delay:
            await asyncio.sleep(delay)
        if self._ledger is not None:
            self._ledger.completed(request)
        return self._reply(request, script)

    async def begin(self, request: Request, script: Script) -> Running:
        """Execute the turn in the background; `check` has the reply when the latency is over."""
        done = await self.answer(request, Script(latency=timedelta(0)))
        ready_at = time.time() + self._delay(request, script)
        return Running(
            native_ref=f"{done.request_id}@{ready_at:.6f}", poll_after=timedelta(seconds=0.1)
        )

    def start(self, request: Request) -> None:
        """Write down that the vendor has got the request."""
        if self._ledger is not None:
            self._ledger.started(request)

    def _delay(self, request: Request, script: Script) -> float:
        if script.latency is not None:
            return script.latency.total_seconds()
        least, most = (bound.total_seconds() for bound in self._latency)
        if most == 0:
            return 0.0
        drawn = random.Random(f"{self._seed}:{request.turn_id}:{request.attempt}")
        return drawn.uniform(least, most)

    def _reply(self, request: Request, script: Script) -> Done:
        seen = _messages_before(request)
        digest = hashlib.sha256(f"{self._seed}:{seen}:{request.text}".encode()).digest()
        opening = OPENINGS[digest[0] % len(OPENINGS)]
        text = script.reply
        if text is None:
            text = f"{opening} You said: {request.text[:_TEXT_SHOWN]} [{seen} before]"
        return Done(
            text=text,
            usage=_usage(request, text),
            thread_ref=f"mock-thread-{seen + 2}" if _is_chain(request) else "",
            request_id=f"mock-{request.turn_id}-{request.attempt}",
            model=request.model,
        )


def messages_seen(reply: str) -> int:
    """Return how many messages of the history the mock was shown, from its reply."""
    found = _SEEN.search(reply)
    if found is None:
        raise ValueError("not a reply of the mock, or a scripted one")
    return int(found[1])


Fault = Callable[[MockProvider, Request, Script], Awaitable[Done | Running]]


def _refused(kind: type[ProviderError], code: str) -> Fault:
    """Return a fault in which the vendor executes nothing."""

    async def refuse(_: MockProvider, request: Request, script: Script) -> Done:
        raise kind(code, retry_after=script.retry_after)

    return refuse


def _lost_reply(kind: type[ProviderError], code: str) -> Fault:
    """Return a fault in which the vendor answers and the answer is of no use."""

    async def lose(mock: MockProvider, request: Request, script: Script) -> Done:
        await mock.answer(request, script)
        raise kind(code)

    return lose


async def _maybe_sent(mock: MockProvider, request: Request, script: Script) -> Done:
    mock.start(request)
    raise MaybeSent("disconnected")


async def _hang(mock: MockProvider, request: Request, script: Script) -> Done:
    mock.start(request)
    await asyncio.sleep(_HANG.total_seconds())
    raise MaybeSent("timeout")


async def _segfault(mock: MockProvider, request: Request, script: Script) -> Done:
    mock.start(request)
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("the process is gone")


async def _lose_thread(mock: MockProvider, request: Request, script: Script) -> Done:
    # A thread that was rebuilt from the history is not lost again.
    if request.thread_ref:
        raise ThreadLost("thread_lost")
    return await mock.answer(request, script)


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
        "thread_lost": _lose_thread,  #: only where there is a thread
        "segfault": _segfault,  #: takes the whole process with it
    }
)


_HARMLESS = frozenset({"ok", "running"})


def _is_chain(request: Request) -> bool:
    return choice(request.settings, "thread", among=("client", "chain")) == "chain"


def _messages_before(request: Request) -> int:
    kept = _THREAD.fullmatch(request.thread_ref)
    return int(kept[1]) if kept else len(request.history)


def _usage(request: Request, reply: str) -> Usage:
    shown = [one.text for one in request.history]
    told = sum(map(len, (*shown, request.text, request.system_prompt or "")))
    return Usage(input_tokens=told // 4 + 1, output_tokens=len(reply) // 4 + 1)


def _mapping(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    script = holder.get("mock") or {}
    if not isinstance(script, Mapping):
        raise setting_refused("mock", "it must be an object")
    return script


def _seconds(value: object) -> timedelta | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise setting_refused("mock", "times are numbers of seconds from 0")
    return timedelta(seconds=value)


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

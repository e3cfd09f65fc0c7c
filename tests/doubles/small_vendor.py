"""A vendor in memory, and a provider of it that keeps every promise: the wrong ones differ by one.

The vendor stores what it answers, works in the background on demand, and looks work up by a name
that the caller chose; so every promise of the contract suite can be put to it.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, Self

from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
    Unreachable,
)
from turnmill.testing.provider_contract import Fault, Rig
from turnmill_worker.providers import (
    Absent,
    Done,
    Emit,
    Failed,
    Request,
    Running,
    Unknowable,
    Usage,
)

_SECONDS_UNTIL_GIVEN_UP = 10.0


@dataclass
class SmallVendor:
    """Echoes, with the number of messages before; `answers` is what it stores."""

    fault: Fault | None = None
    requests: int = 0
    executed: int = 0
    answers: dict[str, int] = field(default_factory=dict)  #: id → messages in the thread by then
    turns: dict[str, dict[str, Any]] = field(default_factory=dict)  #: turn → what came of it
    _numbers: Any = field(default_factory=lambda: count(1))

    async def post(self, turn: str, text: str, *, before: int, thread: str) -> dict[str, Any]:
        """Execute a turn. Raises ConnectionError, or returns a refusal in `error`."""
        if self.fault is Fault.UNREACHABLE:
            raise ConnectionRefusedError
        self.requests += 1
        if self.fault is Fault.HANG:
            await asyncio.sleep(3600)
        if self.fault in _REFUSALS:
            return {"error": self.fault, "message": f"not this: {text}"}
        if thread and thread not in self.answers:
            return {"error": Fault.THREAD_LOST}
        self.executed += 1
        before = self.answers.get(thread, before)
        name = f"answer_{next(self._numbers)}"
        self.answers[name] = before + 2
        usage = None if self.fault is Fault.NO_USAGE else (len(text) + 1, len(text) + 2)
        self.turns[turn] = {"id": name, "text": f"{text} [{before} before]", "usage": usage}
        if self.fault is Fault.CUT:
            raise ConnectionResetError(f"in the middle of {text}")
        if self.fault is Fault.UNREADABLE:
            return {"?": text}
        await asyncio.sleep(0)
        return {"begun": turn, "id": name} if self.fault is Fault.BACKGROUND else self.turns[turn]


_REFUSALS = (Fault.OVERLOADED, Fault.RATE_LIMITED, Fault.REFUSED, Fault.SERVER_ERROR)


class SmallProvider:
    """What an author writes who keeps every promise."""

    name = "small"

    def __init__(self, vendor: SmallVendor) -> None:
        self.vendor = vendor

    @classmethod
    def from_env(cls) -> Self:
        raise KeyMissing(hint="it exists in tests only")

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        if "colour" in request.settings:
            raise Rejected("setting_refused")
        answer = await self.asked(request)
        if isinstance(answer, Done) and emit is not None:
            await emit(answer.text[:3])
            await emit(answer.text[3:])
        return answer

    async def asked(self, request: Request) -> Done | Running:
        failure: ProviderError
        try:
            within = request.settings.get("timeout", _SECONDS_UNTIL_GIVEN_UP)
            async with asyncio.timeout(within):
                return self.read(await self.post(request))
        except TimeoutError:
            failure = MaybeSent("timeout")
        except ConnectionRefusedError:
            failure = Unreachable()
        except ConnectionResetError as error:
            failure = MaybeSent("disconnected", detail=str(error))
        raise failure

    async def post(self, request: Request) -> dict[str, Any]:
        return await self.vendor.post(
            str(request.turn_id),
            request.text,
            before=len(request.history),
            thread=request.thread_ref,
        )

    def read(self, answer: dict[str, Any]) -> Done | Running:
        words = answer.get("message", "")
        match answer.get("error"):
            case Fault.OVERLOADED:
                raise Overloaded(detail=words)
            case Fault.RATE_LIMITED:
                raise RateLimited(detail=words, retry_after=timedelta(seconds=7))
            case Fault.REFUSED:
                raise Rejected("no", detail=words)
            case Fault.SERVER_ERROR:
                raise MaybeSent("server_error", detail=words)
            case Fault.THREAD_LOST:
                raise ThreadLost
            case _:
                return self.reply(answer)

    def reply(self, answer: dict[str, Any]) -> Done | Running:
        if "begun" in answer:
            return Running(native_ref=answer["begun"], kept=(answer["id"],))
        if "text" not in answer:
            raise Rejected("unreadable_reply", detail=str(answer))
        told, said = answer["usage"] or (None, None)
        usage = Usage(input_tokens=told, output_tokens=said)
        return Done(text=answer["text"], thread_ref=answer["id"], usage=usage)

    async def check(self, request: Request) -> Done | Running | Failed | Absent | Unknowable:
        found = self.vendor.turns.get(request.native_ref or str(request.turn_id))
        if found is None:
            return Absent()
        answer = self.read(found)
        assert isinstance(answer, Done)
        return answer

    async def close(self, thread_ref: str) -> None:
        self.vendor.answers.pop(thread_ref, None)

    async def cancel(self, native_ref: str) -> None:
        self.vendor.turns.pop(native_ref, None)

    async def aclose(self) -> None:
        """There is nothing to close."""


@dataclass(kw_only=True)
class SmallRig(Rig):
    """All that a rig can have."""

    vendor: SmallVendor

    async def meet(self, fault: Fault | None) -> None:
        self.vendor.fault = fault
        if fault is Fault.THREAD_LOST:
            self.vendor.answers.clear()

    def requests(self) -> int:
        return self.vendor.requests

    def executed(self) -> int:
        return self.vendor.executed

    def kept(self) -> Collection[str]:
        return list(self.vendor.answers)

    def messages_seen(self, reply: Done) -> int:
        return int(reply.text.rpartition("[")[2].split()[0])


@asynccontextmanager
async def small_rig(kind: type[SmallProvider] = SmallProvider) -> AsyncIterator[Rig]:
    """Yield a provider of this class with its vendor."""
    vendor = SmallVendor()
    yield SmallRig(
        provider=kind(vendor),
        vendor=vendor,
        faults=frozenset(Fault),
        impatient={"timeout": 0.02},
        unusable={"colour": "red"},
        another=lambda: kind(vendor),
    )

"""Moderation: what users, tools and models say is judged before it goes on, by whom you choose."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from turnmill.domain.content import Message, Part, Text, ToolOutput
from turnmill.domain.errors import NotSent, ProviderError, Rejected
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.providers.boundary import Answer, name_of
from turnmill_worker.providers.port import Done, Failed

#: Codes of turns that failed for it.
INPUT_REFUSED = "input_refused"
OUTPUT_REFUSED = "output_refused"
MODERATION_FAILED = "moderation_failed"

_HINT = "the attempt names the category: `turnmill turns show ID --text`"
_MOST_CATEGORY = 200  #: characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is to be judged, and of whose turn it is."""

    where: Literal["input", "output"]
    parts: Sequence[Part] = field(repr=False)
    turn_id: TurnId
    session_id: SessionId
    user_id: str = field(repr=False)

    @property
    def text(self) -> str:
        """Return its words, outputs of tools too; what else there is is in `parts` alone."""
        said = [one for one in self.parts if isinstance(one, Text | ToolOutput)]
        return "\n".join(map(_words_of, said))


#: Returns the category for which it is refused, or None. It must not block the event loop.
Moderator = Callable[[Said], Awaitable[str | None]]


def moderation(
    judge: Moderator,
    *,
    output: bool = True,
    within: timedelta = timedelta(seconds=10),
) -> Layer:
    """Return the layer: a factory that is named in TURNMILL_LAYERS returns it.

    Input is what the user and tools say in this turn. What is refused is not sent, and its turn
    fails: `input_refused`. With `output`, so is the reply judged: one that is refused is stored
    nowhere, its turn fails with `output_refused`, and what it has cost is booked. It is not told
    piece by piece then, for what has been told cannot be taken back.

    A moderator that raises, or takes longer than `within`, lets nothing pass: `moderation_failed`.
    Before anything is sent that is tried again, as any temporary error is.
    """

    async def layer(call: Call, go: Go) -> Answer:
        if call.kind == "send":
            await _judge_input(call, judge, within)
        if not output:
            return await go(call)
        answer = await go(replace(call, emit=None))
        if not isinstance(answer, Done):
            return answer
        refused = await _refused(call, answer, judge, within)
        if refused is None:
            return answer
        if call.kind == "check":
            return Failed(error=refused)  # what the work has come to: it is not asked again
        raise refused

    return layer


async def _judge_input(call: Call, judge: Moderator, within: timedelta) -> None:
    parts = [part for one in call.request.messages if _is_input(one) for part in one.parts]
    category = await _judged(_said(call, "input", parts), judge, within, failed=NotSent)
    if category is not None:
        raise Rejected(INPUT_REFUSED, detail=category, hint=_HINT)


async def _refused(
    call: Call, answer: Done, judge: Moderator, within: timedelta
) -> ProviderError | None:
    """Return the error that a reply ends its turn with; None where nobody minds it."""
    try:
        said = _said(call, "output", answer.parts)
        category = await _judged(said, judge, within, failed=Rejected)
        if category is not None:
            raise Rejected(OUTPUT_REFUSED, detail=category, hint=_HINT)
    except ProviderError as error:
        call.holding.withheld = answer  # it is paid for, and the vendor may keep it
        error.kept = (*answer.kept, *([answer.thread_ref] if answer.thread_ref else []))
        error.request_id = answer.request_id
        return error
    return None


async def _judged(
    said: Said, judge: Moderator, within: timedelta, *, failed: type[ProviderError]
) -> str | None:
    if not said.parts:
        return None
    try:
        async with asyncio.timeout(within.total_seconds()):
            category = await judge(said)
    except Exception as error:  # noqa: BLE001
        # The edge to a moderator of somebody's: its words may quote what it was given.
        raise failed(MODERATION_FAILED, detail=name_of(error)) from None
    return None if category is None else str(category)[:_MOST_CATEGORY]


def _said(call: Call, where: Literal["input", "output"], parts: Sequence[Part]) -> Said:
    claim = call.claim
    return Said(
        where=where,
        parts=parts,
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        user_id=claim.user_id,
    )


def _words_of(part: Text | ToolOutput) -> str:
    return part.text if isinstance(part, Text) else part.output


def _is_input(message: Message) -> bool:
    return message.role != "assistant"

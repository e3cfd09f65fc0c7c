"""Rounds: the calls of one step, run beside one another until each has its output."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from turnmill.domain.content import Message, ToolCall, ToolOutput
from turnmill.domain.errors import NotSent, StoreError, Unstorable
from turnmill.domain.states import WAITING_CALLS, Effects, ToolCallState
from turnmill.store.records import Claim
from turnmill.store.step_records import CallEnd, Receipt, Step, ToBegin
from turnmill.tools import BadCall, ToolContext
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers.boundary import Fault
from turnmill_worker.streams.publishing import Publishing
from turnmill_worker.threads import Ran, Threads, ran_here
from turnmill_worker.tools import calling
from turnmill_worker.tools.calling import Outcome, failed
from turnmill_worker.tools.offered import Tools
from turnmill_worker.tools.runnable import Runnable
from turnmill_worker.turn.step_ledger import StepLedger

#: Calls of one step that are run at once.
_AT_ONCE = 32
#: Calls of synchronous tools that a process runs at once.
_THREADS = 64
_RUNNABLE = frozenset({ToolCallState.PENDING, ToolCallState.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that has no output yet."""

    position: int  #: of its output among the turn's messages
    call: ToolCall
    state: ToolCallState
    effects: Effects
    key: str  #: the same over every run
    overdue: bool = False

    @property
    def is_ready(self) -> bool:
        """Tell whether there is something that we can do about it."""
        return self.state in _RUNNABLE or self.overdue

    @property
    def was_begun(self) -> bool:
        """Tell whether another claim has begun it, and may have had its effect."""
        return self.state is ToolCallState.RUNNING


@dataclass(slots=True, eq=False)
class Round:
    """The calls of one step, and what has come of them so far."""

    calls: dict[int, ToolCall] = field(repr=False)  #: by the positions of their outputs
    wanted: dict[int, Wanted] = field(repr=False)
    outputs: dict[int, Message] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> int:
        """Return the position of the first output."""
        return min(self.calls)

    @property
    def ready(self) -> list[Wanted]:
        """Return the calls that there is something to do about."""
        return [one for one in self.wanted.values() if one.is_ready]

    @property
    def is_answered(self) -> bool:
        """Tell whether all calls have their outputs."""
        return len(self.outputs) == len(self.calls)

    def ended(self, position: int, output: Message) -> None:
        """Keep what stands in the store."""
        self.outputs[position] = output
        self.wanted.pop(position, None)

    def tell(self, publishing: Publishing | None) -> None:
        """Tell those who watch what has been answered so far."""
        if publishing is not None:
            for position in sorted(self.outputs):
                _tell(publishing, self.outputs[position])

    def answered(self, claim: Claim) -> Claim:
        """Return the claim with all outputs behind the message that made the calls."""
        last = _last_reply(claim.messages)
        said = claim.messages[: last + 1]
        outputs = [self.outputs[position] for position in sorted(self.outputs)]
        behind = max(self.calls) + 1
        return replace(claim, messages=(*said, *outputs), next_position=behind)


def unanswered(messages: Sequence[Message]) -> bool:
    """Tell whether the last message of a model calls a tool and has no output for it."""
    last = _last_reply(messages)
    outputs = sum(len(one.parts) for one in messages[last + 1 :] if one.role == "tool")
    return outputs < len(_calls_in(messages[last]))


def tell_answers(messages: Sequence[Message], publishing: Publishing | None) -> None:
    """Tell those who watch what the calls of the last message of a model have come to."""
    if publishing is not None:
        for message in messages[_last_reply(messages) + 1 :]:
            _tell(publishing, message)


def round_after(step: Step, claim: Claim) -> Round:
    """Return the round of a step that has just been written; `claim` is that of the next one."""
    made = _calls_in(step.settlement.replies[-1])
    wanted = [
        Wanted(
            position=position,
            call=call,
            state=new.state,
            effects=new.effects,
            key=f"{claim.turn_id}:{position}",
        )
        for position, (call, new) in enumerate(
            zip(made, step.calls, strict=True), step.first_output
        )
    ]
    return Round(
        calls={one.position: one.call for one in wanted},
        wanted={one.position: one for one in wanted},
    )


def round_left(claim: Claim, receipts: Sequence[Receipt]) -> Round:
    """Return the round that another claim has left, from what stands in the store."""
    last = _last_reply(claim.messages)
    of_step = [one for one in receipts if one.step == claim.step - 1]
    made = dict(
        zip([one.position for one in of_step], _calls_in(claim.messages[last]), strict=True)
    )
    round_ = Round(calls=made, wanted=_wanted(of_step, made))
    positions = {call.id: position for position, call in made.items()}
    for message in claim.messages[last + 1 :]:
        for part in message.parts:
            if isinstance(part, ToolOutput):
                round_.ended(positions[part.call_id], message)
    return round_


class Rounds:
    """Runs the calls of steps, in one process."""

    def __init__(self, *, ledger: StepLedger, tools: Tools) -> None:
        self._ledger = ledger
        self._tools = tools
        self._threads = Threads(_THREADS, name="tool")
        self._reading = Threads(_THREADS, name="arguments")

    async def run(self, round_: Round, holding: Holding) -> Stop | NotSent | None:
        """Run all that can be run, and write each output as it comes.

        Returns why the turn cannot go on: it is not ours any more, or the store takes nothing.
        """
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(wanted: Wanted) -> Stop | NotSent | None:
            async with places:
                try:
                    return await self._one(wanted, round_, holding)
                except StoreError as error:
                    return Fault(error.code)

        stops = await asyncio.gather(*map(one, round_.ready))
        return next((stop for stop in stops if stop is not None), None)

    async def look_again(self, round_: Round, holding: Holding) -> None:
        """Read what those outside have said meanwhile."""
        turn_id = holding.claim.turn_id
        receipts = await self._ledger.receipts(turn_id)
        found = await self._ledger.outputs(turn_id, first=round_.first)
        round_.wanted = _wanted(
            [one for one in receipts if one.position in round_.calls], round_.calls
        )
        for position, message in found.items():
            if position not in round_.outputs and holding.publishing is not None:
                _tell(holding.publishing, message)
            round_.ended(position, message)

    async def _one(self, wanted: Wanted, round_: Round, holding: Holding) -> Stop | None:
        outcome = await self._outcome(wanted, holding)
        if isinstance(outcome, Stop):
            return outcome
        try:
            output = await self._written(wanted, outcome, holding)
        except Unstorable:
            outcome = failed("output_unstorable", "The tool's output cannot be stored.")
            output = await self._written(wanted, outcome, holding)
        if output is None:
            # What was overdue may have been answered at the last moment: it is looked at again.
            return None if wanted.overdue else Stop.LEASE_LOST
        round_.ended(wanted.position, Message("tool", (output,)))
        if holding.publishing is not None:
            holding.publishing.tool_output(output)
        return None

    async def _written(
        self, wanted: Wanted, outcome: Outcome, holding: Holding
    ) -> ToolOutput | None:
        """Write what the model is told; None where it does not stand."""
        output = ToolOutput(
            call_id=wanted.call.id, output=outcome.output, is_error=outcome.is_error
        )
        stands = await self._ledger.end(
            CallEnd(
                turn_id=holding.claim.turn_id,
                fence=holding.claim.fence,
                position=wanted.position,
                state=outcome.state,
                error_code=outcome.error_code,
                message=Message("tool", (output,)),
            )
        )
        return output if stands else None

    async def _outcome(self, wanted: Wanted, holding: Holding) -> Outcome | Stop:
        """Run the call, unless there is a reason not to."""
        if wanted.overdue:
            return calling.expired()
        tool, arguments = await self._runnable(wanted, holding.claim)
        if isinstance(tool, Outcome):
            # Of what was begun already nobody knows the outcome, whatever keeps us from it now.
            return calling.unknown() if wanted.was_begun else tool
        if wanted.was_begun and Effects.AT_MOST_ONCE in (wanted.effects, tool.effects):
            return calling.unknown()
        if tool.is_async:
            return await self._run(tool, arguments, wanted, holding)
        try:
            async with asyncio.timeout(tool.timeout.total_seconds()):
                await self._threads.take()
        except TimeoutError:
            busy = failed("no_thread", "The tool could not be run in time.")
            return calling.unknown() if wanted.was_begun else busy
        return await self._run(tool, arguments, wanted, holding)

    async def _run(
        self,
        tool: Runnable,
        arguments: dict[str, object],
        wanted: Wanted,
        holding: Holding,
    ) -> Outcome | Stop:
        """Note that it begins, and run it."""
        begun = False
        try:
            claim = holding.claim
            begun = holding.may_begin() and await self._ledger.begin(
                ToBegin(turn_id=claim.turn_id, fence=claim.fence, position=wanted.position)
            )
        finally:
            if not begun and not tool.is_async:
                self._threads.give_back()
        if not begun:
            return holding.stop or Stop.LEASE_LOST
        return await calling.run(tool, arguments, self._threads)

    async def _read(self, tool: Runnable, read: Callable[[], dict[str, object]]) -> Ran:
        """Read the arguments: not on our loop, where code of somebody's does so."""
        if not tool.runs_to_read:
            return ran_here(read)
        async with asyncio.timeout(tool.timeout.total_seconds()):
            return await self._reading.call(read)

    async def _runnable(
        self, wanted: Wanted, claim: Claim
    ) -> tuple[Runnable | Outcome, dict[str, object]]:
        """Return the tool and what it is called with, or why it cannot be called."""
        offered = self._tools.offered(claim.settings.get("tools")).get(wanted.call.name)
        if offered is None or offered.tool is None:
            return failed("unknown_tool", "There is no such tool."), {}
        tool = offered.tool
        context = ToolContext(
            turn_id=claim.turn_id,
            session_id=claim.session_id,
            user_id=claim.user_id,
            metadata=claim.metadata,
            attempt=claim.attempt,
            step=claim.step - 1,
            call_id=wanted.call.id,
            idempotency_key=wanted.key,
        )
        read = partial(tool.arguments, wanted.call.arguments, context)
        try:
            ran = await self._read(tool, read)
        except TimeoutError:
            return calling.unread(tool), {}
        if isinstance(ran.raised, BadCall):
            return failed("bad_arguments", f"The tool cannot be called so: {ran.raised}"), {}
        if ran.raised is not None:
            return calling.raised(tool, ran.raised), {}
        return tool, ran.result


def _wanted(receipts: Sequence[Receipt], made: dict[int, ToolCall]) -> dict[int, Wanted]:
    return {
        one.position: Wanted(
            position=one.position,
            call=made[one.position],
            state=one.state,
            effects=one.effects,
            key=one.idempotency_key,
            overdue=one.overdue and one.state in WAITING_CALLS,
        )
        for one in receipts
        if one.ended_at is None
    }


def _tell(publishing: Publishing, message: Message) -> None:
    for part in message.parts:
        if isinstance(part, ToolOutput):
            publishing.tool_output(part)


def _last_reply(messages: Sequence[Message]) -> int:
    """Return the place of the last message of a model, or -1."""
    places = range(len(messages) - 1, -1, -1)
    return next((n for n in places if messages[n].role == "assistant"), -1)


def _calls_in(message: Message) -> list[ToolCall]:
    return [part for part in message.parts if isinstance(part, ToolCall)]

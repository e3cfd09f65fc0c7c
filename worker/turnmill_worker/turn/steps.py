"""Steps: a reply that calls tools is written down, its calls are run, and the model goes on.

A step is one model call of a turn. Each is committed as it comes, and so is what came of each call
of a tool: whoever claims the turn later goes on where the rows end, and repeats nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnmill.domain.bounds import MAX_TOOL_ROUNDS
from turnmill.domain.checks import storable
from turnmill.domain.content import Message, ToolCall
from turnmill.domain.errors import NotSent, ProviderError, Rejected, StoreError
from turnmill.domain.states import Effects, ToolCallState, TurnState
from turnmill.store.codec import StoredHistory
from turnmill.store.line.stepping import CALLED
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill.store.step_records import Advanced, NewCall, Step
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers import calls
from turnmill_worker.providers.boundary import Fault, name_of
from turnmill_worker.providers.port import Request
from turnmill_worker.tools.form import OUTPUT_INVALID, UNMENDED, Forms, form_refused, misfits
from turnmill_worker.tools.offered import Offered, Tools
from turnmill_worker.tools.schemas import SchemaRefused
from turnmill_worker.turn import aloud
from turnmill_worker.turn.aloud import Aloud, Ended, is_spoken, is_to_be_spoken, towards_speech
from turnmill_worker.turn.in_hand import end_of
from turnmill_worker.turn.rounds import (
    Round,
    Rounds,
    round_after,
    round_left,
    tell_answers,
    unanswered,
)
from turnmill_worker.turn.step_ledger import StepLedger
from turnmill_worker.turn.voice_ledger import VoiceLedger

#: The code of a turn whose model calls tools for ever.
TOO_MANY_ROUNDS = "too_many_tool_rounds"
_MEND = (
    "This reply does not fit the JSON schema that is asked for. Answer again, with nothing but JSON"
    " that fits it. What is wrong:"
)
_MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How one turn is asked, judged and ended: all that its steps have in common with any call."""

    ask: Callable[[], Awaitable[Settlement]]  #: one model call, with the claim in hand
    #: what is to be written where it ends between two calls
    judge: Callable[[Stop | ProviderError], Settlement]
    write: Callable[[Settlement], Awaitable[Settled | Fenced]]
    told: Callable[[Claim, Settlement], None]  #: of a step that stands
    again: Callable[[], None]  #: called before the first attempt of a step that the claim comes to
    aloud: aloud.Asking  #: of what is heard, or spoken


class Steps:
    """Takes the steps of turns, in one process."""

    def __init__(
        self,
        *,
        ledger: StepLedger | None,
        tools: Tools,
        accepting: Callable[[], bool],
        voice: VoiceLedger | None = None,
    ) -> None:
        self._tools = tools
        self._accepting = accepting
        self._aloud = Aloud(voice)
        self._forms = Forms()
        if ledger is not None:
            self._ledger = ledger
            self._rounds = Rounds(ledger=ledger, tools=tools)

    @staticmethod
    def are_taken(claim: Claim) -> bool:
        """Tell whether the turn may take more steps than one."""
        settings = claim.settings
        return (
            claim.step > 1
            or bool(settings.get("tools") or settings.get("response_format"))
            or is_spoken(claim)
        )

    async def equipped(self, request: Request, claim: Claim) -> Request:
        """Return the request with the tools that may be called, and where its thread goes on.

        Raises Rejected where the session names a tool that is not registered here, or asks for a
        form to which no reply can be held.
        """
        chosen = claim.settings.get("tools")
        form = _form_of(claim)
        if form is not None:
            await self._require(form)
        await self._tools.learn(chosen)
        offered = self._tools.offered(chosen)
        return replace(
            request,
            tools=tuple(one.offer for one in offered.values()),
            continues=_continued(claim) if claim.step_ref else 0,
            output_schema=form,
        )

    async def _require(self, form: Mapping[str, Any]) -> None:
        try:
            await self._forms.require(form)
        except SchemaRefused as refused:
            raise form_refused(refused) from None

    async def run(self, holding: Holding, asking: Asking) -> Ended:
        """Take one step after the other until the turn has ended, or is to be given back."""
        try:
            ended = await self._left_undone(holding, asking)
            while ended is None:
                ended = await self._one(holding, asking)
        except StoreError as error:
            ended = asking.judge(Fault(error.code))
        except Rejected as error:
            ended = asking.judge(error)  # a call is left of a tool that is not registered here
        except Exception as error:  # noqa: BLE001
            # The edge of a turn, which has to come to an end: say, a row of its is corrupt.
            ended = asking.judge(Fault(f"bug:{name_of(error)}"[:64]))
        if isinstance(ended, tuple):
            return ended  # it waits, and that stands already
        return ended, await asking.write(ended)

    async def _one(self, holding: Holding, asking: Asking) -> Settlement | Ended | None:
        """Take one step, and return None where another one is to be taken."""
        if is_to_be_spoken(holding.claim):
            return await self._aloud.spoken(holding, asking.aloud)
        step = self._step(holding.claim, await asking.ask())
        if isinstance(step, Settlement):
            step = await _fitting(holding.claim, step)
        if isinstance(step, Settlement):
            step = towards_speech(holding.claim, step)
        return await self._taken(step, holding, asking) if isinstance(step, Step) else step

    async def _left_undone(self, holding: Holding, asking: Asking) -> Settlement | Ended | None:
        """Do first what whoever held the turn before us has left undone."""
        step = holding.claim.step
        ended = await self._aloud.heard(holding, asking.aloud, self._advance)
        if ended is not None:
            return ended
        if holding.claim.step > step:
            if not self._accepting():
                return asking.judge(Stop.DRAINING)
            asking.again()
        claim = holding.claim
        if claim.step_ref:
            # The thread stands for what was said before, too.
            claim = holding.claim = replace(claim, history=StoredHistory())
        if not unanswered(claim.messages):
            tell_answers(claim.messages, holding.publishing)  # some are from outside
            return None
        if claim.kind != "send":
            # With calls that have no outputs, nothing can have been sent.
            if not await self._ledger.send_instead(claim):
                return asking.judge(Stop.LEASE_LOST)
            attempt = min(claim.attempt + 1, claim.max_attempts)
            claim = replace(claim, kind="send", native_ref="", attempt=attempt)
            holding.claim = claim
            asking.again()
        receipts = await self._ledger.receipts(claim.turn_id)
        left = round_left(claim, receipts)
        left.tell(holding.publishing)
        return await self._finish(left, holding, asking)

    def _step(self, claim: Claim, settlement: Settlement) -> Step | Settlement:
        """Return the step that a reply ends, or what is to be written where it ends none."""
        called = _calls_of(settlement)
        chosen = claim.settings.get("tools")
        if not called or not chosen:
            return settlement
        offered = self._tools.offered(chosen)
        if len({one.id for one in called} - {""}) < len(called):
            return _failed(settlement, "bad_answer")  # no vendor could tell the outputs apart
        if claim.step > _most_rounds(claim.settings):
            return _failed(settlement, TOO_MANY_ROUNDS)
        return Step(
            settlement=replace(settlement, state=TurnState.RUNNING, outcome=CALLED),
            calls=[_new_call(one, offered.get(one.name)) for one in called],
        )

    async def _taken(
        self, step: Step, holding: Holding, asking: Asking
    ) -> Settlement | Ended | None:
        """Write the step, run its calls, and return None where the model is to be asked again."""
        advanced = await self._advance(step, holding)
        if isinstance(advanced, Settlement):
            return advanced
        asking.told(holding.claim, step.settlement)
        if holding.publishing is not None:
            for call in _calls_in(step.settlement):
                holding.publishing.tool_call(call)
        left = None
        if step.calls:
            left = await self._finish(round_after(step, holding.claim), holding, asking)
        if left is None and not self._accepting():
            return asking.judge(Stop.DRAINING)
        if left is None and not is_to_be_spoken(holding.claim):
            asking.again()  # what is spoken is no other attempt to those who read along
        return left

    async def _advance(self, step: Step, holding: Holding) -> Advanced | Settlement:
        """Write the step; the claim in hand is that of the next one from then on."""
        holding.call, holding.advancing = None, True
        try:
            work = calls.Call(self._ledger.advance(step))
            await end_of(work, holding, accepting=self._accepting)
            result = work.value()
            if isinstance(result, Advanced):
                holding.go_on_with(_next(holding.claim, step, result))
                return result
        except StoreError as error:
            return _failed(step.settlement, f"step_{error.code}"[:64])
        finally:
            holding.advancing = False
        # Somebody wants it to end, or else it is not ours: then this changes nothing.
        return _ended(step.settlement, TurnState.CANCELLED, "cancelled")

    async def _finish(
        self, round_: Round, holding: Holding, asking: Asking
    ) -> Settlement | Ended | None:
        """Have all calls of a step answered; None when they are, and the model can go on."""
        while True:
            stop = await self._worked(round_, holding)
            if stop is not None:
                return asking.judge(stop)
            if round_.is_answered:
                holding.claim = round_.answered(holding.claim)
                return None
            waiting = replace(
                asking.judge(Stop.DRAINING), state=TurnState.WAITING, outcome="not_now"
            )
            waits = await self._ledger.wait(replace(waiting, gives_attempt_back=False))
            if waits is not None:
                return waiting, waits
            await self._rounds.look_again(round_, holding)

    async def _worked(self, round_: Round, holding: Holding) -> Stop | NotSent | None:
        """Run what can be run, in a task that can be closed; return why it was, or what failed."""
        if not round_.ready:
            return None
        if not holding.may_begin():
            return holding.stop
        work = holding.call = calls.Call(self._rounds.run(round_, holding))
        await end_of(work, holding, accepting=self._accepting)
        holding.call = None
        if holding.stop in (Stop.REVOKED, Stop.TIMED_OUT):
            return NotSent(holding.stop.value)  # or it would come to that again and again
        return holding.stop or work.value()


async def _fitting(claim: Claim, settlement: Settlement) -> Step | Settlement:
    """Return a reply as it is, if it has the form that is asked for; once, a step to mend it."""
    schema = _form_of(claim)
    if schema is None or settlement.state is not TurnState.SUCCEEDED:
        return settlement
    try:
        wrong = await asyncio.to_thread(misfits, settlement.text or "", schema)
    except SchemaRefused:
        return _failed(settlement, "setting_refused")
    if not wrong:
        return settlement
    if settlement.finish_reason in UNMENDED:
        return _failed(settlement, UNMENDED[settlement.finish_reason])
    if _was_mended(claim):
        return _failed(settlement, OUTPUT_INVALID)
    told = Message.of("user", storable(f"{_MEND}\n{wrong}"))
    return Step(
        settlement=replace(
            settlement,
            state=TurnState.RUNNING,
            outcome=CALLED,
            error_code=OUTPUT_INVALID,
            replies=(*settlement.replies, told),
        ),
        calls=(),
    )


def _form_of(claim: Claim) -> Mapping[str, Any] | None:
    schema = claim.settings.get("response_format")
    return schema if isinstance(schema, Mapping) else None


def _was_mended(claim: Claim) -> bool:
    """Tell whether the model was told already that a reply of this turn has not its form."""
    roles = [one.role for one in claim.messages]
    return "assistant" in roles and "user" in roles[roles.index("assistant") :]


def _continued(claim: Claim) -> int:
    """Return how many messages of the turn the thread of its last step stands for."""
    replies = [n for n, one in enumerate(claim.messages, 1) if one.role == "assistant"]
    return replies[-1] if replies else 0


def _calls_of(settlement: Settlement) -> list[ToolCall]:
    return _calls_in(settlement) if settlement.state is TurnState.SUCCEEDED else []


def _calls_in(settlement: Settlement) -> list[ToolCall]:
    return [
        part
        for message in settlement.replies
        for part in message.parts
        if isinstance(part, ToolCall)
    ]


def _new_call(call: ToolCall, offered: Offered | None) -> NewCall:
    """Return the receipt of a call. What is not offered is told to the model as any other error."""
    name = storable(call.name)[:_MAX_NAME]
    if offered is None:
        begins, effects, expires = ToolCallState.PENDING, Effects.NONE, None
    else:
        begins, effects, expires = offered.begins, offered.effects, offered.expires
    return NewCall(call_id=call.id, tool=name, effects=effects, state=begins, expires_in=expires)


def _most_rounds(settings: Mapping[str, object]) -> int:
    most = settings.get("max_tool_rounds")
    return most if type(most) is int and most > 0 else MAX_TOOL_ROUNDS


def _next(claim: Claim, step: Step, advanced: Advanced) -> Claim:
    """Return the claim of the next step; outputs are still to come."""
    return replace(
        claim,
        kind="send",
        fence=advanced.fence,
        n=advanced.n,
        attempt=advanced.attempt,
        step=advanced.step,
        step_ref=step.settlement.provider_ref or "",
        native_ref="",
        messages=(*claim.messages, *step.settlement.replies),
        next_position=step.first_output,
        history=StoredHistory() if step.settlement.provider_ref else claim.history,
    )


def _failed(settlement: Settlement, code: str) -> Settlement:
    return _ended(settlement, TurnState.FAILED, code)


def _ended(settlement: Settlement, state: TurnState, code: str) -> Settlement:
    """Return what is written of a reply that its turn ends with: what it has cost, and no word."""
    return replace(
        settlement,
        state=state,
        outcome=state.value,
        error_code=code,
        replies=(),
        provider_ref=None,
        answered_by=None,
        kept=[replace(one, wanted=False) for one in settlement.kept],
    )

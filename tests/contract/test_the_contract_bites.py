"""The contract suite against providers that are wrong in one way each."""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from tests.doubles.small_vendor import SmallProvider, small_rig
from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    Overloaded,
    RateLimited,
    Rejected,
)
from turnmill.testing import provider_contract
from turnmill.testing.provider_contract import Fault, ProviderContract, Rig
from turnmill_worker.providers import Absent, Done, Emit, Request, Running, Unknowable, Usage


class TestSmall(ProviderContract):
    def rig(self) -> AbstractAsyncContextManager[Rig]:
        return small_rig()


class RetriesInside(SmallProvider):
    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        for _ in range(2):
            try:
                return await super().send(request, emit)
            except Overloaded:
                await asyncio.sleep(0)
        return await super().send(request, emit)


class QuotesTheUser(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.REFUSED:
            raise Rejected(answer["message"])
        return super().read(answer)


class ChainsTheVendorsError(SmallProvider):
    async def asked(self, request: Request) -> Done | Running:
        try:
            return await super().asked(request)
        except Overloaded as error:
            raise Overloaded from error


class CannotBePickled(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.OVERLOADED:
            error = Overloaded()
            error.answer = lambda: answer  # type: ignore[attr-defined]
            raise error
        return super().read(answer)


class LogsTheUser(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        logging.getLogger("small").info("asks %s", request.text)
        return await super().post(request)


class Blocks(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        time.sleep(0.001)  # noqa: ASYNC251
        return await super().post(request)


class StandsStill(SmallProvider):
    closed = False

    async def close(self, thread_ref: str) -> None:
        self.closed = True
        await super().close(thread_ref)

    async def post(self, request: Request) -> dict[str, Any]:
        if self.closed:
            ends = time.monotonic() + 1.2
            while time.monotonic() < ends:
                pass
        return await super().post(request)


class HasNoTimeout(SmallProvider):
    async def asked(self, request: Request) -> Done | Running:
        if self.vendor.fault is Fault.HANG:
            return self.read(await self.post(request))
        return await super().asked(request)


class SwallowsACancellation(SmallProvider):
    async def asked(self, request: Request) -> Done | Running:
        try:
            return await super().asked(request)
        except asyncio.CancelledError:
            raise MaybeSent("cancelled") from None


class CheckExecutes(SmallProvider):
    async def check(self, request: Request) -> Any:
        found = await super().check(request)
        if isinstance(found, Absent):
            await self.post(request)
        return found


class AbsentWithoutKnowing(SmallProvider):
    async def check(self, request: Request) -> Any:
        return await super().check(request) if request.native_ref else Absent()


class LosesWhatWorksInTheBackground(SmallProvider):
    async def check(self, request: Request) -> Any:
        return Unknowable() if request.native_ref else await super().check(request)


class NamesNoWork(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        found = super().read(answer)
        return replace(found, native_ref="") if isinstance(found, Running) else found


class ClosesOnce(SmallProvider):
    async def close(self, thread_ref: str) -> None:
        if thread_ref and thread_ref not in self.vendor.answers:
            raise Rejected("not_found")
        await super().close(thread_ref)


class DoesNotClose(SmallProvider):
    async def close(self, thread_ref: str) -> None:
        """Forget it."""


class KeepsWithoutSaying(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        answer = await super().post(request)
        self.vendor.answers["file_of_the_prompt"] = 0
        return answer


class CancelsOnce(SmallProvider):
    async def cancel(self, native_ref: str) -> None:
        if self.vendor.turns.pop(native_ref, None) is None:
            raise Rejected("not_found")


class ClosesItselfOnce(SmallProvider):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise NotSent("closed")
        self.closed = True


class AnyDone(SmallProvider):
    """Changes every reply."""

    def changed(self, reply: Done) -> Done:
        raise NotImplementedError

    def read(self, answer: dict[str, Any]) -> Done | Running:
        found = super().read(answer)
        return self.changed(found) if isinstance(found, Done) else found


class CountsInText(AnyDone):
    def changed(self, reply: Done) -> Done:
        return replace(reply, model=["model-1"])  # type: ignore[arg-type]


class SaysZeroForUnknown(AnyDone):
    def changed(self, reply: Done) -> Done:
        known = reply.usage.input_tokens is not None
        return reply if known else replace(reply, usage=Usage(input_tokens=0, output_tokens=0))


class SaysTheSameToAll(AnyDone):
    def changed(self, reply: Done) -> Done:
        return reply.with_text("4711 " + reply.text.partition(" [")[2].join(("[", "")))


class EmitsAnotherText(SmallProvider):
    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        answer = await super().send(request)
        if emit is not None and isinstance(answer, Done):
            await emit(" ".join(answer.text.split()))
        return answer


class FailsOtherwiseBeforeReaders(SmallProvider):
    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        try:
            return await super().send(request, emit)
        except NotSent as error:
            if emit is None:
                raise
            failure = MaybeSent(error.error_code)
        raise failure


class LosesTheHistory(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        return await super().post(replace(request, history=request.history[-2:]))


class DropsTheThread(AnyDone):
    def changed(self, reply: Done) -> Done:
        return replace(reply, thread_ref="thread-of-nobody", kept=(reply.thread_ref,))


class IgnoresAThreadOfAnother(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        ours = request.thread_ref.startswith("answer_")
        return await super().post(request if ours else replace(request, thread_ref=""))


class BeginsAnewWithoutAWord(SmallProvider):
    async def post(self, request: Request) -> dict[str, Any]:
        known = request.thread_ref in self.vendor.answers or "another" in request.thread_ref
        return await super().post(request if known else replace(request, thread_ref=""))


class CallsRefusalsTemporary(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.REFUSED:
            raise NotSent("refused")
        return super().read(answer)


class BuysTwice(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if "?" in answer:
            raise MaybeSent("unreadable")
        return super().read(answer)


class RaisesItsOwn(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.SERVER_ERROR:
            raise RuntimeError("500")
        return super().read(answer)


class Exits(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.SERVER_ERROR:
            raise SystemExit(1)
        return super().read(answer)


class ForgetsTheWait(SmallProvider):
    def read(self, answer: dict[str, Any]) -> Done | Running:
        if answer.get("error") is Fault.RATE_LIMITED:
            raise RateLimited
        return super().read(answer)


class CallsTheUnreachableSent(SmallProvider):
    async def asked(self, request: Request) -> Done | Running:
        if self.vendor.fault is Fault.UNREACHABLE:
            raise MaybeSent("unreachable")
        return await super().asked(request)


class TakesAnySetting(SmallProvider):
    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        settings = {name: one for name, one in request.settings.items() if name != "colour"}
        return await super().send(replace(request, settings=settings), emit)


class HasNoName(SmallProvider):
    name = ""


WRONG: list[tuple[type[SmallProvider], set[str]]] = [
    (RetriesInside, {"a_call_makes_one_request_whatever_becomes_of_it"}),
    (QuotesTheUser, {"no_error_carries_what_the_user_wrote"}),
    (ChainsTheVendorsError, {"no_error_carries_what_the_user_wrote"}),
    (CannotBePickled, {"no_error_carries_what_the_user_wrote"}),
    (LogsTheUser, {"no_line_of_the_log_carries_what_the_user_wrote"}),
    (Blocks, {"no_call_blocks_the_event_loop"}),
    (StandsStill, {"no_call_blocks_the_event_loop"}),
    (HasNoTimeout, {"a_call_that_nobody_answers_ends_in_time"}),
    (SwallowsACancellation, {"a_cancelled_call_ends_at_once"}),
    (CheckExecutes, {"looking_for_a_turn_executes_nothing"}),
    (AbsentWithoutKnowing, {"a_turn_that_was_executed_is_never_called_absent"}),
    (LosesWhatWorksInTheBackground, {"work_in_the_background_is_looked_up_until_it_is_done"}),
    (NamesNoWork, {"work_in_the_background_is_looked_up_until_it_is_done"}),
    (ClosesOnce, {"what_is_gone_already_can_be_closed"}),
    (DoesNotClose, {"all_that_the_vendor_keeps_is_named_and_gone_when_closed"}),
    (KeepsWithoutSaying, {"all_that_the_vendor_keeps_is_named_and_gone_when_closed"}),
    (CancelsOnce, {"work_that_has_ended_or_is_gone_can_be_cancelled"}),
    (ClosesItselfOnce, {"the_provider_can_be_closed_twice"}),
    (CountsInText, {"every_field_of_a_reply_is_what_it_is_declared_to_be"}),
    (SaysZeroForUnknown, {"tokens_are_counted_or_unknown_and_never_0_of_something"}),
    (SaysTheSameToAll, {"fifty_calls_at_once_each_get_their_own_reply"}),
    (EmitsAnotherText, {"what_is_emitted_joined_is_the_reply"}),
    (
        FailsOtherwiseBeforeReaders,
        {"a_call_fails_in_the_same_way_when_somebody_reads_along"},
    ),
    (LosesTheHistory, {"the_whole_history_reaches_the_vendor"}),
    (DropsTheThread, {"a_thread_goes_on_where_the_last_reply_left_it"}),
    (
        IgnoresAThreadOfAnother,
        {"a_thread_that_is_kept_elsewhere_is_not_answered_without_its_history"},
    ),
    (
        BeginsAnewWithoutAWord,
        {"a_lost_thread_is_told_and_can_be_built_anew_from_the_history"},
    ),
    (CallsRefusalsTemporary, {"each_failure_is_told_by_the_error_that_says_what_to_do"}),
    (BuysTwice, {"each_failure_is_told_by_the_error_that_says_what_to_do"}),
    (RaisesItsOwn, {"each_failure_is_told_by_the_error_that_says_what_to_do"}),
    (Exits, {"each_failure_is_told_by_the_error_that_says_what_to_do"}),
    (ForgetsTheWait, {"a_rate_limit_tells_how_long_to_wait"}),
    (CallsTheUnreachableSent, {"a_vendor_that_takes_no_connection_was_sent_nothing"}),
    (TakesAnySetting, {"a_setting_that_cannot_be_used_is_refused_before_anything_is_sent"}),
    (HasNoName, {"it_has_a_name_and_every_verb"}),
]

PROMISES = sorted(name for name in vars(ProviderContract) if name.startswith("test_"))


def broken_by(kind: type[SmallProvider]) -> set[str]:
    """Return the promises that a provider of this class does not keep."""

    class Suite(ProviderContract):
        def rig(self) -> AbstractAsyncContextManager[Rig]:
            return small_rig(kind)

    broken = set()
    for name in PROMISES:
        put: Callable[[], None] = getattr(Suite(), name)
        try:
            put()
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception):  # noqa: BLE001
            broken.add(name.removeprefix("test_"))
    return broken


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_contract, "_PATIENCE", 0.5)


@pytest.mark.parametrize(("kind", "promises"), WRONG, ids=[kind.__name__ for kind, _ in WRONG])
def test_a_wrong_provider_fails_the_promise_that_it_breaks_and_no_other(
    kind: type[SmallProvider], promises: set[str]
) -> None:
    assert broken_by(kind) == promises


def test_every_promise_is_broken_by_a_provider_of_these() -> None:
    told = {name for _, promises in WRONG for name in promises}
    #: These two are broken by a package, and by a provider that answers somebody else.
    apart = {
        "workers_find_it_by_its_name_and_it_tells_which_variable_is_missing",
        "a_reply_is_one_to_the_message_that_was_sent",
    }
    assert told | apart == {name.removeprefix("test_") for name in PROMISES}


def test_without_pytest_the_suite_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "import turnmill.testing\n"  # needs none
        "from turnmill.domain.errors import MissingExtra\n"
        "try: import turnmill.testing.provider_contract\n"
        "except MissingExtra as error: print(error, '|', error.hint)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "(pytest is missing) | pip install pytest 'turnmill[worker]'" in ran.stdout

"""What every provider promises, as tests that an author puts to his own. Needs pytest.

from turnmill.testing.provider_contract import Fault, ProviderContract, Rig

class TestMyProvider(ProviderContract):
    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield MyRig(provider=MyProvider(), model="my-model", faults={Fault.OVERLOADED})
"""

import asyncio
import os
import pickle
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar
from unittest.mock import patch

from turnmill.domain.content import Message
from turnmill.domain.errors import (
    ConfigurationError,
    KeyMissing,
    MissingExtra,
    NotSent,
    ProviderError,
    Rejected,
    ThreadLost,
)

try:
    import pytest

    from turnmill.testing.blocking import standstills, waiting_calls
    from turnmill.testing.judging import (
        answered,
        error_of,
        failed,
        failures,
        had,
        is_sound,
        log,
        meet,
        quietly,
        raises,
    )
    from turnmill.testing.provider_rig import WAIT_SECONDS, Fault, Rig, a_history, a_request
    from turnmill_worker.providers.boundary import OF_CHECK, OF_SEND
    from turnmill_worker.providers.port import (
        Absent,
        Cancels,
        Done,
        Provider,
        Running,
        Unknowable,
    )
    from turnmill_worker.providers.registry import ProviderRegistry
except ImportError as missing:
    raise MissingExtra(
        f"the contract of providers needs pytest and the worker half ({missing.name} is missing)",
        hint="pip install pytest 'turnmill[worker]'",
    ) from None

__all__ = ["Fault", "ProviderContract", "Rig", "a_history", "a_request"]

SECRET = "CANARY-7f3a"
AT_ONCE = 50
_PATIENCE = 5.0  #: seconds for what has to end soon
_BOUND = 60.0  #: seconds for one promise
_LOOKS = 200  #: at work in the background

S = TypeVar("S", bound="ProviderContract")


def promise(test: Callable[[S, Rig], Awaitable[None]]) -> Callable[[S], None]:
    """Run a test with a rig of its own, on an event loop of its own: no plugin is needed."""

    @wraps(test)
    def put(self: S) -> None:
        asyncio.run(_put(self, test))

    del put.__wrapped__  # pytest would look for a fixture `rig`
    return put


async def _put(suite: S, test: Callable[[S, Rig], Awaitable[None]]) -> None:
    async with asyncio.timeout(_BOUND), suite.rig() as rig:
        await test(suite, rig)


class ProviderContract:
    """The promises, a test each. Subclass it as `Test…` and say what `rig` is."""

    def rig(self) -> AbstractAsyncContextManager[Rig]:
        """Return a new provider with a new stand-in, and take them down in the end."""
        raise NotImplementedError("say how your provider and the stand-in for its vendor are made")

    # What it is.

    @promise
    async def test_it_has_a_name_and_every_verb(self, rig: Rig) -> None:
        assert isinstance(rig.provider, Provider), "a verb of `Provider` is missing"
        assert rig.provider.name

    @promise
    async def test_workers_find_it_by_its_name_and_it_tells_which_variable_is_missing(
        self, rig: Rig
    ) -> None:
        given = had(rig.environment, "an environment in which an installed package makes it")
        name = rig.provider.name
        with patch.dict(os.environ, given):
            made = ProviderRegistry(os.environ).get(name)
            assert type(made) is type(rig.provider)
            await made.aclose()
            for variable in given:
                with patch.dict(os.environ), raises(ProviderError, ConfigurationError) as caught:
                    del os.environ[variable]
                    ProviderRegistry(os.environ).get(name)
                [error] = caught
                assert isinstance(error, KeyMissing), f"without {variable} it raises {error!r}"
                assert variable in f"{error.hint}", f"the hint does not name {variable}"

    # What it answers.

    @promise
    async def test_a_reply_is_one_to_the_message_that_was_sent(self, rig: Rig) -> None:
        assert "4711" in (await answered(rig, "number 4711")).text

    @promise
    async def test_every_field_of_a_reply_is_what_it_is_declared_to_be(self, rig: Rig) -> None:
        request = rig.request()
        await is_sound(await rig.provider.send(request), among=OF_SEND, provider=rig.provider)
        await is_sound(await rig.provider.check(request), among=OF_CHECK, provider=rig.provider)
        if Fault.BACKGROUND in rig.faults:
            await rig.meet(Fault.BACKGROUND)
            await is_sound(
                await rig.provider.send(rig.request()), among=OF_SEND, provider=rig.provider
            )

    @promise
    async def test_tokens_are_counted_or_unknown_and_never_0_of_something(self, rig: Rig) -> None:
        for fault in (None, Fault.NO_USAGE):
            if fault in (None, *rig.faults):
                if fault is not None:
                    await rig.meet(fault)
                usage = (await answered(rig)).usage
                for tokens in (usage.input_tokens, usage.output_tokens):
                    assert tokens is None or (tokens > 0 and fault is None), (
                        f"{tokens} tokens, where the vendor said {fault or 'how many'}"
                    )

    @promise
    async def test_what_is_emitted_joined_is_the_reply(self, rig: Rig) -> None:
        for text in ("Some  words\nhere", " 4711 🏔️\n"):
            pieces: list[str] = []

            async def emit(piece: str, pieces: list[str] = pieces) -> None:
                pieces.append(piece)

            reply = await rig.provider.send(rig.request(text), emit)
            assert isinstance(reply, Done)
            assert all(type(piece) is str for piece in pieces), "a piece is no text"
            # Who emits nothing does not stream: the reply is shown as a whole.
            assert not pieces or "".join(pieces) == reply.text
            for piece in pieces:
                piece.encode()  # in whole characters

    @promise
    async def test_a_call_fails_in_the_same_way_when_somebody_reads_along(self, rig: Rig) -> None:
        async def emit(piece: str) -> None:
            """Hear it."""

        for fault, _ in failures(rig, but=(Fault.UNREACHABLE,)):
            alone, along = await failed(rig, fault), await failed(rig, fault, emit=emit)
            assert type(along) is type(alone), f"{fault} became {along!r} instead of {alone!r}"

    @promise
    async def test_fifty_calls_at_once_each_get_their_own_reply(self, rig: Rig) -> None:
        replies = await asyncio.gather(
            *(answered(rig, f"number {4000 + n}") for n in range(AT_ONCE))
        )
        assert all(str(4000 + n) in reply.text for n, reply in enumerate(replies))
        assert rig.executed() in (None, AT_ONCE)

    # The thread.

    @promise
    async def test_the_whole_history_reaches_the_vendor(self, rig: Rig) -> None:
        reply = await answered(rig, history=a_history(3))
        assert had(rig.messages_seen(reply), "a stand-in that tells what it was shown") == 6

    @promise
    async def test_a_thread_goes_on_where_the_last_reply_left_it(self, rig: Rig) -> None:
        history: list[Message] = []
        thread_ref = ""
        for turn in range(3):
            shown = [] if thread_ref else history
            reply = await answered(rig, f"question {turn}", history=shown, thread_ref=thread_ref)
            seen = had(rig.messages_seen(reply), "a stand-in that tells what it was shown")
            assert seen == 2 * turn
            thread_ref = reply.thread_ref
            history += [Message.of("user", f"question {turn}"), Message.of("assistant", reply.text)]

    @promise
    async def test_a_thread_that_is_kept_elsewhere_is_not_answered_without_its_history(
        self, rig: Rig
    ) -> None:
        with raises(ThreadLost):
            await rig.provider.send(rig.request(thread_ref="thread-of-another-vendor"))
        assert not rig.executed()

    @promise
    async def test_a_lost_thread_is_told_and_can_be_built_anew_from_the_history(
        self, rig: Rig
    ) -> None:
        first = await answered(rig)
        await meet(rig, Fault.THREAD_LOST)
        lost = replace(rig.request("Again"), thread_ref=first.thread_ref)
        with raises(ThreadLost):
            await rig.provider.send(lost)
        assert isinstance(
            await rig.provider.send(replace(lost, thread_ref="", history=a_history(1))), Done
        )

    # What goes wrong.

    @promise
    async def test_each_failure_is_told_by_the_error_that_says_what_to_do(self, rig: Rig) -> None:
        for fault, meaning in failures(rig, but=(Fault.UNREACHABLE,)):
            error = await failed(rig, fault)
            assert isinstance(error, meaning), f"{fault} became {error!r}, not {meaning.__name__}"

    @promise
    async def test_a_vendor_that_takes_no_connection_was_sent_nothing(self, rig: Rig) -> None:
        await meet(rig, Fault.UNREACHABLE)
        with raises(NotSent):
            await rig.provider.send(rig.request())

    @promise
    async def test_a_rate_limit_tells_how_long_to_wait(self, rig: Rig) -> None:
        await meet(rig, Fault.RATE_LIMITED)
        with raises(NotSent) as caught:
            await rig.provider.send(rig.request())
        assert caught[0].retry_after == timedelta(seconds=WAIT_SECONDS)

    @promise
    async def test_a_call_makes_one_request_whatever_becomes_of_it(self, rig: Rig) -> None:
        had(rig.requests(), "a stand-in that counts requests")
        for fault, _ in failures(rig, but=(Fault.UNREACHABLE,)):
            before = rig.requests() or 0
            await failed(rig, fault)
            assert (rig.requests() or 0) - before <= 1, f"{fault} was answered by a retry in here"

    @promise
    async def test_no_error_carries_what_the_user_wrote(self, rig: Rig) -> None:
        for fault, _ in failures(rig):
            error = await failed(rig, fault, SECRET)
            assert SECRET not in f"{error!r} {error} {getattr(error, 'hint', '')} {error.args}", (
                f"the text of the error of {fault} quotes the user: `detail` is the place for it"
            )
            chained = (error.__cause__, error.__context__)
            assert chained == (None, None), f"{fault}: the vendor's exception is chained to it"
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), str(copy)) == (type(error), str(error))

    @promise
    async def test_no_line_of_the_log_carries_what_the_user_wrote(self, rig: Rig) -> None:
        with log() as lines:
            await answered(rig, SECRET)
            for fault, _ in rig.failures():
                await failed(rig, fault, SECRET)
        assert not [line for line in lines if SECRET in line]

    @promise
    async def test_a_setting_that_cannot_be_used_is_refused_before_anything_is_sent(
        self, rig: Rig
    ) -> None:
        settings = had(rig.unusable, "settings that it refuses")
        with raises(Rejected):
            await rig.provider.send(rig.request(settings=settings))
        assert not rig.requests()

    # Time.

    @promise
    async def test_a_call_that_nobody_answers_ends_in_time(self, rig: Rig) -> None:
        settings = had(rig.impatient, "a vendor, to wait for")
        await meet(rig, Fault.HANG)
        call = asyncio.create_task(error_of(rig, rig.request(settings=settings)))
        done, _ = await asyncio.wait([call], timeout=_PATIENCE)
        call.cancel()
        assert done, f"it still waits after {_PATIENCE} s: it has no time-out"
        assert isinstance(call.result(), ProviderError)

    @promise
    async def test_a_cancelled_call_ends_at_once(self, rig: Rig) -> None:
        await meet(rig, Fault.HANG)
        call = asyncio.create_task(rig.provider.send(rig.request()))
        await asyncio.wait([call], timeout=0.05)  # it is under way, or about to be
        call.cancel()
        await asyncio.wait([call], timeout=_PATIENCE)
        assert call.cancelled(), "it goes on though it was cancelled"

    @promise
    async def test_no_call_blocks_the_event_loop(self, rig: Rig) -> None:
        with waiting_calls() as found:
            reply = await answered(rig)
            await rig.provider.check(rig.request())
            await rig.provider.close(reply.thread_ref)
        assert not found, f"it waits on the loop's own thread: {', '.join(sorted(set(found)))}"
        async with standstills() as stood:
            await answered(rig)
        assert not stood, f"the loop stood still for {max(stood):.1f} s"

    # What became of it.

    @promise
    async def test_looking_for_a_turn_executes_nothing(self, rig: Rig) -> None:
        before = had(rig.executed(), "a stand-in that counts what it executes")
        found = await rig.provider.check(rig.request())
        assert isinstance(found, Absent | Unknowable)
        assert rig.executed() == before, "`check` executed the turn"

    @promise
    async def test_a_turn_that_was_executed_is_never_called_absent(self, rig: Rig) -> None:
        await meet(rig, Fault.CUT)
        request = rig.request()
        with suppress(ProviderError):
            await rig.provider.send(request)
        await rig.meet(None)
        found = await rig.provider.check(request)
        assert not isinstance(found, Absent), "the vendor has executed it"

    @promise
    async def test_work_in_the_background_is_looked_up_until_it_is_done(self, rig: Rig) -> None:
        await meet(rig, Fault.BACKGROUND)
        request = rig.request()
        found: Any = await rig.provider.send(request)
        assert isinstance(found, Running) and found.native_ref, "nobody could look it up"
        for _ in range(_LOOKS):
            found = await rig.provider.check(replace(request, native_ref=found.native_ref))
            if not isinstance(found, Running):
                break
            await asyncio.sleep(min(found.poll_after.total_seconds(), 0.05))
        assert isinstance(found, Done)

    # What is left behind.

    @promise
    async def test_what_is_gone_already_can_be_closed(self, rig: Rig) -> None:
        reply = await answered(rig)
        refs = [ref for ref in (reply.thread_ref, *reply.kept) if ref]
        for ref in (*refs, *refs, ""):
            await quietly(f"close({ref!r})", rig.provider.close(ref))

    @promise
    async def test_all_that_the_vendor_keeps_is_named_and_gone_when_closed(self, rig: Rig) -> None:
        had(rig.kept(), "a vendor that stores something")
        reply = await answered(rig)
        named = {ref for ref in (reply.thread_ref, *reply.kept) if ref}
        assert named >= set(rig.kept() or ()), "something is kept that no answer names"
        other = rig.another() if rig.another is not None else rig.provider
        for ref in named:
            await other.close(ref)  # it may be another process that does it
        await other.aclose()
        assert not rig.kept()

    @promise
    async def test_work_that_has_ended_or_is_gone_can_be_cancelled(self, rig: Rig) -> None:
        provider = rig.provider
        if not isinstance(provider, Cancels):
            pytest.skip("it has no `cancel`")
        await meet(rig, Fault.BACKGROUND)
        begun = await provider.send(rig.request())
        assert isinstance(begun, Running)
        for _ in range(2):
            await quietly("cancel", provider.cancel(begun.native_ref))

    @promise
    async def test_the_provider_can_be_closed_twice(self, rig: Rig) -> None:
        await answered(rig)
        for _ in range(2):
            await quietly("aclose", rig.provider.aclose())

"""What becomes of whatever other people's code raises and returns."""

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.hostile import LATER, NO_ANSWER, OF_A_QUESTION, PARIS, RAISED, SECRET, told
from turnmill.domain.content import Text
from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    NotSent,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill_worker.providers import boundary, foreign
from turnmill_worker.providers.boundary import OF_CHECK, OF_SEND, Answer, Bug
from turnmill_worker.providers.fields import MAX_DETAIL, MAX_TOKENS
from turnmill_worker.providers.port import Done, Provider, Running, Unknowable, Usage

pytestmark = pytest.mark.anyio

Make = Callable[[], Any]


async def of_send(make: Make, *, max_bytes: int = 100) -> Answer | ProviderError:
    async def send() -> Any:
        return make()

    return await boundary.judged(send, among=OF_SEND, max_bytes=max_bytes)


async def of_raising(make: Callable[[], BaseException]) -> ProviderError:
    async def send() -> Any:
        raise make()

    found = await boundary.judged(send, among=OF_SEND, max_bytes=100)
    assert isinstance(found, ProviderError)
    return found


def every_word(error: ProviderError) -> str:
    return f"{error!s} {error!r} {error.error_code} {error.request_id} {error.__context__!r}"


async def test_a_sound_answer_is_returned_as_it_is_in_every_field() -> None:
    usage = Usage(
        input_tokens=9,
        output_tokens=4,
        cached_tokens=3,
        cache_write_tokens=2,
        cache_write_1h_tokens=1,
        reasoning_tokens=2,
        audio_tokens=5,
        audio_output_tokens=1,
        searches=1,
        file_searches=2,
        containers=3,
        service_tier="flex",
        said=({"usage": {"input_tokens": 9}},),
    )
    answer = Done(
        text="Paris",
        usage=usage,
        finish_reason="length",
        thread_ref="resp_1",
        request_id="req_1",
        model="gpt-5-mini",
        kept=("resp_0", "resp_1"),
    )
    default = Done(text="")
    for one in fields(Done):
        assert getattr(answer, one.name) != getattr(default, one.name), f"add {one.name} here"
    for one in fields(Usage):
        assert getattr(usage, one.name) != getattr(Usage(), one.name), f"add {one.name} here"
    assert await of_send(lambda: answer) == answer


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_whatever_is_raised_is_one_error_of_ours_without_a_word_of_it(
    make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    error = await of_raising(make)
    assert isinstance(error, NotSent | MaybeSent | Rejected)
    assert foreign.CODE.fullmatch(error.error_code)
    assert type(error.detail) is str and len(error.detail) <= MAX_DETAIL
    assert type(error.request_id) is str and len(error.request_id) <= boundary.MAX_ID
    assert error.retry_after is None
    assert SECRET not in every_word(error) + caplog.text


@pytest.mark.parametrize("name", ["CancelledError", "SystemExit", "StopAsyncIteration", "OfItsOwn"])
async def test_what_broke_is_named_by_its_class(name: str) -> None:
    error = await of_raising(RAISED[name])
    assert (type(error), error.error_code) == (Bug, f"bug:{name}")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (RAISED["BrokenError"], RateLimited),
        (RAISED["Untold"], MaybeSent),
        (RAISED["group of one"], NotSent),
        (RAISED["rejected, oddly"], Rejected),
        (lambda: ThreadLost("gone"), ThreadLost),
        (KeyMissing, KeyMissing),
    ],
)
async def test_an_error_of_ours_keeps_its_class_whatever_its_attributes_are(
    raised: Callable[[], BaseException], kind: type[ProviderError]
) -> None:
    assert type(await of_raising(raised)) is kind


async def test_a_wait_that_a_provider_asks_for_is_kept_up_to_a_day() -> None:
    waits = [timedelta(0), timedelta(seconds=7), timedelta(days=400), timedelta.max]
    errors = [await of_raising(lambda w=wait: told(NotSent, retry_after=w)) for wait in waits]  # type: ignore[misc]
    day = boundary.LONGEST_WAIT
    assert [error.retry_after for error in errors] == [timedelta(0), waits[1], day, day]


@pytest.mark.parametrize("make", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_is_no_answer_is_refused_for_good_and_not_quoted(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    error = await of_send(make)
    assert isinstance(error, Rejected)
    assert error.error_code == "bad_answer"
    assert SECRET not in every_word(error) + error.detail + caplog.text


@pytest.mark.parametrize("make", OF_A_QUESTION.values(), ids=OF_A_QUESTION)
async def test_send_may_not_answer_as_check_does(make: Make) -> None:
    error = await of_send(make)
    assert isinstance(error, Rejected) and error.error_code == "bad_answer"
    assert await boundary.judged(make, among=OF_CHECK, max_bytes=100) == make()


@pytest.mark.parametrize("make", PARIS.values(), ids=PARIS)
async def test_an_answer_that_arrived_is_kept_whatever_else_is_wrong_with_it(make: Make) -> None:
    # What is no coroutine function has answered, too.
    answer = await boundary.judged(make, among=OF_SEND, max_bytes=100)
    assert type(answer) is Done
    assert answer.text == "Paris"
    assert all(type(getattr(answer, one)) is str for one in ("model", "thread_ref", "request_id"))
    assert type(answer.usage.service_tier) is str
    counted = [one.name for one in fields(Usage) if "int" in str(one.type)]
    counts = [getattr(answer.usage, one) for one in counted]
    assert all(count is None or 0 <= count <= MAX_TOKENS for count in counts)


async def test_counts_that_make_no_sense_are_unknown_and_the_others_are_kept() -> None:
    answer = await of_send(PARIS["usage absurd"])
    assert isinstance(answer, Done)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (None, 5)


@pytest.mark.parametrize("make", LATER.values(), ids=LATER)
async def test_a_moment_to_ask_again_is_never_far_or_past(make: Make) -> None:
    answer = await of_send(make)
    assert isinstance(answer, Running)
    assert timedelta(0) <= answer.poll_after <= boundary.LONGEST_POLL


async def test_a_reply_beyond_the_bound_in_bytes_is_refused_for_good() -> None:
    assert isinstance(await of_send(lambda: Done(text="é" * 50)), Done)
    for text in ("é" * 51, "x" * 101):
        error = await of_send(lambda text=text: Done(text=text))  # type: ignore[misc]
        assert isinstance(error, Rejected) and error.error_code == "reply_too_large"


async def test_only_a_plain_yes_makes_sending_again_safe() -> None:
    async def check() -> Any:
        return Unknowable(resend_is_safe="yes")  # type: ignore[arg-type]

    found = await boundary.judged(check, among=OF_CHECK, max_bytes=100)
    assert found == Unknowable(resend_is_safe=False)


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
def test_a_factory_that_breaks_has_sent_nothing(make: Callable[[], BaseException]) -> None:
    def find(name: str) -> Provider:
        raise make()

    error = boundary.provided(find, "theirs")
    assert isinstance(error, ProviderError)
    assert not isinstance(error, Bug)
    assert SECRET not in every_word(error)


@pytest.mark.parametrize(
    "cost",
    [1.5, 3, "0.1", Decimal("NaN"), Decimal("Infinity"), Decimal(-1), Decimal(10) ** 30, object()],
)
def test_a_price_that_is_no_amount_of_money_is_unknown(cost: Any) -> None:
    assert boundary.cost_of(lambda: cost) is None


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
def test_a_price_function_that_breaks_knows_no_price(
    make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def price() -> Decimal:
        raise make()

    caplog.set_level(logging.DEBUG)
    assert boundary.cost_of(price) is None
    assert SECRET not in caplog.text


def test_every_field_of_a_reply_is_looked_at_before_it_is_taken_as_it_is() -> None:
    """Each field is given something odd in turn: a new one must be judged on both ways."""
    whole = Done(text="hi", usage=Usage(input_tokens=1, output_tokens=1, service_tier="flex"))
    assert boundary._is_sound(whole, max_bytes=100)
    nothing: Any = object()
    for one in fields(Done):
        odd = replace(whole, **{one.name: nothing})
        assert not boundary._is_sound(odd, max_bytes=100), one.name
    for one in fields(Usage):
        odd = replace(whole, usage=replace(whole.usage, **{one.name: nothing}))
        assert not boundary._is_sound(odd, max_bytes=100), one.name


async def test_a_sound_reply_is_not_copied() -> None:
    whole = Done(text="hi", usage=Usage(input_tokens=1), thread_ref="resp_1", kept=("resp_1",))
    assert await of_send(lambda: whole) is whole


async def test_a_reply_of_which_only_the_words_were_set_is_kept() -> None:
    """Put together by hand, of our own class: its words are paid for, all else is unknown."""

    def by_hand() -> Done:
        answer = object.__new__(Done)
        object.__setattr__(answer, "parts", (Text("Paris"),))
        return answer

    found = await of_send(by_hand)
    assert isinstance(found, Done)
    assert (found.text, found.usage.input_tokens, found.finish_reason) == ("Paris", None, "unknown")

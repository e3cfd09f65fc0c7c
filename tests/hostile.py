"""What other people's code may raise and return; `SECRET` is in the words of nearly all of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from turnmill.domain.content import Image, Native, Text
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, RateLimited, Rejected
from turnmill_worker.providers.port import Absent, Done, Running, Unknowable, Usage

SECRET = "what-the-user-said"


class Unspeakable:
    """Nothing can be done with it that is done with every object."""

    def _refuse(self, *_: object) -> NoReturn:
        raise RuntimeError(SECRET)

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = _refuse
    __hash__ = _refuse

    def __eq__(self, other: object) -> bool:
        self._refuse()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        self._refuse()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


class OfItsOwn(BaseException):
    """Derived from the root of all errors, as no application should."""


class Closed(Done):
    """A reply of which nothing but the text can be read."""

    def __getattribute__(self, name: str) -> Any:
        if name == "text":
            return "Paris"
        raise KeyboardInterrupt(SECRET)


class Unreadable(Done):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(SECRET)


class BrokenError(RateLimited):
    """An error that was never finished."""

    def __init__(self) -> None:
        Exception.__init__(self, SECRET)

    def __getattribute__(self, name: str) -> Any:
        if name in {"error_code", "detail", "retry_after", "request_id"}:
            raise SystemExit(SECRET)
        return super().__getattribute__(name)


class Untold(ProviderError):
    """An error that does not say whether anything was executed."""

    def __init__(self) -> None:
        super().__init__(SECRET + " and more of it")


class Word(str):
    """A str that is none when it is asked."""

    __slots__ = ()

    def __len__(self) -> int:
        raise RuntimeError(SECRET)

    __str__ = __repr__ = encode = __len__  # type: ignore[assignment]


@dataclass
class Waited:
    """Can be awaited, and is no coroutine."""

    answer: Any

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.answer


class YieldsNonsense:
    """Can be awaited, and the event loop quotes what it yields."""

    def __await__(self) -> Generator[Any, Any, Any]:
        yield SECRET
        return Done(text="never")


def a_generator() -> Iterator[Done]:
    yield Done(text=SECRET)


async def some_pieces() -> AsyncIterator[str]:
    yield SECRET


def odd(**attributes: Any) -> Done:
    """Return a reply whose text is good, and something else is not."""
    return Done(**{"text": "Paris", **attributes})


def told(kind: type[ProviderError], **attributes: Any) -> ProviderError:
    """Return an error whose attributes were set to something else."""
    error = kind("http_500")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


#: Each makes something to raise.
RAISED: Mapping[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError(SECRET),
    "ValueError": lambda: ValueError(SECRET),
    "KeyError": lambda: KeyError(SECRET),
    "TimeoutError": lambda: TimeoutError(SECRET),
    "StopIteration": lambda: StopIteration(SECRET),
    "StopAsyncIteration": lambda: StopAsyncIteration(SECRET),
    "RecursionError": lambda: RecursionError(SECRET),
    "MemoryError": lambda: MemoryError(SECRET),
    "CancelledError": lambda: asyncio.CancelledError(SECRET),
    "GeneratorExit": lambda: GeneratorExit(SECRET),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(SECRET),
    "SystemExit": lambda: SystemExit(SECRET),
    "OfItsOwn": lambda: OfItsOwn(SECRET),
    "BaseExceptionGroup": lambda: BaseExceptionGroup(
        SECRET, [SystemExit(SECRET), GeneratorExit(SECRET)]
    ),
    "group of one": lambda: ExceptionGroup(SECRET, [told(NotSent)]),
    "UnspeakableError": UnspeakableError,
    "BrokenError": BrokenError,
    "Untold": Untold,
    "code not a str": lambda: told(NotSent, error_code=17),
    "code with content": lambda: told(NotSent, error_code=f"{SECRET} \n and more"),
    "code too long": lambda: told(NotSent, error_code="x" * 10**6),
    "detail None": lambda: told(MaybeSent, detail=None),
    "detail huge": lambda: told(MaybeSent, detail="\0é\ud83d" * 10**6),
    "wait negative": lambda: told(NotSent, retry_after=timedelta(days=-1)),
    "wait no timedelta": lambda: told(NotSent, retry_after=float("nan")),
    "request id": lambda: told(NotSent, request_id=Unspeakable()),
    "rejected, oddly": lambda: told(Rejected, error_code="\0", detail=Unspeakable()),
}

#: Each makes an answer that is none.
NO_ANSWER: Mapping[str, Callable[[], Any]] = {
    "None": lambda: None,
    "str": lambda: SECRET,
    "dict": lambda: {"text": SECRET},
    "class": lambda: Done,
    "Unspeakable": Unspeakable,
    "YieldsNonsense": YieldsNonsense,
    "generator": a_generator,
    "async generator": some_pieces,
    "parts None of text": lambda: Done(parts=[Text(None)]),  # type: ignore[arg-type]
    "parts str": lambda: Done(parts=SECRET),  # type: ignore[arg-type]
    "parts of str": lambda: Done(parts=[SECRET]),  # type: ignore[list-item]
    "parts dict": lambda: Done(parts=[{"type": "text", "text": SECRET}]),  # type: ignore[list-item]
    "parts Unspeakable": lambda: Done(parts=[Text("Paris"), Unspeakable()]),  # type: ignore[list-item]
    "parts generator": lambda: Done(parts=(Text(SECRET) for _ in range(2))),  # type: ignore[arg-type]
    "parts without end": lambda: Done(parts=[Text("")] * 1001),
    "an image without strings": lambda: Done(parts=[Image(url=Unspeakable())]),  # type: ignore[arg-type]
    "an item that is no JSON": lambda: Done(parts=[Native(provider="theirs", item=SECRET)]),
    "a kind that it does not take": lambda: Done(parts=[Text("Paris"), Image(url=SECRET)]),
    "text None": lambda: odd(text=None),
    "text bytes": lambda: odd(text=SECRET.encode()),
    "text Unspeakable": lambda: odd(text=Unspeakable()),
    "Unreadable": lambda: Unreadable(text=SECRET),
    "work without a name": lambda: Running(native_ref=None),  # type: ignore[arg-type]
    "work of a huge name": lambda: Running(native_ref="x" * 10**6),
    "work of an odd name": lambda: Running(native_ref="job\0\ud83d"),
}

#: Each makes an answer whose text is "Paris", whatever else is wrong with it.
PARIS: Mapping[str, Callable[[], Any]] = {
    "Waited": lambda: Waited(odd()),
    "Closed": lambda: Closed(text="Paris"),
    "Word": lambda: odd(text=Word("Paris")),
    "usage None": lambda: odd(usage=None),
    "usage dict": lambda: odd(usage={"input_tokens": 3}),
    "usage negative": lambda: odd(usage=Usage(input_tokens=-1, output_tokens=-(10**30))),
    "usage absurd": lambda: odd(usage=Usage(input_tokens=10**30, output_tokens=5)),
    "usage bool": lambda: odd(usage=Usage(input_tokens=True, output_tokens=5)),
    "usage float": lambda: odd(usage=Usage(input_tokens=1.5)),  # type: ignore[arg-type]
    "usage NaN": lambda: odd(usage=Usage(input_tokens=float("nan"))),  # type: ignore[arg-type]
    "usage str": lambda: odd(usage=Usage(output_tokens="10")),  # type: ignore[arg-type]
    "finish_reason": lambda: odd(finish_reason={"why": SECRET}),
    "finish_reason long": lambda: odd(finish_reason="x" * 10**6),
    "model": lambda: odd(model=Unspeakable()),
    "model NUL": lambda: odd(model="gpt\0"),
    "request_id": lambda: odd(request_id="\ud83d" * 10**6),
    "thread_ref": lambda: odd(thread_ref=17),
    "thread_ref NUL": lambda: odd(thread_ref="resp\0"),
    "thread_ref long": lambda: odd(thread_ref="x" * 10**6),
}

#: Each makes an answer that says when to ask again, and says it badly.
LATER: Mapping[str, Callable[[], Any]] = {
    "in a year": lambda: Running(native_ref="job", poll_after=timedelta(days=365)),
    "at the end of time": lambda: Running(native_ref="job", poll_after=timedelta.max),
    "yesterday": lambda: Running(native_ref="job", poll_after=timedelta(days=-1)),
    "at NaN": lambda: Running(native_ref="job", poll_after=float("nan")),  # type: ignore[arg-type]
    "at no time": lambda: Running(native_ref="job", poll_after=None),  # type: ignore[arg-type]
}

#: Answers to a question, which `send` may not give.
OF_A_QUESTION: Mapping[str, Callable[[], Any]] = {"Absent": Absent, "Unknowable": Unknowable}

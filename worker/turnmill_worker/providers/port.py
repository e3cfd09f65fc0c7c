"""What a provider is: its verbs, and the words that go in and out."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from turnmill.domain.content import (
    Attached,
    Kind,
    Message,
    Part,
    Text,
    text_of,
    text_of_all,
    with_text,
)
from turnmill.domain.errors import ProviderError
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.files import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """A tool that the model may call."""

    name: str  #: letters, digits, - and _, at most 64: what both vendors take
    description: str = field(default="", repr=False)
    #: JSON schema of its arguments: an object
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSmaller:
    """A picture that was made smaller, and is sent in the place of the one it was made of."""

    media_type: str
    width: int
    height: int
    said: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that one call needs; nothing has to be looked up."""

    turn_id: TurnId
    session_id: SessionId
    attempt: int  #: 1 for the first
    fence: int  #: rises with every claim of the session
    model: str
    #: what is said in this turn: by the user, and in a later step by the model, which called
    #: tools, and by these
    messages: Sequence[Message]
    #: of succeeded turns, oldest first; empty where `thread_ref` stands for it
    history: Sequence[Message] = ()
    system_prompt: str | None = field(default=None, repr=False)
    thread_ref: str = ""  #: the provider's own name of the thread, as the last reply left it
    native_ref: str = ""  #: the provider's own name of this turn's work in the background
    #: of the session: temperature, max_output_tokens, thread, timeout, …
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: of the turn; never sent to a vendor
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    user_id: str = field(default="", repr=False)  #: whose session it is; never sent to a vendor
    step: int = 1  #: which model call of the turn it is
    continues: int = 0  #: so many of `messages`, from the first, `thread_ref` stands for
    tools: Sequence[ToolOffer] = ()  #: that may be called
    #: JSON schema that the text of the reply has to fit; None: it is free
    output_schema: Mapping[str, Any] | None = field(default=None, repr=False)
    #: the first of a session that a batch has begun: nothing is known to follow it
    is_single: bool = False
    files: Files | None = field(default=None, repr=False, compare=False)  #: that parts refer to
    #: the vendor's own names of attachments that it keeps, by ours: sent in the place of the bytes
    uploaded: Mapping[str, str] = field(default_factory=dict, repr=False)
    made: Mapping[str, MadeSmaller] = field(default_factory=dict, repr=False)  #: by our names, too
    #: is told what the vendor has counted so far of a reply that streams: it may be cut
    counted: Callable[["Usage"], None] | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """Return the words of this turn; all that a provider needs who takes nothing else."""
        return text_of_all(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider counted them; `input` contains those read from and put in a cache.

    None is what it did not say, or said in a way that makes no sense: unknown, which is not 0.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = 0  #: of the input, read from the vendor's cache: cheaper
    cache_write_tokens: int | None = 0  #: of the input, put in the vendor's cache: dearer
    cache_write_1h_tokens: int | None = 0  #: of those, the ones that are kept for an hour: dearer
    reasoning_tokens: int | None = 0  #: of the output, what the model has thought
    audio_tokens: int | None = 0  #: of the input, sound that the model has heard itself: dearer
    audio_output_tokens: int | None = 0  #: of the output, sound that it has spoken itself: dearer
    searches: int | None = 0  #: of the web, by the vendor itself; each has its price
    file_searches: int | None = 0  #: the same of files that it keeps
    containers: int | None = 0  #: of its own, in which it has run code; each has its price
    service_tier: str = ""  #: in which the vendor says it served the call; decides the price
    #: the parts of the vendor's answers that say so, as they came: kept to price the call anew
    said: Sequence[Mapping[str, Any]] = field(default=(), compare=False, repr=False)


_UNCOUNTED = Usage()


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Done:
    """The provider has answered: `Done(text="…")`, or `Done(parts=[…])` where it says more."""

    parts: Sequence[Part]  #: of what it says
    usage: Usage = _UNCOUNTED
    finish_reason: str = "stop"  #: mostly one of `FinishReason`
    thread_ref: str = ""  #: continues the thread from here; empty when we hold the history
    request_id: str = ""  #: to quote to the vendor's support
    model: str = ""  #: the model that answered, for the price
    #: what the vendor stores from now on, `thread_ref` aside: each is closed when the session ends
    kept: Sequence[str] = ()

    def __init__(
        self,
        *,
        text: str | None = None,
        parts: Sequence[Part] | None = None,
        usage: Usage = _UNCOUNTED,
        finish_reason: str = "stop",
        thread_ref: str = "",
        request_id: str = "",
        model: str = "",
        kept: Sequence[str] = (),
    ) -> None:
        """With both, `text` takes the place of the text among the parts."""
        if parts is None:
            parts = (Text(text),)  # type: ignore[arg-type]  # judged where all answers are
        elif text is not None:
            parts = with_text(parts, text)
        put = object.__setattr__
        put(self, "parts", parts)
        put(self, "usage", usage)
        put(self, "finish_reason", finish_reason)
        put(self, "thread_ref", thread_ref)
        put(self, "request_id", request_id)
        put(self, "model", model)
        put(self, "kept", kept)

    @property
    def text(self) -> str:
        """Return its words; what is no text is in `parts` alone."""
        return text_of(self.parts)

    def with_text(self, text: str) -> "Done":
        """Return the same answer in other words; what is no text stays."""
        return replace(self, parts=with_text(self.parts, text))


def used_by(error: ProviderError) -> Done | None:
    """Return what a call has used that came to nothing; None where nobody has counted it."""
    return error.used if isinstance(error.used, Done) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The provider works in the background; ask again with `check`."""

    native_ref: str
    poll_after: timedelta = timedelta(seconds=2)  #: at the least; long work is asked for less often
    kept: Sequence[str] = ()  #: what the vendor stores already, often `native_ref` itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The work in the background has ended without an answer, as a call with this error would."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider never executed the request: sending it is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknowable:
    """The provider cannot tell whether it executed the request."""

    #: True where the thread forks: a second call costs, but never doubles a turn
    resend_is_safe: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NotNow:
    """A layer puts the call off: the turn is given back, and no attempt is spent.

    For what a layer has to wait for: a limit, a budget, an account. Never a provider's answer, and
    too late where the request may have been executed.
    """

    until: timedelta | datetime  #: from now, or an aware moment; from 0.1 s to a day ahead
    #: what the turn waits for, for people to read: a name such as `budget`, never content
    waits_for: str


#: Is given a piece of the reply.
Emit = Callable[[str], Awaitable[None]]


@runtime_checkable
class Provider(Protocol):
    """One vendor, or one kind of server.

    Stateless but for its HTTP client, and used from one event loop. Every method has a timeout of
    its own and raises `turnmill.domain.errors.ProviderError` only: NotSent, MaybeSent, ThreadLost
    or Rejected. Cancelling a call closes its connection; only where that stops no work, and the
    vendor is about to name it, may the call end with its answer all the same.
    """

    name: str

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        """Execute the turn. At most one request to the vendor is in flight; no retries in here.

        `emit` is given the reply piece by piece, as it comes; what it was given, joined, is the
        reply's text. Who gives it nothing does not stream. Without it, nobody reads along.
        """
        ...

    async def check(self, request: Request) -> Done | Running | Failed | Absent | Unknowable:
        """Find out what became of an earlier `send` of this turn. Never executes anything.

        Whatever is raised, Rejected too, says that the question was not answered: the key may have
        been changed. It is asked again, and what the vendor did meanwhile is not lost.
        `reply_too_large` ends it, since the answer will not shrink; so does what is no answer.
        """
        ...

    async def close(self, thread_ref: str) -> None:
        """Delete a thread, or something else that was `kept`. Gone already counts as success."""
        ...

    async def aclose(self) -> None:
        """Close connections; the process ends."""
        ...


@runtime_checkable
class Accepts(Protocol):
    """A provider that takes more than text. Any other is sent nothing else."""

    accepts: frozenset[Kind]  #: of `turnmill.domain.content`; a turn with any other part fails


@runtime_checkable
class KeepsThreads(Protocol):
    """A provider with threads that are begun before anything is said, and that cannot fork.

    Such a thread is written down before it is used, and belongs to one call at a time. What is
    begun, and never used, holds nothing.
    """

    def lends(self, request: Request) -> bool:
        """Tell whether the call is to be made in such a thread, begun already or not."""
        ...

    async def begin_thread(self, request: Request) -> str:
        """Begin an empty thread and return its name, which is then the request's `thread_ref`."""
        ...

    async def close(self, thread_ref: str) -> None:
        """Delete a thread; see `Provider.close`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A file that a vendor keeps."""

    ref: str  #: the vendor's own name of it
    expires_at: datetime | None = None  #: None: never, as far as we know


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureBounds:
    """Up to which size a vendor takes a picture, and from which on it makes it smaller itself."""

    bytes_max: int  #: of it as it is, before it is encoded
    side_max: int  #: pixels of the longer side
    side_seen: int  #: pixels of it that the model is shown


@runtime_checkable
class KeepsFiles(Protocol):
    """A provider whose vendor keeps files that requests name.

    An upload is written down before it is made, under a name of ours (`turnmill.domain.uploads`),
    by which `Provider.close` finds and deletes what nobody knows the vendor's own name of.
    """

    def uploads(self, request: Request) -> Sequence[Attached]:
        """Return what of the request is better named than sent along; asks nobody."""
        ...

    async def upload(self, request: Request, part: Attached, *, name: str) -> Uploaded:
        """Upload an attachment under this name."""
        ...

    async def close(self, thread_ref: str) -> None:
        """Delete a file, or what an upload has left there; see `Provider.close`."""
        ...


@runtime_checkable
class ListsFiles(Protocol):
    """A provider that finds at its vendor what was uploaded there under names of ours."""

    def files_of(self, mark: str) -> AsyncGenerator[Mapping[str, str]]:
        """Yield names of ours with this mark by the vendor's own names of the files, in pages."""
        ...

    async def close(self, thread_ref: str) -> None:
        """Delete a file; see `Provider.close`."""
        ...


@runtime_checkable
class BoundsPictures(Protocol):
    """A provider whose vendor takes pictures up to a size."""

    def picture_bounds(self, request: Request) -> PictureBounds:
        """Return the bounds of the model that is asked."""
        ...


@runtime_checkable
class Bounds(Protocol):
    """A provider that can tell what a call may take. Of others it is bounded by its bytes."""

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what `send` may come to at the most, as the vendor will count it; asks nobody.

        `thread` is what `thread_ref` stands for. Input that may be put in a cache counts as that,
        and the tier is the one that is asked for.
        """
        ...


@runtime_checkable
class Expects(Protocol):
    """A provider that knows what a call will take, and not only what it may."""

    def expected(self, request: Request) -> Usage:
        """Return it, before anybody is asked."""
        ...


@runtime_checkable
class Adopts(Protocol):
    """A provider that can go on with a thread which was not begun here."""

    async def read_thread(self, thread_ref: str) -> Sequence[Message]:
        """Return what was said in it so far, oldest first. Raises Rejected where there is none."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A provider whose vendor counts tokens when it is asked."""

    async def count(self, request: Request) -> int:
        """Return how many tokens the vendor says that `send` would have the model read."""
        ...


@runtime_checkable
class Cancels(Protocol):
    """A provider whose work in the background can be stopped. Others let it run to its end."""

    async def cancel(self, native_ref: str) -> Done | None:
        """Stop the work. That it has ended, or is gone, counts as success.

        Returns what it had used by then, in a reply whose words nobody reads; None: nobody says.
        """
        ...

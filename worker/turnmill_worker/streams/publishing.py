"""One attempt as it is published: what a turn says to those who watch it."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from turnmill.domain.content import ToolCall, ToolOutput
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.domain.streaming import Place, StreamKind
from turnmill.store.records import Claim
from turnmill.streams.entries import (
    MOST_BYTES,
    MOST_BYTES_AT_ONCE,
    MOST_ENTRIES,
    Entry,
    said_of_part,
)

_Said = tuple[StreamKind, str]


class Carrier(Protocol):
    """Brings entries to those who read. Never blocks, and never raises."""

    def begin(self, claim: Claim, *, first: bool | None = None) -> "Publishing | None":
        """Return what publishes this attempt; None where nobody asked for a stream.

        `first` tells whether it is the first try of its step; None: by the count of the claim.
        """
        ...

    def close(self) -> None:
        """Bring what is left, for a moment at the most, and end."""
        ...


class Publishing:
    """One attempt. Said on the loop's thread; drained by one other thread, or the same."""

    def __init__(
        self, claim: Claim, changed: Callable[["Publishing"], None], *, first: bool
    ) -> None:
        """`changed` is called whenever there is something to drain; it must not block."""
        self.turn_id: TurnId = claim.turn_id
        self.fence = claim.fence
        self.user_id = claim.user_id
        self.is_over = False  #: nothing more is said
        self.is_left_out = False  #: what is said goes nowhere: the store tells it
        self.is_noted = False  #: of whoever drains: he knows that there is something
        self.size = 0  #: characters that were said so far
        #: Whether the turn is still ours, by the clock: asked before anything is brought anywhere.
        self.holds: Callable[[], bool] = _always
        self._changed = changed
        self._said: deque[_Said] = deque()  # whose ends two threads may use at once
        self._n = 0
        kind = StreamKind.ATTEMPT_STARTED if first else StreamKind.ATTEMPT_RESTARTED
        self._attempt, self._step = claim.attempt, claim.step
        self._say(kind, "")

    async def emit(self, text: str) -> None:
        """Publish a piece of the reply's text: what a provider is given."""
        if text and isinstance(text, str):
            self._say(StreamKind.DELTA, text)

    def tool_call(self, call: ToolCall) -> None:
        """Publish that the model wants a tool to be run."""
        self._say(StreamKind.TOOL_CALL, said_of_part(call))

    def tool_output(self, output: ToolOutput) -> None:
        """Publish what a tool returned."""
        self._say(StreamKind.TOOL_OUTPUT, said_of_part(output))

    def ended(self, state: TurnState | None) -> None:
        """Publish nothing more but, of a state that is final, the end. Call it after the commit.

        None: the attempt came to nothing that counts, since another worker has the turn.
        """
        if state in FINAL:
            self._say(StreamKind.ENDED, state)
        if not self.is_over:
            self.is_over = True
            self._changed(self)

    def leave_out(self) -> None:
        """Say nothing more: there is too much of it, or a later attempt speaks."""
        self.is_left_out = True
        self._said.clear()

    def drain(self) -> list[Entry]:
        """Return what was said since the last time: pieces of text that came together are one."""
        if self._said and not self.holds():
            self.leave_out()  # a process that was frozen: the turn, or its session, may be gone
        entries: list[Entry] = []
        pieces: list[str] = []
        size = 0
        for kind, said in self._taken():
            if pieces and (kind is not StreamKind.DELTA or size + len(said) > MOST_BYTES_AT_ONCE):
                entries.append(self._entry(StreamKind.DELTA, "".join(pieces)))
                pieces, size = [], 0
            if kind is StreamKind.DELTA:
                pieces.append(said)
                size += len(said)
            else:
                entries.append(self._entry(kind, said))
        if pieces:
            entries.append(self._entry(StreamKind.DELTA, "".join(pieces)))
        if self._n > MOST_ENTRIES:
            self.leave_out()
            return []
        return entries

    def _taken(self) -> Iterator[_Said]:
        with suppress(IndexError):  # what is left out is taken away meanwhile
            for _ in range(len(self._said)):
                yield self._said.popleft()

    def _entry(self, kind: StreamKind, said: str) -> Entry:
        self._n += 1
        return Entry(Place(self.fence, self._n), kind, said, self._attempt, self._step)

    def _say(self, kind: StreamKind, said: str) -> None:
        if self.is_over or self.is_left_out:
            return
        self.size += len(said)
        if self.size > MOST_BYTES:
            self.leave_out()
            return
        self._said.append((kind, said))
        self._changed(self)


def _always() -> bool:
    return True


def is_first(claim: Claim) -> bool:
    """Tell whether no attempt of the turn was made before."""
    return claim.n <= 1

"""Whether a session lets its history be made shorter, and which turns are left out then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnmill.domain.content import Message, strings_of
from turnmill.domain.states import CompactionKind
from turnmill.store.compaction_records import SaidTurn
from turnmill_worker.providers.parameters import setting_refused

#: The setting of a session, and its word for what is done unless it says otherwise.
ON_CONTEXT_FULL = "on_context_full"
_ERROR = "error"

#: After a refusal a half of what was there is kept at the most, then a quarter, …, then nothing.
_SHARES = (2, 4, 8, 16)


def tries(whole: int) -> Iterator[int]:
    """Yield how many characters of history are kept at the most, try by try.

    The last one is for a summary that is too long itself.
    """
    yield from (whole // share for share in _SHARES)
    yield 0
    yield 0


def kind_of(settings: Mapping[str, Any]) -> CompactionKind | None:
    """Return how the history may be made shorter; None where the error is to be told.

    Raises Rejected for a word that is none.
    """
    chosen = settings.get(ON_CONTEXT_FULL)
    if chosen is None or chosen == _ERROR:
        return None
    if not isinstance(chosen, str) or chosen not in list(CompactionKind):
        raise setting_refused(ON_CONTEXT_FULL, "it must be error, truncate or summarise")
    return CompactionKind(chosen)


def cut(turns: Sequence[SaidTurn], *, most: int) -> int:
    """Return how many of the turns, from the oldest, are left out so that the rest is short enough.

    Never a part of a turn, and one turn at the least.
    """
    size, kept = 0, 0
    for turn in reversed(turns):
        size += size_of(turn.messages)
        if size > most:
            break
        kept += 1
    return max(len(turns) - kept, 1)


def size_of(messages: Sequence[Message]) -> int:
    """Return how many characters were said in all of them: as good as tokens, to halve by."""
    return sum(
        len(one) for message in messages for part in message.parts for one in strings_of(part)
    )


def said_in(turns: Sequence[SaidTurn]) -> list[Message]:
    """Return all messages of the turns."""
    return [message for turn in turns for message in turn.messages]

# Made from aio/ended.py by `make sync`: change that.
"""What is done when turns that stand in its way have ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from turnmill.domain.errors import TurnTimeout
from turnmill.executor.thread import Executor
from turnmill.listening.thread import happens
from turnmill.listening.watchlist import Deadline
from turnmill.store.records import SessionRecord
from turnmill.verbs.verb import Verb

if TYPE_CHECKING:
    from turnmill.verbs.lifecycle import Tried

#: A turn that stood in the way is looked at again after so long, whoever told nothing.
_LOOK_SECONDS = 0.5


def when_ended(
    executor: Executor, verb: "Callable[[], Verb[Tried]]", deadline: Deadline
) -> SessionRecord:
    """Do it as soon as no turn stands in the way."""
    while True:
        tried = executor.run(verb())
        if tried.record is not None:
            return tried.record
        if tried.waits_for is None or deadline.passed:
            told = f"turn {tried.waits_for} has not ended after {deadline.seconds} s"
            raise TurnTimeout(told)
        with executor.expecting(tried.waits_for, deadline) as woken:
            happens(woken, min(deadline.left, _LOOK_SECONDS))

"""A worker that dies at a named point, once: `celery -A tests.chaos.faulty_worker worker`.

The file that TURNMILL_TRAP names holds the point, and what happens there. It is taken away before
the worker falls, so that the worker which comes after it is a sound one.
"""

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turnmill.broker.publisher import Publisher
from turnmill.domain.errors import StoreUnavailable
from turnmill.store.line import threads, voice
from turnmill.store.records import Fenced, Locked, Moved
from turnmill_worker.app import app
from turnmill_worker.process import dispatcher
from turnmill_worker.process.closing import Closing
from turnmill_worker.process.feeder import Feeder
from turnmill_worker.process.poller import Poller
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.turn import attempt as turn
from turnmill_worker.turn.claims import Busy, Claims
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.reservations import Reservations
from turnmill_worker.turn.step_ledger import StepLedger
from turnmill_worker.turn.upload_ledger import Uploads
from turnmill_worker.turn.voice_ledger import VoiceLedger

__all__ = ["app"]

VARIABLE = "TURNMILL_TRAP"


def kill() -> None:
    """Die without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def freeze() -> None:
    """Stop until somebody says SIGCONT."""
    signal.raise_signal(signal.SIGSTOP)  # of this very thread: it does not run on for a moment


def lose_the_connection() -> None:
    """Fail as when the connection breaks."""
    raise StoreUnavailable


FALLS: dict[str, Callable[[], None]] = {
    "kill": kill,
    "freeze": freeze,
    "disconnect": lose_the_connection,
}


def lies_at() -> str:
    """Return the point where the trap lies; empty where there is none."""
    try:
        return Path(os.environ[VARIABLE]).read_text().partition(" ")[0]
    except FileNotFoundError:
        return ""


def step_on(point: str) -> None:
    """Fall into the trap if it lies here."""
    trap = Path(os.environ[VARIABLE])
    try:
        where, how = trap.read_text().split()
    except (FileNotFoundError, ValueError):
        return
    if where == point:
        trap.unlink()
        FALLS[how]()


#: What stands in a group for one that came to nothing.
_NOTHING = (Busy, Fenced, Locked, BaseException)


def found(result: Any) -> bool:
    """Tell whether a function has found something: a group of which nothing came is not empty."""
    if isinstance(result, Moved):
        return result.turns > 0
    if isinstance(result, list):
        return any(one and not isinstance(one, _NOTHING) for one in result)
    return bool(result)


def around(holder: Any, name: str, *, before: str = "", after: str = "") -> None:
    """Put points before and after a function; after it, only where it has found something."""
    original = getattr(holder, name)

    @functools.wraps(original)
    def trapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            step_on(before)
        result = original(*args, **kwargs)
        if after and found(result):
            step_on(after)
        return result

    setattr(holder, name, trapped)


around(Claims, "by_hints", before="claim.before", after="claim.after")
around(Claims, "in_lane", after="poll.after")
around(GroupedLedger, "_write", before="settle.before", after="settle.after")
around(Feeder, "_choose", after="announce.noted")
around(dispatcher, "take_lost", after="lost.uncommitted")
around(Publisher, "announce", before="publish.before", after="publish.after")
around(turn, "request_of", after="call.before")
around(MockProvider, "start", before="call.begun")
around(Reservations, "reserve_group", before="reserve.before", after="reserve.after")
around(Closing, "_note", before="close.unnoted")
around(threads, "lend", before="lend.before", after="lend.after")
around(StepLedger, "_advance_group", before="step.before", after="step.after")
around(StepLedger, "_begin_group", before="begin.before", after="begin.after")
around(StepLedger, "_end_group", before="output.before", after="output.after")

around(voice, "end_aloud", before="spoken.before")

_advance, _end_aloud = StepLedger._advance, VoiceLedger.end


def advance(self: StepLedger, steps: Any) -> Any:
    """Write steps; of a turn that is spoken, between points of its own."""
    voiced = [one.voiced for one in steps if one.voiced is not None]
    for one in voiced:
        step_on("heard.before" if one.said else "answered.before")
    written = _advance(self, steps)
    for one in voiced:
        step_on("heard.after" if one.said else "answered.after")
    return written


async def end_aloud(self: VoiceLedger, settlement: Any) -> Any:
    """End a turn that is spoken; a point stands behind the commit."""
    ended = await _end_aloud(self, settlement)
    step_on("spoken.after")
    return ended


StepLedger._advance = advance  # type: ignore[method-assign]
VoiceLedger.end = end_aloud  # type: ignore[method-assign]

_look, _feed = Poller.look, Feeder.feed


async def look(self: Poller) -> None:
    """Look away while the trap is laid for the feeder or a hint: those often come too late."""
    if lies_at() not in {"announce.noted", "publish.after", "claim.before", "claim.after"}:
        await _look(self)


def feed(self: Feeder, news: Any) -> None:
    """Tell nobody while the trap is laid for the poller, which would often come too late."""
    if lies_at() != "poll.after":
        _feed(self, news)


Poller.look, Feeder.feed = look, feed  # type: ignore[method-assign]

_mark_sent = GroupedLedger.mark_sent


async def mark_sent(self: GroupedLedger, claim: Any) -> bool:
    """Mark, between two points."""
    step_on("mark.before")
    marked = await _mark_sent(self, claim)
    step_on("mark.after")
    return marked


GroupedLedger.mark_sent = mark_sent  # type: ignore[method-assign]

_mark_target = GroupedLedger.mark_target


async def mark_target(self: GroupedLedger, claim: Any) -> bool:
    """Note who is asked instead, between two points."""
    step_on("target.before")
    marked = await _mark_target(self, claim)
    step_on("target.after")
    return marked


GroupedLedger.mark_target = mark_target  # type: ignore[method-assign]

_begin_upload, _keep_upload = Uploads.begin_upload, Uploads.keep_upload


async def begin_upload(self: Uploads, *given: Any) -> bool:
    """Note that an upload begins, between two points."""
    step_on("upload.before")
    begun = await _begin_upload(self, *given)
    step_on("upload.noted")
    return begun


async def keep_upload(self: Uploads, *given: Any) -> bool:
    """Note what an upload came to, between two points."""
    step_on("upload.sent")
    kept = await _keep_upload(self, *given)
    step_on("upload.kept")
    return kept


Uploads.begin_upload = begin_upload  # type: ignore[method-assign, assignment]
Uploads.keep_upload = keep_upload  # type: ignore[method-assign, assignment]

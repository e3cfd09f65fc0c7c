"""Thread lost: a turn whose thread a vendor has lost, or does not give, runs on what we hold.

Where a vendor keeps a chain, it is built anew by that; a thread of any other kind is begun anew by
the next turn. The reply says why. A layer that wants to see all of what was said, of a question as
well, says that the thread is kept elsewhere.
"""

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

from turnmill.domain.errors import ThreadLocked, ThreadLost
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.history import ReadHistory, with_history
from turnmill_worker.layers.holding import OwnHistory
from turnmill_worker.layers.lending import LAST_TRY, UNAVAILABLE
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.parameters import KEPT_ELSEWHERE

logger = logging.getLogger("turnmill.threads")

#: By the code of the loss. That a session was moved by its owner is none.
_WHY: Mapping[str, OwnHistory | None] = MappingProxyType(
    {UNAVAILABLE: OwnHistory.UNAVAILABLE, KEPT_ELSEWHERE: None}
)
#: How long a locked thread is left alone, at the least, after each try: five seconds in all.
_PAUSES = (timedelta(seconds=1), timedelta(seconds=4))
#: Who is asked to wait for longer than this does without the thread.
_LONGEST_LOCK = timedelta(seconds=30)


def thread_lost(read: ReadHistory) -> Layer:
    """Return the layer.

    It stands outside of other people's layers: the history, which none of them has seen yet, goes
    past them as any other request does.
    """

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        return asked(call, go) if call.kind == "send" else _looked_up(call, go, read)

    async def asked(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except ThreadLost as error:
            why = _WHY.get(error.error_code, OwnHistory.LOST)
        except ThreadLocked as error:
            if not call.request.thread_ref:
                raise
            if not _is_for_long(call, error):
                error.retry_after = max(error.retry_after or timedelta(0), _pause(call))
                raise
            why = OwnHistory.LOCKED
        call.holding.sent = False  # the vendor has executed nothing
        call.holding.own_history = why
        if why is not None:
            _tell(call, why)
        return await go(await _without_thread(call, read))

    return layer


async def _looked_up(call: Call, go: Go, read: ReadHistory) -> Answer:
    try:
        return await go(call)
    except ThreadLost as error:
        if error.error_code != KEPT_ELSEWHERE:
            raise
    return await go(await _without_thread(call, read))


async def _without_thread(call: Call, read: ReadHistory) -> Call:
    """Return the call with all that we hold in the place of its vendor's thread."""
    whole = await with_history(call, read)
    return replace(whole, request=replace(whole.request, thread_ref="", continues=0))


def _tell(call: Call, why: OwnHistory) -> None:
    logger.info(
        "turn %s is asked with our own history: its thread is %s",
        call.claim.turn_id,
        why,
        extra={
            "action": "own_history",
            "turn_id": str(call.claim.turn_id),
            "session_id": str(call.claim.session_id),
            "why": why.value,
        },
    )


def _is_for_long(call: Call, error: ThreadLocked) -> bool:
    """Tell whether it was locked at each of the tries that it is worth, or will be."""
    if error.retry_after is not None and error.retry_after > _LONGEST_LOCK:
        return True
    return call.claim.attempt >= min(LAST_TRY, call.claim.max_attempts)


def _pause(call: Call) -> timedelta:
    return _PAUSES[min(call.claim.attempt, len(_PAUSES)) - 1]

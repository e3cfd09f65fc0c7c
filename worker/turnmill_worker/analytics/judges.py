"""Functions of the operator's that make vectors of replies, by which a trial compares them.

Only what an installed package registers in the group `turnmill.judges` is ever imported: a row
holds no more than its name.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from turnmill import wire
from turnmill.domain.analytics.judging import cosine
from turnmill.store.analytics.verdicts import Pair
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.threads import Threads

logger = logging.getLogger("turnmill.trials")

#: Takes texts and returns a vector for each; it may be a coroutine function.
Embed = Callable[[Sequence[str]], Any]

#: A call may take so long.
TIMEOUT = timedelta(seconds=60)
UNKNOWN, FAILED, TIMED_OUT, ODD = "judge_unknown", "judge_failed", "judge_timeout", "judge_odd"


class Broken(Exception):
    """The function has raised, or returned something else than vectors."""


class Hung(Exception):
    """The function has not returned in time: its thread is not to be given more."""


def registered(name: str) -> Embed | None:
    """Return the function of this name; None where no package registers one that can be loaded."""
    points = {one.value: one for one in entry_points(group=wire.JUDGES, name=name)}
    if len(points) != 1:
        return None
    try:
        found = next(iter(points.values())).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to a package of somebody's, which may even want to exit while it is imported.
        logger.error(
            "judge cannot be loaded: %s", name_of(error), extra={"action": "judge_not_loaded"}
        )
        return None
    return found if callable(found) else None


async def nearness(
    embed: Embed | None, pairs: Sequence[Pair], *, timeout: timedelta = TIMEOUT
) -> Mapping[int, float | str]:
    """Return how near the replies of each pair are, by line, or the code for which it is not known.

    One call for all of them. Raises Hung where it does not return in time.
    """
    if embed is None:
        return dict.fromkeys((one.line for one in pairs), UNKNOWN)
    texts = [text for one in pairs for text in (one.before, one.after)]
    try:
        vectors = await asyncio.wait_for(_called(embed, texts), timeout.total_seconds())
    except TimeoutError:
        raise Hung from None
    except Broken as broken:
        logger.error("judge failed: %s", broken, extra={"action": "judge_failed", "code": FAILED})
        return dict.fromkeys((one.line for one in pairs), FAILED)
    return {one.line: _near(vectors, 2 * n) for n, one in enumerate(pairs)}


async def _called(embed: Embed, texts: Sequence[str]) -> Sequence[Sequence[float]]:
    """Return a vector for each text. Raises Broken."""
    try:
        if inspect.iscoroutinefunction(embed):
            found = await embed(texts)
        else:
            ran = await Threads(1, name="judge").call(partial(embed, texts))
            if ran.raised is not None:
                raise Broken(name_of(ran.raised))
            found = ran.result
        vectors = [*found]
    except Broken:
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_ended():
            raise
        # The edge to a function of somebody's: what it says may quote what it was given, and its
        # wish to exit is its own.
        raise Broken(name_of(error)) from None
    if len(vectors) != len(texts):
        raise Broken("a vector for each text is wanted")
    return vectors


def _is_ended() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _near(vectors: Sequence[Sequence[float]], first: int) -> float | str:
    try:
        return cosine([*vectors[first]], [*vectors[first + 1]])
    except Exception:  # noqa: BLE001
        # What it has returned is anything at all.
        return ODD

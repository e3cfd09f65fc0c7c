"""How a batch is run: what is chosen for it, and why."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from turnmill.domain.batches import BatchMode
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import text_of


class ChosenMode(NamedTuple):
    """How a batch is run, and why; None: its owner has said so."""

    mode: BatchMode
    because: str | None


#: The word of whoever leaves it to us.
AUTO = "auto"
MODES = (AUTO, *sorted(BatchMode))
#: What becomes of lines that a vendor's batch has left: they run by themselves, or in the next.
LEFTOVERS = ("live", "next")
#: Providers whose vendors take many calls at once.
BATCHED = frozenset({"anthropic", "openai"})
#: Providers whose vendors have a tier for less.
FLEXIBLE = frozenset({"openai"})
#: What each line is asked with in it: answers may take long there.
FLEX_SETTINGS: Mapping[str, Any] = MappingProxyType({"service_tier": "flex", "timeout": 900})
#: For fewer lines a day of waiting saves too little.
LEAST_NATIVE = 50
#: A vendor may take a day; what it leaves is run afterwards.
LONGEST_NATIVE = timedelta(hours=26)


def chosen_mode(
    asked: str,
    *,
    providers: Collection[str],
    lines: int,
    deadline_in: timedelta | None = None,
    is_shared: bool = True,
) -> ChosenMode:
    """Return how a batch is run whose lines are for these providers.

    `is_shared`: processes share the store. Raises InvalidInput for a mode that nobody offers.
    """
    obstacle = _in_the_way(providers, is_shared=is_shared)
    if asked != AUTO:
        return ChosenMode(_as_asked(asked, providers, obstacle), None)
    if not obstacle and lines < LEAST_NATIVE:
        obstacle = f"there are fewer than {LEAST_NATIVE} lines"
    if not obstacle and deadline_in is not None and deadline_in < LONGEST_NATIVE:
        obstacle = "its deadline comes before a vendor's batch has to be answered"
    if obstacle:
        return ChosenMode(BatchMode.LIVE, obstacle)
    return ChosenMode(BatchMode.NATIVE, "half the price, and answered within a day")


def _in_the_way(providers: Collection[str], *, is_shared: bool) -> str:
    """Return why nothing of this can run in batches of vendors, or ""."""
    if not is_shared:
        return "the store is one process's own"
    if not BATCHED.intersection(providers):
        return "no provider of its lines takes batches"
    return ""


def _as_asked(asked: str, providers: Collection[str], obstacle: str) -> BatchMode:
    check_mode(asked)
    if asked == BatchMode.NATIVE and obstacle:
        raise InvalidInput(f"mode native: {obstacle}", hint="mode='live', or 'auto'")
    if asked == BatchMode.FLEX:
        _refuse_unless(FLEXIBLE, providers, mode=asked)
    return BatchMode(asked)


def check_mode(asked: object) -> str:
    """Return the word for a mode, or raise InvalidInput."""
    mode = text_of(asked)
    if mode is None or mode not in MODES:
        raise InvalidInput(f"mode must be one of {', '.join(MODES)}", hint="mode='auto'")
    return mode


def check_leftover(given: object, *, mode: str) -> str:
    """Return what becomes of lines that a vendor's batch has left; raises InvalidInput.

    Also where the mode has none: call by call, nothing is left.
    """
    wanted = text_of(given)
    if wanted is None or wanted not in LEFTOVERS:
        raise InvalidInput(
            f"on_leftover must be one of {', '.join(LEFTOVERS)}", hint="on_leftover='live'"
        )
    if wanted != LEFTOVERS[0] and mode in (BatchMode.LIVE, BatchMode.FLEX):
        raise InvalidInput(
            f"mode {mode} leaves nothing for on_leftover", hint="mode='native', or 'auto'"
        )
    return wanted


def _refuse_unless(able: Collection[str], providers: Collection[str], *, mode: str) -> None:
    if unable := sorted(set(providers) - set(able)):
        raise InvalidInput(
            f"mode {mode}: provider {unable[0]} has no such tier", hint="mode='live', or 'auto'"
        )

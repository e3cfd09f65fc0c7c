"""What Postgres tells those who listen: turns, by id only. Any notice may be lost at no cost."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId, as_uuid

#: How often the store is asked, where it can also tell.
TOLD_POLL_SECONDS = 1.0
#: Where it cannot (SQLite).
UNTOLD_POLL_SECONDS = 0.02
#: Where a pooler stands between us and the store, and does not pass on what it tells.
POOLED_POLL_SECONDS = 0.25


class Notice(NamedTuple):
    """Something happened to these turns; which thing, the channel says."""

    channel: str
    turn_ids: list[TurnId]


def notice_of(heard: Any) -> Notice:
    """Return what the driver heard; what is no id in it is left out."""
    found = (as_uuid(text) for text in heard.payload.split(","))
    return Notice(heard.channel, [TurnId(one) for one in found if one is not None])


def turns_on(channel: str, notices: Sequence[Notice]) -> list[TurnId]:
    """Return each turn that was named on the channel once, however often it was."""
    named = (one for notice in notices if notice.channel == channel for one in notice.turn_ids)
    return list(dict.fromkeys(named))


def reason_of(error: Exception) -> str:
    """Return what a log line says of an error: our own words, or the class of a stranger's."""
    return f"{error} [{error.code}]" if isinstance(error, TurnmillError) else type(error).__name__

"""What Postgres tells those who listen: turns, by id only. Any notice may be lost at no cost."""

from typing import Any, NamedTuple

from turnmill.domain.ids import TurnId, as_uuid

#: How often the store is asked, where it can also tell.
TOLD_POLL_SECONDS = 1.0
#: Where it cannot (SQLite).
UNTOLD_POLL_SECONDS = 0.02


class Notice(NamedTuple):
    """Something happened to these turns; which thing, the channel says."""

    channel: str
    turn_ids: list[TurnId]


def notice_of(heard: Any) -> Notice:
    """Return what the driver heard; what is no id in it is left out."""
    found = (as_uuid(text) for text in heard.payload.split(","))
    return Notice(heard.channel, [TurnId(one) for one in found if one is not None])

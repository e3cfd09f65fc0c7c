"""Many turns at once, and questions about all of them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tests.chaos.system import System, until
from turnmill import Client
from turnmill.sync.turns import Turn

LONG = timedelta(minutes=3)


def start_turns(
    client: Client,
    count: int,
    *,
    lane: str = "interactive",
    script: Mapping[str, Any] | None = None,
) -> list[Turn]:
    """Send one message to each of `count` new sessions."""
    sessions = [client.sessions.create(user_id=f"user-{number}").id for number in range(count)]
    metadata = {"mock": dict(script)} if script else {}
    return client.send_many([(one, "hello") for one in sessions], lane=lane, metadata=metadata)


def await_calls(system: System, count: int) -> None:
    """Wait until the provider has got so many calls."""
    until(lambda: system.count_calls() >= count, within=LONG)


def await_end(system: System, *, within: timedelta = LONG) -> None:
    """Wait until every turn is final."""
    until(lambda: unfinished(system) == 0, within=within)


def unfinished(system: System) -> int:
    [(count,)] = system.rows("SELECT count(*) FROM turnmill.turns WHERE finished_at IS NULL")
    return int(count)


def soften(system: System, turns: Sequence[Turn]) -> None:
    """Let the provider answer these turns at once from now on."""
    ids = [turn.id for turn in turns]
    system.rows("UPDATE turnmill.turns SET metadata = '{}' WHERE id = ANY(%s) RETURNING id", ids)


def seconds_to_take_over(system: System, since: float) -> list[float]:
    """Return, for each attempt that was lost, when the turn was taken up again."""
    rows = system.rows(
        """
        SELECT extract(epoch FROM min(later.started_at))::float8 - %s
        FROM turnmill.attempts lost JOIN turnmill.attempts later
            ON later.turn_id = lost.turn_id AND later.fence > lost.fence
        WHERE lost.outcome = 'lost' GROUP BY lost.turn_id, lost.fence
        """,
        since,
    )
    return [float(row[0]) for row in rows]

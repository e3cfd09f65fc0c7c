"""Rated chats through the queue as people had them, gaps scaled; and their figures, by pandas."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from tools.satisfaction import Chat
from turnmill import AsyncClient, TurnFailed
from turnmill.domain.analytics.conversing import Exchange
from turnmill.settings import Settings

if TYPE_CHECKING:  # every run of the tests comes by here, and one test needs it
    import pandas as pd

#: A second of a chat takes this long; what somebody thinks about for longer takes the longest.
SCALE = 1 / 2_000
LONGEST = timedelta(milliseconds=500)
_AT_ONCE = 200
_PATIENCE = timedelta(minutes=5)
PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Held:
    """A chat that was held again: its session, and the turn of each exchange."""

    chat: Chat
    session: UUID
    turns: Sequence[UUID]


async def hold_all(chats: Sequence[Chat], settings: Settings) -> list[Held]:
    """Hold these chats, many at a time: each message waits for the reply to the one before."""
    room = asyncio.Semaphore(_AT_ONCE)
    async with AsyncClient(settings=settings) as client:

        async def one(chat: Chat) -> Held:
            async with room:
                return await _hold(client, chat)

        return await asyncio.gather(*(one(chat) for chat in chats))


async def _hold(client: AsyncClient, chat: Chat) -> Held:
    session = await client.sessions.create(user_id=chat.user)
    made: list[UUID] = []
    before: Exchange | None = None
    for each in chat.exchanges:
        if before is not None:
            await asyncio.sleep(_scaled(each.asked_at - before.ended_at))
        turn = await client.send(session, _text(each.said), metadata={"mock": _script(each)})
        with suppress(TurnFailed):  # nobody has answered
            await turn.result(timeout=_PATIENCE)
        made.append(turn.id)
        before = each
    return Held(chat, session.id, made)


def _script(each: Exchange) -> dict[str, Any]:
    if not each.answered:
        return {"faults": "rejected"}
    return {"reply": _text(each.heard), "latency": _scaled(each.ended_at - each.asked_at)}


def _scaled(gap: timedelta) -> float:
    return min(max(gap * SCALE, timedelta(0)), LONGEST).total_seconds()


def _text(said: str | None) -> str:
    return said if said and said.strip() else "."


def put_times_back(held: Sequence[Held], database_url: str) -> None:
    """Let each turn have been accepted, and have ended, when it was in the chat."""
    moments = [
        (each.asked_at, each.ended_at, turn)
        for one in held
        for each, turn in zip(one.chat.exchanges, one.turns, strict=True)
    ]
    statement = "UPDATE turnmill.turns SET created_at = %s, finished_at = %s WHERE id = %s"
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.executemany(statement, moments)


@dataclass(frozen=True, slots=True)
class Frames:
    """The rows, as pandas has them."""

    turns: "pd.DataFrame"
    attempts: "pd.DataFrame"

    @classmethod
    def read(cls, database_url: str) -> "Frames":
        turns = _frame(
            database_url,
            "SELECT t.id, t.session_id, s.user_id, t.seq, t.state, t.created_at, t.started_at,"
            " t.finished_at FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id",
        )
        attempts = _frame(
            database_url,
            "SELECT a.turn_id, t.session_id, a.outcome, a.provider_ms, a.input_tokens,"
            " a.output_tokens FROM turnmill.attempts a JOIN turnmill.turns t ON t.id = a.turn_id",
        )
        return cls(turns.sort_values(["session_id", "seq"]), attempts)

    def of_sessions(self) -> "pd.DataFrame":
        """Return a line of figures for each session."""
        import pandas as pd

        turns = self.turns.assign(
            total=_ms(self.turns.created_at, self.turns.finished_at),
            queued=_ms(self.turns.created_at, self.turns.started_at),
        )
        by_session = turns.groupby("session_id")
        ended = by_session.finished_at.cummax()
        silence = _ms(ended.groupby(turns.session_id).shift(), turns.created_at)
        turns = turns.assign(silence=silence.where(silence > 600_000, 0).fillna(0))
        answered = turns[turns.state == "succeeded"]
        replied = self.attempts[self.attempts.outcome == "succeeded"]
        figures = {
            "turns": by_session.size(),
            "succeeded": answered.groupby("session_id").size(),
            "failed": turns[turns.state == "failed"].groupby("session_id").size(),
            "duration": _ms(by_session.created_at.min(), by_session.finished_at.max()),
            "silence": turns.groupby("session_id").silence.sum(),
            "attempts": self.attempts.groupby("session_id").size(),
            **{
                name: self.attempts.groupby("session_id")[name].sum()
                for name in ("input_tokens", "output_tokens")
            },
            **_percentiles("total", answered, "total"),
            **_percentiles("queued", answered, "queued"),
            **_percentiles("provider", replied, "provider_ms"),
        }
        return pd.DataFrame(figures).fillna(0).sort_index()

    def hours_of(self, user: str, zone: str) -> list[int]:
        """Return how many turns the user had in each local hour of the day."""
        mine = self.turns[self.turns.user_id == user].created_at.dt.tz_convert(zone)
        counts = mine.dt.hour.value_counts()
        return [int(counts.get(hour, 0)) for hour in range(24)]

    def lengths_of(self, user: str) -> list[int]:
        """Return how many turns each of the user's sessions has, the shortest first."""
        mine = self.turns[self.turns.user_id == user]
        return sorted(mine.groupby("session_id").size().tolist())


def _frame(database_url: str, query: str) -> "pd.DataFrame":
    import pandas as pd

    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        names = [column.name for column in cursor.description or ()]
        frame = pd.DataFrame(cursor.fetchall(), columns=names)
    for name in names:
        if name.endswith("_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
        if name.endswith(("_ms", "_tokens")):
            frame[name] = frame[name].astype("float64")
    return frame


def _ms(begun: "pd.Series[Any]", ended: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return whole milliseconds, half of one being one."""
    import pandas as pd

    return ((ended - begun) / pd.Timedelta(microseconds=1) / 1000 + 0.5) // 1


def _percentiles(name: str, rows: "pd.DataFrame", column: str) -> dict[str, "pd.Series[Any]"]:
    values = rows[["session_id", column]].dropna().sort_values(["session_id", column])
    grouped = values.groupby("session_id")[column]
    place, count = grouped.cumcount() + 1, grouped.transform("size")

    def at(percent: int) -> Any:
        is_it = place == -(-count * percent // 100)
        return values[is_it].set_index("session_id")[column]

    return {f"{name}_{percent}": at(percent) for percent in PERCENTS} | {
        f"{name}_mean": grouped.mean(),
        f"{name}_highest": grouped.max(),
    }

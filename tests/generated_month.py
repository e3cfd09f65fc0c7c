"""A month of turns that nobody has sent: drawn from a seed, with the shapes that real ones have.

Hours of the week differ, sessions have a model, a lane, a team and a user, calls fail and are made
again, prompts are cached more or less, and times are spread as times of vendors are: by logarithms.
"""

import math
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from turnmill.domain.ids import uuid7

FIRST = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 31
TEAMS = ("search", "support", "sales", "")
#: So many turns a session has, on the average, and so many sessions go on at once.
_EACH = 8
_AT_ONCE = 64
_HOURS = (2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 19, 18, 15, 17, 19, 18, 16, 13, 10, 8, 7, 6, 4, 3)
_WEEKDAYS = (1.0, 1.05, 1.1, 1.05, 0.9, 0.35, 0.3)


class Model(NamedTuple):
    """What calls of a model are like."""

    provider: str
    name: str
    tier: str
    share: float
    usd_in: float  #: of a million tokens
    usd_out: float
    took_ms: float  #: the median
    fails: float  #: of its calls


MODELS = (
    Model("openai", "gpt-5", "default", 0.30, 1.25, 10, 4_000, 0.02),
    Model("openai", "gpt-5-mini", "default", 0.34, 0.25, 2, 1_600, 0.01),
    Model("openai", "gpt-5-mini", "flex", 0.08, 0.125, 1, 9_000, 0.05),
    Model("anthropic", "claude-sonnet-4-5", "standard", 0.20, 3, 15, 5_000, 0.03),
    Model("anthropic", "claude-haiku-4-5", "standard", 0.08, 1, 5, 1_200, 0.01),
)


@dataclass(frozen=True, slots=True)
class Month:
    """How many turns there are, and from what they are drawn."""

    turns: int = 1_000_000
    seed: int = 19
    begins: datetime = FIRST
    sent_to: Sequence[Model] = MODELS
    within: timedelta | None = None  #: all of them are sent in so long a time, evenly


class Session(NamedTuple):
    """A conversation."""

    id: UUID
    user: str
    model: Model
    lane: str
    team: str


class Call(NamedTuple):
    """An attempt of a turn."""

    begun: datetime
    took_ms: int
    first_token_ms: int | None
    outcome: str
    tokens: tuple[int, int, int]  #: input, output, and what of the input was cached
    usd: float


class Turn(NamedTuple):
    """A turn that has ended."""

    id: UUID
    session: Session
    seq: int
    state: str
    created: datetime
    finished: datetime
    calls: Sequence[Call]


def turns_of(month: Month) -> Iterator[Turn]:
    """Yield all turns, in the order in which they were accepted."""
    dice = random.Random(month.seed)
    sessions: dict[int, Session] = {}
    told: dict[int, int] = {}
    for n, created in enumerate(_moments(month, dice)):
        place = n // _EACH + dice.randrange(_AT_ONCE)
        if place not in sessions:
            sessions[place] = _session(month, dice, created)
        told[place] = seq = told.get(place, 0) + 1
        for over in [one for one in (place - 3 * _AT_ONCE,) if one in sessions]:
            del sessions[over], told[over]
        yield _turn(dice, sessions[place], seq, created)


def _moments(month: Month, dice: random.Random) -> Iterator[datetime]:
    """Yield moments in order: so many in each hour as the hour of the week has its share."""
    if month.within is not None:
        yield from (month.begins + n * month.within / month.turns for n in range(month.turns))
        return
    hours = [month.begins + timedelta(hours=n) for n in range(DAYS * 24)]
    weights = [_HOURS[one.hour] * _WEEKDAYS[one.weekday()] for one in hours]
    ends = list(accumulate(weights))
    draws = sorted(dice.random() * ends[-1] for _ in range(month.turns))
    for draw in draws:
        n = bisect(ends, draw)
        begun = ends[n] - weights[n]
        yield hours[n] + timedelta(hours=(draw - begun) / weights[n])


def _session(month: Month, dice: random.Random, at: datetime) -> Session:
    (model,) = dice.choices(month.sent_to, [one.share for one in month.sent_to])
    return Session(
        id=_id(dice, at),
        user=f"user-{dice.randrange(max(20, month.turns // 200))}",
        model=model,
        lane="bulk" if model.tier == "flex" else "interactive",
        team=dice.choice(TEAMS),
    )


def _turn(dice: random.Random, session: Session, seq: int, created: datetime) -> Turn:
    at = created + timedelta(
        milliseconds=_spread(dice, 40 if session.lane == "interactive" else 9_000)
    )
    calls: list[Call] = []
    while True:
        calls.append(_call(dice, session.model, seq, at))
        at += timedelta(milliseconds=calls[-1].took_ms)
        if calls[-1].outcome != "retrying" or len(calls) == 4:
            break
        at += timedelta(milliseconds=_spread(dice, 2_000))
    state = "dead" if calls[-1].outcome == "retrying" else calls[-1].outcome
    calls[-1] = calls[-1]._replace(outcome=state)
    return Turn(_id(dice, created), session, seq, state, created, at, calls)


def _call(dice: random.Random, model: Model, seq: int, begun: datetime) -> Call:
    took = int(_spread(dice, model.took_ms))
    drawn = dice.random()
    if drawn < model.fails:
        outcome = "retrying" if drawn < 0.8 * model.fails else "failed"
        return Call(begun, took // 3, None, outcome, (0, 0, 0), 0.0)
    given = int(_spread(dice, 300)) + seq * int(_spread(dice, 250))
    said = int(_spread(dice, 180))
    cached = int(given * 0.8) if seq > 1 and dice.random() < 0.6 else 0
    usd = ((given - cached * 0.9) * model.usd_in + said * model.usd_out) / 1e6
    first = None if dice.random() < 0.3 else int(took * dice.uniform(0.05, 0.3))
    return Call(begun, took, first, "succeeded", (given, said, cached), usd)


def _spread(dice: random.Random, median: float) -> float:
    return median * math.exp(dice.gauss(0, 0.7))


def _id(dice: random.Random, at: datetime) -> UUID:
    """Return an id as rows have them, which are sorted by the time at which they were made."""
    return uuid7(unix_ms=int(at.timestamp() * 1000), random_bits=dice.getrandbits(128))


_COLUMNS = {
    "sessions": "id user_id provider model metadata next_seq events created_at last_active_at"
    " turns_succeeded turns_failed",
    "turns": "id session_id seq state lane attempt max_attempts claims lease_fence input_tokens"
    " output_tokens cached_tokens cost_usd created_at started_at finished_at",
    "attempts": "turn_id fence n kind worker started_at ended_at outcome provider asked_model model"
    " input_tokens output_tokens cached_tokens cost_usd provider_ms first_token_ms service_tier",
    "events": "session_id n turn_id kind at",
}


def write_month(url: str, month: Month, *, chunk: int = 50_000) -> None:
    """Write the rows of a month into a store of Postgres, as if its turns had been run."""
    for _ in written(url, month, chunk=chunk):
        pass


def written(url: str, month: Month, *, chunk: int) -> Iterator[None]:
    """Write the rows of a month, and pause when so many turns more are there."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows: dict[str, list[Sequence[Any]]] = {table: [] for table in _COLUMNS}
        sessions: dict[UUID, list[Any]] = {}
        for turn in turns_of(month):
            _add(rows, sessions, turn)
            if len(rows["turns"]) == chunk:
                _copy(connection, rows, sessions)
                yield
        _copy(connection, rows, sessions)
        connection.execute("VACUUM ANALYZE")  # as Postgres does by itself, in a month
        yield


def _add(rows: dict[str, list[Sequence[Any]]], sessions: dict[UUID, list[Any]], turn: Turn) -> None:
    session, model, last = turn.session, turn.session.model, turn.calls[-1]
    totals = sessions.get(session.id, [session, turn, 0, 0])[2:]
    totals[turn.state != "succeeded"] += 1
    sessions[session.id] = [session, turn, *totals]
    sums = [sum(one.tokens[n] for one in turn.calls) for n in range(3)]
    count = len(turn.calls)
    fence = turn.seq * 8
    rows["turns"].append(
        (
            *(turn.id, session.id, turn.seq, turn.state, session.lane, min(count, 5), 5, count),
            *(fence + count, *sums, round(sum(one.usd for one in turn.calls), 10)),
            *(turn.created, turn.calls[0].begun, turn.finished),
        )
    )
    for n, one in enumerate(turn.calls, 1):
        ended = one.begun + timedelta(milliseconds=one.took_ms)
        rows["attempts"].append(
            (
                *(turn.id, fence + n, n, "send", "w", one.begun, ended, one.outcome),
                *(model.provider, model.name, model.name, *one.tokens, round(one.usd, 10)),
                *(one.took_ms, one.first_token_ms, model.tier),
            )
        )
    rows["events"].append((session.id, turn.seq, turn.id, f"turn.{turn.state}", turn.finished))
    assert last.outcome == turn.state


def _copy(
    connection: psycopg.Connection[Any],
    rows: dict[str, list[Sequence[Any]]],
    sessions: dict[UUID, list[Any]],
) -> None:
    """Write what there is, sessions first; one that goes on has its line brought along."""
    with connection.transaction():
        connection.execute(
            "CREATE TEMPORARY TABLE told ON COMMIT DROP AS"
            f" SELECT {', '.join(_COLUMNS['sessions'].split())} FROM turnmill.sessions LIMIT 0"
        )
        _put(connection, "told", _COLUMNS["sessions"], (_row(*one) for one in sessions.values()))
        names = ", ".join(_COLUMNS["sessions"].split())
        connection.execute(
            f"INSERT INTO turnmill.sessions ({names}) SELECT {names} FROM told ON CONFLICT (id)"
            " DO UPDATE SET next_seq = EXCLUDED.next_seq, events = EXCLUDED.events,"
            " last_active_at = EXCLUDED.last_active_at,"
            " turns_succeeded = sessions.turns_succeeded + EXCLUDED.turns_succeeded,"
            " turns_failed = sessions.turns_failed + EXCLUDED.turns_failed"
        )
        for table in ("turns", "attempts", "events"):
            _put(connection, f"turnmill.{table}", _COLUMNS[table], rows[table])
            rows[table].clear()
        sessions.clear()


def _row(session: Session, last: Turn, succeeded: int, failed: int) -> Sequence[Any]:
    return (
        *(session.id, session.user, session.model.provider, session.model.name),
        f'{{"team": "{session.team}"}}' if session.team else "{}",
        *(last.seq + 1, last.seq, last.created, last.finished, succeeded, failed),
    )


def _put(connection: psycopg.Connection[Any], table: str, columns: str, rows: Any) -> None:
    names = ", ".join(columns.split())
    with connection.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)

"""Experiments: started, stopped, which arm a new session is of, and how the arms compare."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, case, func, insert, select, update

from turnmill.domain.analytics.differences import Cluster, between
from turnmill.domain.analytics.experiments import Arm, arm_of
from turnmill.domain.errors import Conflict, ExperimentNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.analytics.spans import ms_between
from turnmill.store.nouns.scripted import SCRIPTED
from turnmill.store.readable import read_one, read_page
from turnmill.store.rules.ratings import stands
from turnmill.store.rules.sealing import settings_of_house
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.schema.trial_tables import experiments, session_arms
from turnmill.store.trial_records import (
    ArmFigures,
    ExperimentRecord,
    ExperimentResult,
    NewExperiment,
)
from turnmill.store.types import db_now, insert_into
from turnmill.store.vaults import plain, plain_or_none

_SAME = ("template", "version", "provider", "model", "share")


def start(conn: Connection, new: NewExperiment) -> ExperimentRecord:
    """Let new sessions of the template take part, or return what runs under this name.

    Conflict where another experiment has the name, or runs with this template.
    """
    names = NewExperiment.__dataclass_fields__
    said = settings_of_house(conn, experiments.c.settings, new.id.hex, new.settings)
    values = {name: getattr(new, name) for name in names} | {"settings": said}
    made = conn.execute(
        insert_into(conn, experiments)
        .values(values)
        .on_conflict_do_nothing()
        .returning(experiments.c.id)
    ).one_or_none()
    if made is not None:
        return get(conn, new.id)
    row = conn.execute(select(experiments).where(experiments.c.name == new.name)).one_or_none()
    if row is None:
        raise Conflict("another experiment runs with this template", hint="stop that one first")
    found = read_one(row, _record)
    same = all(getattr(found, name) == getattr(new, name) for name in _SAME)
    if not same or dict(found.settings) != dict(new.settings):
        raise Conflict("another experiment has this name", hint="give the experiment another name")
    return found


def get(conn: Connection, experiment: UUID | str) -> ExperimentRecord:
    """Return the experiment of this id or name, or raise ExperimentNotFound."""
    column = experiments.c.name if isinstance(experiment, str) else experiments.c.id
    row = conn.execute(select(experiments).where(column == experiment)).one_or_none()
    if row is None:
        raise ExperimentNotFound()
    return read_one(row, _record)


def seen(conn: Connection, experiment_id: UUID) -> tuple[ExperimentRecord, bool]:
    """Return an experiment, and whether its settings can be opened here: else it has none."""
    row = conn.execute(select(experiments).where(experiments.c.id == experiment_id)).one()
    settings = plain_or_none(row.settings)
    return _with(row, settings or {}), settings is not None


def find(
    conn: Connection, *, after: UUID | None = None, limit: int = 100
) -> list[ExperimentRecord]:
    """Return up to `limit` experiments, newest first; `after` is the last id of a page."""
    query = select(experiments)
    if after is not None:
        query = query.where(experiments.c.id < after)
    return read_page(conn, query, _record, by=experiments.c.id, limit=limit)


def stop(conn: Connection, experiment_id: UUID) -> ExperimentRecord:
    """Let new sessions be as their template says; those that took part stay as they are."""
    mine = experiments.c.id == experiment_id, experiments.c.stopped_at.is_(None)
    conn.execute(update(experiments).where(*mine).values(stopped_at=db_now()))
    return get(conn, experiment_id)


def running_with(conn: Connection, template: str) -> ExperimentRecord | None:
    """Return the experiment that new sessions of the template take part in."""
    mine = experiments.c.template == template, experiments.c.stopped_at.is_(None)
    row = conn.execute(select(experiments).where(*mine)).one_or_none()
    return None if row is None else read_one(row, _record)


def arm_for(experiment: ExperimentRecord, user_id: str) -> Arm:
    """Return the set-up that sessions of this user get."""
    return arm_of(experiment.id, user_id, share=experiment.share)


def note_arm(
    conn: Connection, session_id: SessionId, experiment: ExperimentRecord, arm: Arm
) -> None:
    """Write down which set-up a new session got, in the transaction that makes it."""
    values = {"session_id": session_id, "experiment_id": experiment.id, "arm": arm.value}
    conn.execute(insert(session_arms).values(values))


class ArmOf(NamedTuple):
    """Which set-up a session was given."""

    experiment: str  #: its name
    arm: Arm


def arm_of_session(conn: Connection, session_id: SessionId) -> ArmOf | None:
    """Return the arm of a session; None where it takes part in nothing."""
    row = conn.execute(
        select(experiments.c.name, session_arms.c.arm)
        .join(experiments, experiments.c.id == session_arms.c.experiment_id)
        .where(session_arms.c.session_id == session_id)
    ).one_or_none()
    return None if row is None else ArmOf(row.name, Arm(row.arm))


@dataclass(slots=True)
class _User:
    """What the sessions of one user came to, in one arm."""

    sessions: int = 0
    turns: int = 0
    failed: int = 0
    priced: int = 0
    cost: float = 0.0
    answered: int = 0
    seconds: float = 0.0
    rated: int = 0
    score: float = 0.0


def result(conn: Connection, experiment: ExperimentRecord) -> ExperimentResult:
    """Compare the arms, by users: those of one arm are none of the other one's.

    Read from rows: sessions that were deleted are not in it any more.
    """
    users: dict[Arm, dict[str, _User]] = {arm: defaultdict(_User) for arm in Arm}
    versions: dict[Arm, Counter[int]] = {arm: Counter() for arm in Arm}
    for row in conn.execute(_by_session(experiment.id)):
        arm = Arm(row.arm)
        _add(users[arm][row.user_id], row)
        versions[arm][row.template_version or 0] += 1
    for row in conn.execute(_ratings(experiment.id)):
        user = users[Arm(row.arm)][row.user_id]
        user.rated += row.rated
        user.score += float(row.score)
    costs = {arm: conn.scalars(_cost(experiment.id, arm)).one() for arm in Arm}

    def compared(total: str, of: str, within: tuple[float, float] | None = None) -> Any:
        sides = ([_cluster(one, total, of) for one in users[arm].values()] for arm in Arm)
        return between(*sides, within=within)

    return ExperimentResult(
        experiment=experiment,
        usual=_figures(Arm.USUAL, users, versions, costs),
        other=_figures(Arm.OTHER, users, versions, costs),
        cost_usd=compared("cost", "priced"),
        latency_seconds=compared("seconds", "answered"),
        failures=compared("failed", "turns", within=(0, 1)),
        turns=compared("turns", "sessions"),
        feedback=compared("score", "rated", within=(-1, 1)),
    )


def _cluster(user: _User, total: str, of: str) -> Cluster:
    return Cluster(float(getattr(user, total)), float(getattr(user, of)))


def _add(user: _User, row: Any) -> None:
    user.sessions += 1
    for name in ("turns", "failed", "priced", "answered"):
        setattr(user, name, getattr(user, name) + (getattr(row, name) or 0))
    user.cost += float(row.cost or 0)
    user.seconds += float(row.ms or 0) / 1000


def _figures(
    arm: Arm,
    users: Mapping[Arm, Mapping[str, _User]],
    versions: Mapping[Arm, Counter[int]],
    costs: Mapping[Arm, Any],
) -> ArmFigures:
    mine: Sequence[_User] = list(users[arm].values())
    return ArmFigures(
        arm=arm,
        users=len(mine),
        sessions=sum(one.sessions for one in mine),
        turns=sum(one.turns for one in mine),
        failed=sum(one.failed for one in mine),
        cost_usd=costs[arm],
        versions=dict(sorted(versions[arm].items())),
    )


def _by_session(experiment_id: UUID) -> Any:
    """Select figures of each session that took part: of turns that were sent, and have ended."""
    ended = turns.c.state.in_(FINAL) & (func.coalesce(turns.c.finish_reason, "") != SCRIPTED)
    answered = turns.c.state == TurnState.SUCCEEDED
    failed = turns.c.state.in_((TurnState.FAILED, TurnState.DEAD))
    took = ms_between(turns.c.created_at, turns.c.finished_at)
    return (
        select(
            session_arms.c.arm,
            sessions.c.user_id,
            sessions.c.template_version,
            func.count(turns.c.id).label("turns"),
            func.sum(_one(failed)).label("failed"),
            func.count(turns.c.cost_usd).label("priced"),
            func.sum(turns.c.cost_usd).label("cost"),
            func.sum(_one(answered)).label("answered"),
            func.sum(case((answered, took), else_=0)).label("ms"),
        )
        .join(sessions, sessions.c.id == session_arms.c.session_id)
        .join(turns, (turns.c.session_id == sessions.c.id) & ended, isouter=True)
        .where(
            session_arms.c.experiment_id == experiment_id,
            sessions.c.status != SessionStatus.DELETED,
        )
        .group_by(
            session_arms.c.session_id,
            session_arms.c.arm,
            sessions.c.user_id,
            sessions.c.template_version,
        )
    )


def _ratings(experiment_id: UUID) -> Any:
    """Select what was said of replies that stand, by user: whoever of several has said it."""
    return (
        select(
            session_arms.c.arm,
            sessions.c.user_id,
            func.count(feedback.c.score).label("rated"),
            func.sum(feedback.c.score).label("score"),
        )
        .join(sessions, sessions.c.id == session_arms.c.session_id)
        .join(feedback, feedback.c.session_id == sessions.c.id)
        .join(turns, turns.c.id == feedback.c.turn_id)
        .where(
            session_arms.c.experiment_id == experiment_id,
            sessions.c.status != SessionStatus.DELETED,
            stands(),
        )
        .group_by(session_arms.c.arm, sessions.c.user_id)
    )


def _cost(experiment_id: UUID, arm: Arm) -> Any:
    of_arm = session_arms.c.experiment_id == experiment_id, session_arms.c.arm == arm.value
    return (
        select(func.coalesce(func.sum(sessions.c.cost_usd), 0))
        .join(session_arms, session_arms.c.session_id == sessions.c.id)
        .where(*of_arm, sessions.c.status != SessionStatus.DELETED)
    )


def _one(which: ColumnElement[bool]) -> ColumnElement[int]:
    return case((which, 1), else_=0)


def _record(row: Row[Any]) -> ExperimentRecord:
    return _with(row, plain(row.settings))


def _with(row: Row[Any], settings: Any) -> ExperimentRecord:
    said = {name: getattr(row, name) for name in ExperimentRecord.__dataclass_fields__}
    return ExperimentRecord(**said | {"settings": settings})

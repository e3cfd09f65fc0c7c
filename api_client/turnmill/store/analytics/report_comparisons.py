"""What a report tells of trials and experiments: two set-ups beside each other."""

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, or_, select

from turnmill.domain.analytics.differences import Difference
from turnmill.domain.analytics.report_data import ComparedLine, MeasuredLine
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import experiments, trials
from turnmill.store.schema.trial_tables import experiments as experiment_rows
from turnmill.store.schema.trial_tables import session_arms
from turnmill.store.trial_records import ExperimentRecord, ExperimentResult, Finding

_MOST = 20
_NOT_OPEN = "settings that cannot be opened here"
#: Of more, adding up takes longer than somebody waits for a page: a command has the result.
MOST_SESSIONS = 5_000


def trials_in(conn: Connection, window: Window) -> list[ComparedLine]:
    """Return the trials that ended by themselves in the window, the newest first."""
    found = trials.findings(conn, since=window.since)
    return [_trial(one) for one in found if one.ended_at < window.until][:_MOST]


def _trial(one: Finding) -> ComparedLine:
    shown, agreement = one.summary, one.summary.agreement
    return ComparedLine(
        name=one.name,
        before=", ".join(one.models_before or ()),
        after=_set_up(f"{one.provider}/{one.model}", one.settings),
        turns=shown.asked,
        users=shown.cost_usd.clusters,
        agreement=agreement.mean,
        agreement_low=agreement.low,
        agreement_high=agreement.high,
        figures=list(_measured({"cost_usd": shown.cost_usd, "latency_ms": shown.latency_ms})),
    )


def experiments_in(conn: Connection, window: Window) -> list[ComparedLine]:
    """Return the experiments that ran in the window; of very large ones the names alone."""
    ran = (
        experiment_rows.c.created_at < window.until,
        or_(experiment_rows.c.stopped_at.is_(None), experiment_rows.c.stopped_at >= window.since),
    )
    newest = experiment_rows.c.id.desc()
    ids = conn.scalars(select(experiment_rows.c.id).where(*ran).order_by(newest).limit(_MOST))
    found = [experiments.seen(conn, one) for one in ids.all()]
    return [_experiment(conn, one, one.settings if told else None) for one, told in found]


def _experiment(
    conn: Connection, one: ExperimentRecord, settings: Mapping[str, object] | None
) -> ComparedLine:
    mine = select(session_arms.c.session_id).where(session_arms.c.experiment_id == one.id)
    many = conn.execute(mine.limit(1).offset(MOST_SESSIONS)).first() is not None
    result = None if many else experiments.result(conn, one)
    model = "/".join(name for name in (one.provider, one.model) if name)
    version = "" if one.version is None else f"version {one.version}"
    return ComparedLine(
        name=one.name,
        before=one.template,
        after=_set_up(", ".join(said for said in (version, model) if said), settings),
        turns=0 if result is None else result.other.turns,
        users=0 if result is None else result.other.users,
        figures=[] if result is None else list(_measured(_differences(result))),
    )


def _differences(result: ExperimentResult) -> Mapping[str, Difference]:
    return {
        "cost_usd": result.cost_usd,
        "latency_seconds": result.latency_seconds,
        "failures": result.failures,
        "feedback": result.feedback,
    }


def _set_up(what: str, settings: Mapping[str, object] | None) -> str:
    if settings is None:
        return f"{what}, {_NOT_OPEN}" if what else _NOT_OPEN
    said = [what, *(f"{name} = {value}" for name, value in sorted(settings.items()))]
    return ", ".join(one for one in said if one)


def _measured(found: Mapping[str, Difference]) -> Iterator[MeasuredLine]:
    for name, one in found.items():
        if one.before is not None and one.after is not None:
            yield MeasuredLine(
                of=name, before=one.before, after=one.after, low=one.low, high=one.high
            )

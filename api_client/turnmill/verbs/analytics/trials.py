"""Trials: `client.trials`, stored turns asked again with another model or other settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import entry_points
from typing import Any, Protocol
from uuid import UUID

from turnmill.domain.analytics.experiments import share_given
from turnmill.domain.analytics.judging import Judge, JudgeKind, judge_given
from turnmill.domain.analytics.windows import window
from turnmill.domain.arguments import page_size, whole
from turnmill.domain.auditing import Action
from turnmill.domain.batch_modes import check_mode
from turnmill.domain.batches import BatchMode
from turnmill.domain.checks import check_name
from turnmill.domain.dollars import part_of
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import BatchId, as_uuid
from turnmill.domain.session_settings import checked_settings
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.analytics import judging, sampling, trial_results
from turnmill.store.analytics import trials as rows
from turnmill.store.nouns import batch_estimates, batch_moves
from turnmill.store.nouns.asked_again import NOT_TAKEN
from turnmill.store.nouns.audit import audited
from turnmill.store.trial_records import (
    NewTrial,
    Sample,
    TrialEstimate,
    TrialRecord,
    TrialResult,
    TrialSummary,
)
from turnmill.verbs import intake
from turnmill.verbs.installed import refuse_function, refuse_provider
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, single, transaction
from turnmill.wire import JUDGES

#: Turns of one trial.
MOST_TURNS = 5_000
#: Of a trial's money, the part that a judging model may spend, unless it is said.
JUDGES_SHARE = 0.5
_MOST_LINES = 2**31
#: What a judge is told besides the replies, and answers, in tokens.
_TOLD, _SAID = 300, 30
_HINT = 'model="openai/gpt-5-nano", or provider= beside it'

#: A trial as `client.trials` has returned it, its id, or its name.
TrialRef = TrialRecord | UUID | str


class Pricer(Protocol):
    """Tells what tokens cost."""

    def priced(
        self, provider: str, model: str, *, input_tokens: int, output_tokens: int
    ) -> Mapping[BatchMode, Decimal | None]:
        """Return what so many cost in each way of running; None where nobody knows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """What a trial is to be, checked."""

    new: NewTrial = field(repr=False)
    judge: Judge | None
    named: bool  #: somebody has said its name


def asked(
    model: object,
    *,
    provider: object,
    sample: object,
    since: object,
    template: object,
    settings: object,
    judge: object,
    max_cost_usd: object,
    judge_share: object,
    mode: str,
    name: object,
) -> TrialPlan:
    """Check what a trial is to be; raises InvalidInput."""
    wanted = check_name(model, name="model")
    whose = intake.name_or_none(provider, name="provider")
    if whose is None:
        whose, _, wanted = wanted.partition("/")
        if not (whose and wanted):
            raise InvalidInput("model names no provider", hint=_HINT)
    refuse_provider(whose, what="model")
    span: Any = since
    during = window(span, now=datetime.now(UTC))
    who = _judge(judge)
    most = None if max_cost_usd is None else intake.max_cost(max_cost_usd)
    trial_id = UUID(str(new_id()))
    new = NewTrial(
        id=trial_id,
        name=check_name(name, name="name") if name is not None else _name(wanted, trial_id),
        batch_id=BatchId(new_id()),
        provider=whose,
        model=wanted,
        settings=_settings(settings),
        judge="" if who is None else str(who),
        since=during.since,
        until=during.until,
        template=intake.name_or_none(template, name="template"),
        sample=whole(sample, name="sample", most=MOST_TURNS),
        mode=check_mode(mode),
        max_cost_usd=most,
        judge_usd=_for_judge(who, most, judge_share),
    )
    return TrialPlan(new=new, judge=who, named=name is not None)


def _name(model: str, trial_id: UUID) -> str:
    return f"{model[:150]}-{trial_id.hex[-8:]}"


def _judge(value: object) -> Judge | None:
    """Return who compares, if he can be found: when turns were asked, and paid, it is too late."""
    found = judge_given(value)
    if found is not None and found.kind is JudgeKind.MODEL:
        refuse_provider(found.provider, what="judge")
    if found is not None and found.kind is JudgeKind.EMBEDDING:
        refuse_function(found.name, what="judge", group=JUDGES)
    return found


def _settings(value: object) -> dict[str, Any]:
    found = checked_settings(value)
    if taken := sorted(found.keys() & set(NOT_TAKEN)):
        raise InvalidInput(
            f"a trial has no {taken[0]}: nothing outside of it is to notice",
            hint="settings of the vendor's, such as {'temperature': 0}",
        )
    return found


def _for_judge(judge: Judge | None, most: Decimal | None, share: object) -> Decimal | None:
    part = share_given(share)
    if judge is None or judge.kind is not JudgeKind.MODEL or most is None:
        if part != JUDGES_SHARE:
            raise InvalidInput(
                "judge_share is a part of max_cost_usd, for a judging model",
                hint='judge="model:openai/gpt-5-nano", and max_cost_usd=5',
            )
        return None
    return part_of(most, Decimal(str(part)))


def start(wanted: TrialPlan, *, actor: str) -> Verb[TrialRecord]:
    """Draw turns and let the trial run; one that stands under its name is returned as it is."""
    new = wanted.new

    def on(conn: Connection) -> Effect[TrialRecord]:
        if wanted.named and (known := rows.find_same(conn, new)) is not None:
            return Effect(known)
        record = rows.start(conn, new, _drawn(conn, new))
        audited(
            conn,
            Action.TRIAL_STARTED,
            actor=actor,
            user_id=None,
            objects={"trial": record.id},
            figures={
                "turns": record.sampled,
                "provider": record.provider,
                "model": record.model,
            },
        )
        return Effect(record)

    return transaction(on)


def _drawn(conn: Connection, new: NewTrial) -> Sample:
    return sampling.draw(
        conn, since=new.since, until=new.until, template=new.template, count=new.sample
    )


def estimate(wanted: TrialPlan, pricer: Pricer | None) -> Verb[TrialEstimate]:
    """Draw turns, and say what asking them again would cost; nothing is written."""

    def on(conn: Connection) -> Effect[TrialEstimate]:
        return Effect(_estimated(wanted, _drawn(conn, wanted.new), pricer))

    return single(on)


def _estimated(wanted: TrialPlan, sample: Sample, pricer: Pricer | None) -> TrialEstimate:
    told = sum(one.input_tokens or 0 for one in sample.turns)
    said = sum(one.output_tokens or 0 for one in sample.turns)
    known = [one.cost_usd for one in sample.turns if one.cost_usd is not None]
    modes: Mapping[BatchMode, Decimal | None] = dict.fromkeys(BatchMode)
    judge_usd = None
    if pricer is not None:
        new = wanted.new
        modes = pricer.priced(new.provider, new.model, input_tokens=told, output_tokens=said)
        judge_usd = _judging(wanted.judge, sample, pricer)
    if wanted.judge is None or wanted.judge.kind is JudgeKind.EXACT:
        judge_usd = Decimal(0)
    return TrialEstimate(
        turns=len(sample.turns),
        users=len({one.user_id for one in sample.turns}),
        left_out=sample.left_out,
        input_tokens=told,
        output_tokens=said,
        before_usd=sum(known, Decimal(0)) if len(known) == len(sample.turns) else None,
        modes=modes,
        judge_usd=judge_usd,
    )


def _judging(judge: Judge | None, sample: Sample, pricer: Pricer) -> Decimal | None:
    """Return what a model takes that reads both replies of each turn twice, if both are as long."""
    if judge is None or judge.kind is not JudgeKind.MODEL:
        return None
    calls = 2 * len(sample.turns)
    told = calls * _TOLD + 4 * sum(one.output_tokens or 0 for one in sample.turns)
    found = pricer.priced(
        judge.provider, judge.model, input_tokens=told, output_tokens=calls * _SAID
    )
    return found[BatchMode.LIVE]


def pricer(settings: Settings, typical: Mapping[tuple[str, str], int]) -> Pricer | None:
    """Return who tells prices; None where the worker's half is not installed."""
    for one in entry_points(group="turnmill.counters", name="batch"):
        try:
            made: Pricer = one.load()(settings, typical)
        except ImportError:
            return None
        return made
    return None


def typical() -> Verb[Mapping[tuple[str, str], int]]:
    """Read how long replies of models are."""
    return single(lambda conn: Effect(batch_estimates.typical_replies(conn)))


def get(trial: object) -> Verb[TrialRecord]:
    """Read the trial of this id or name."""
    wanted = _ref(trial)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def find(*, after: object, limit: object) -> Verb[list[TrialRecord]]:
    """Read a page of trials, newest first."""
    begin = None if after is None else intake.identifier(after, name="after")
    most = page_size(limit)
    return single(lambda conn: Effect(rows.find(conn, after=begin, limit=most)))


def summary(trial: object) -> Verb[TrialSummary]:
    """Read what the trial shows so far, or has shown in the end."""
    wanted = _ref(trial)
    return single(lambda conn: Effect(rows.summary(conn, rows.get(conn, wanted))))


def results(trial: object, *, after: object, limit: object) -> Verb[list[TrialResult]]:
    """Read a page of turns, each as it was answered, and as it is now."""
    wanted, most = _ref(trial), page_size(limit)
    line = whole(after, name="after", least=0, most=_MOST_LINES)

    def on(conn: Connection) -> Effect[list[TrialResult]]:
        record = rows.get(conn, wanted)
        return Effect(trial_results.results(conn, record, after=line, limit=most))

    return single(on, shows=Shown("trial", "session", _shown))


def _shown(found: list[TrialResult]) -> set[Any]:
    sides = [side for one in found for side in (one.before, one.after)]
    return {side.session_id for side in sides if side is not None and side.text is not None}


def mark_cancelled(trial: object) -> Verb[TrialRecord]:
    """Ask nobody any more."""
    wanted = _ref(trial)

    def on(conn: Connection) -> Effect[TrialRecord]:
        before = rows.get(conn, wanted)
        return Effect(rows.mark_cancelled(conn, before.id), changed=not before.is_over)

    return transaction(on, does=Deed("trial.cancelled", made=lambda one: {"trial": one.id}))


def cancel_page(batch_id: BatchId, _after_line: int = 0) -> Verb[batch_moves.Page | None]:
    """End a page of turns of one of its batches; None: nothing is left."""

    def on(conn: Connection) -> Effect[batch_moves.Page | None]:
        page = batch_moves.cancel_page(conn, batch_id)
        return Effect(page, () if page is None else page.heads)

    return transaction(on)


def step(trial_id: UUID) -> Verb[judging.Step]:
    """Take the next step of a trial, where one is due."""
    return transaction(lambda conn: Effect(judging.step(conn, trial_id)))


def _ref(trial: object) -> UUID | str:
    if isinstance(trial, TrialRecord):
        return trial.id
    found = intake.bare(trial)
    name = check_name(found, name="trial") if isinstance(found, str) else ""
    as_id = as_uuid(name) if name else intake.identifier(found, name="trial")
    return name if as_id is None else as_id

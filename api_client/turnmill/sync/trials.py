# Made from aio/trials.py by `make sync`: change that.
"""Trials: stored turns, asked again with another model or other settings."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from turnmill.actor import actor_of
from turnmill.domain.arguments import wait_seconds
from turnmill.domain.errors import BatchTimeout, SessionBusy, StoreUnavailable
from turnmill.domain.ids import BatchId
from turnmill.executor.thread import Executor, aside, knowing, pause
from turnmill.listening.watchlist import Deadline
from turnmill.store.analytics.judging import Step
from turnmill.store.trial_records import TrialEstimate, TrialRecord, TrialResult, TrialSummary
from turnmill.verbs.analytics import trials
from turnmill.verbs.analytics.trials import TrialRef

_SHORTEST_POLL = 0.25
_LONGEST_POLL = 5.0


class Trials:
    """`client.trials`: what another model, or other settings, would have made of the same turns."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def start(
        self,
        model: str,
        *,
        provider: str | None = None,
        sample: int = 200,
        since: str | datetime | timedelta = "7d",
        template: str | None = None,
        settings: Mapping[str, Any] | None = None,
        judge: str | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        judge_share: float = trials.JUDGES_SHARE,
        mode: str = "auto",
        name: str | None = None,
    ) -> TrialRecord:
        """Draw turns that have a reply, and ask each again, with its history as it stood then.

        They run in the bulk lane, in a batch of the trial's own, and in sessions of their own that
        belong to the same users: the sessions that they are of are not touched, and neither are
        budgets of users. A turn of which rows do not tell all that its model was shown is left out;
        `left_out` counts why.

        - `model`: `provider/model`, or the name of a model of `provider`.
        - `sample`: how many turns, up to 5,000; `since`: that ended in this time, as `7d`, `24h`, a
          day, or a moment; `template`: in sessions that were made from it.
        - `settings`: in place of those that each turn's session has; None takes one out.
        - `judge`: who compares the two replies of each turn: `exact`; `embedding:NAME`, a function
          that an installed package registers under `turnmill.judges`; or `model:PROVIDER/MODEL`,
          which is asked twice for each turn, with the replies in either order.
        - `max_cost_usd`: of all of it; `judge_share` of that is for a judging model.
        - `mode`: as of `batches.create`.
        - `name`: the same call with the same name returns the trial that stands.

        Raises InvalidInput, also where no turn can be asked, and Conflict.
        """
        wanted = self._asked(
            model,
            provider=provider,
            sample=sample,
            since=since,
            template=template,
            settings=settings,
            judge=judge,
            max_cost_usd=max_cost_usd,
            judge_share=judge_share,
            mode=mode,
            name=name,
        )
        actor = actor_of(self._executor.settings)
        return self._executor.run(trials.start(wanted, actor=actor))

    @knowing
    def estimate(
        self,
        model: str,
        *,
        provider: str | None = None,
        sample: int = 200,
        since: str | datetime | timedelta = "7d",
        template: str | None = None,
        settings: Mapping[str, Any] | None = None,
        judge: str | None = None,
    ) -> TrialEstimate:
        """Say what a trial would ask and cost, with the arguments of `start`; start nothing.

        Turns are drawn as for a trial, which will draw others. They are priced by the tokens that
        they have taken; that another model counts otherwise, or answers at another length, is not
        known before it was asked.
        """
        wanted = self._asked(
            model,
            provider=provider,
            sample=sample,
            since=since,
            template=template,
            settings=settings,
            judge=judge,
            max_cost_usd=None,
            judge_share=trials.JUDGES_SHARE,
            mode="auto",
            name=None,
        )
        typical = self._executor.run(trials.typical())
        pricer = aside(trials.pricer, self._executor.settings, typical)
        return self._executor.run(trials.estimate(wanted, pricer))

    def _asked(self, model: object, **said: Any) -> trials.TrialPlan:
        return trials.asked(model, **said)

    def get(self, trial: TrialRef) -> TrialRecord:
        """Return the trial of this id or name, or raise TrialNotFound."""
        return self._executor.run(trials.get(trial))

    def list(self, *, after: UUID | None = None, limit: int = 100) -> list[TrialRecord]:
        """Return up to `limit` trials, newest first; `after` is the last id of the page before."""
        return self._executor.run(trials.find(after=after, limit=limit))

    def summary(self, trial: TrialRef) -> TrialSummary:
        """Return what the trial shows so far; once it has ended, what it has shown then."""
        return self._executor.run(trials.summary(trial))

    def results(
        self, trial: TrialRef, *, after: int = 0, limit: int = 100
    ) -> Sequence[TrialResult]:
        """Return up to `limit` turns, as they were answered and as they are now, side by side.

        `after` is the last line of the page before. A turn that was deleted, or whose user was, is
        not among them any more.
        """
        return self._executor.run(trials.results(trial, after=after, limit=limit))

    def wait(self, trial: TrialRef, *, timeout: float | timedelta | None = None) -> TrialRecord:
        """Wait until the trial has ended, at most `timeout` (seconds or timedelta).

        Raises BatchTimeout, which leaves the trial running. Whoever waits takes its steps as they
        come due, and so does beat, once a minute; functions of `embedding` are called by workers
        alone.
        """
        deadline, interval = Deadline(wait_seconds(timeout)), _SHORTEST_POLL
        record = self.get(trial)
        while not record.is_over:
            with suppress(StoreUnavailable, SessionBusy):
                while self._executor.run(trials.step(record.id)) is Step.AGAIN:
                    pass
                record = self.get(record)
            if record.is_over:
                break
            if deadline.passed:
                raise BatchTimeout(
                    f"trial {record.id} goes on: it is {record.state}",
                    hint="call wait() again, or look with `turnmill trials show ID`",
                )
            pause(min(interval, deadline.left))
            interval = min(2 * interval, _LONGEST_POLL)
        return record

    def cancel(self, trial: TrialRef) -> TrialRecord:
        """Ask nobody any more, nor the judge; what there is by then stays, and is summed up."""
        record = self._executor.run(trials.mark_cancelled(trial))
        for batch_id in (record.batch_id, record.judge_batch_id):
            if batch_id is not None:
                self._end(batch_id)
        return record

    def _end(self, batch_id: BatchId) -> None:
        while self._executor.run(trials.cancel_page(batch_id)) is not None:
            pass

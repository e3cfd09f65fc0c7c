# Made from aio/experiments.py by `make sync`: change that.
"""Experiments: a share of new sessions gets another set-up, and both are compared."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from turnmill.executor.thread import Executor, knowing
from turnmill.store.analytics.experiments import ArmOf
from turnmill.store.trial_records import ExperimentRecord, ExperimentResult
from turnmill.verbs.analytics import experiments
from turnmill.verbs.analytics.experiments import ExperimentRef
from turnmill.verbs.refs import SessionRef


class Experiments:
    """`client.experiments`: the other set-up is for some users, and always for the same ones."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def start(
        self,
        template: str,
        *,
        settings: Mapping[str, Any] | None = None,
        provider: str | None = None,
        model: str | None = None,
        version: int | None = None,
        share: float = 0.1,
        name: str | None = None,
    ) -> ExperimentRecord:
        """From now on, give a share of the users of a template another set-up in new sessions.

        All new sessions of a user get the same one, and none is changed later. Sessions that name a
        version of the template, `support@3`, take no part.

        - `provider`, `model`, `settings`: in place of what the template says; of settings, None
          takes one out. `version`: another version of the template, its prompt included.
        - `share`: of users, between 0 and 1.
        - `name`: the same call with the same name returns the experiment that stands.

        Raises InvalidInput, TemplateNotFound, and Conflict: one runs with a template at a time.
        """
        verb = experiments.start(
            template,
            settings=settings,
            provider=provider,
            model=model,
            version=version,
            share=share,
            name=name,
        )
        return self._executor.run(verb)

    def get(self, experiment: ExperimentRef) -> ExperimentRecord:
        """Return the experiment of this id or name, or raise ExperimentNotFound."""
        return self._executor.run(experiments.get(experiment))

    def list(self, *, after: UUID | None = None, limit: int = 100) -> list[ExperimentRecord]:
        """Return up to `limit` experiments, newest first; `after` is the last id of a page."""
        return self._executor.run(experiments.find(after=after, limit=limit))

    def stop(self, experiment: ExperimentRef) -> ExperimentRecord:
        """Let new sessions be as their template says; those that took part stay as they are."""
        return self._executor.run(experiments.stop(experiment))

    def result(self, experiment: ExperimentRef) -> ExperimentResult:
        """Compare what the sessions of both set-ups came to until now, by users.

        The intervals hold however often somebody looks: to stop as soon as one leaves 0 out is
        sound. Where a side has fewer than eight users there is none.
        """
        return self._executor.run(experiments.result(experiment))

    def arm_of(self, session: SessionRef) -> ArmOf | None:
        """Return which set-up a session was given, and by which experiment; None: by none."""
        return self._executor.run(experiments.arm_of(session))

"""Experiments: `client.experiments`, a share of new sessions gets another set-up."""

from typing import Any
from uuid import UUID

from turnmill.domain.analytics.experiments import share_given
from turnmill.domain.arguments import page_size, whole
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import as_uuid
from turnmill.domain.session_settings import checked_settings
from turnmill.domain.templates import TemplateRef, ref_given
from turnmill.new_ids import new_id
from turnmill.store.analytics import experiments as rows
from turnmill.store.analytics.experiments import ArmOf
from turnmill.store.nouns import templates
from turnmill.store.trial_records import ExperimentRecord, ExperimentResult, NewExperiment
from turnmill.verbs import intake
from turnmill.verbs.installed import refuse_provider
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction

#: An experiment as `client.experiments` has returned it, its id, or its name.
ExperimentRef = ExperimentRecord | UUID | str

_MOST_VERSIONS = 2**31 - 1
_HINT = 'model="gpt-5-nano", settings={"temperature": 0}, or version=4'


def start(
    template: object,
    *,
    settings: object,
    provider: object,
    model: object,
    version: object,
    share: object,
    name: object,
) -> Verb[ExperimentRecord]:
    """Let new sessions of a template take part."""
    ref = ref_given(template)
    if ref.version is not None:
        raise InvalidInput(
            "an experiment is with a template, not with one version of it",
            hint=f'"{ref.name}"; version= is that of the other set-up',
        )
    found = checked_settings(settings)
    experiment_id = UUID(str(new_id()))
    new = NewExperiment(
        id=experiment_id,
        name=f"{ref.name[:150]}-{experiment_id.hex[-8:]}"
        if name is None
        else check_name(name, name="name"),
        template=ref.name,
        version=None if version is None else whole(version, name="version", most=_MOST_VERSIONS),
        provider=intake.name_or_none(provider, name="provider"),
        model=intake.name_or_none(model, name="model"),
        settings=found,
        share=share_given(share),
    )
    if new.provider is not None:
        refuse_provider(new.provider, what="provider")
    intake.refuse_strangers(found)
    if not (found or new.version or new.provider or new.model):
        raise InvalidInput("the other set-up is the usual one", hint=_HINT)

    def on(conn: Connection) -> Effect[ExperimentRecord]:
        templates.get(conn, TemplateRef(new.template, new.version), hold=True)
        return Effect(rows.start(conn, new))

    return transaction(on, does=Deed("experiment.started", made=_as_object))


def get(experiment: object) -> Verb[ExperimentRecord]:
    """Read the experiment of this id or name."""
    wanted = _ref(experiment)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def find(*, after: object, limit: object) -> Verb[list[ExperimentRecord]]:
    """Read a page of experiments, newest first."""
    begin = None if after is None else intake.identifier(after, name="after")
    most = page_size(limit)
    return single(lambda conn: Effect(rows.find(conn, after=begin, limit=most)))


def stop(experiment: object) -> Verb[ExperimentRecord]:
    """Let new sessions be as their template says again."""
    wanted = _ref(experiment)

    def on(conn: Connection) -> Effect[ExperimentRecord]:
        before = rows.get(conn, wanted)
        return Effect(rows.stop(conn, before.id), changed=before.stopped_at is None)

    return transaction(on, does=Deed("experiment.stopped", made=_as_object))


def result(experiment: object) -> Verb[ExperimentResult]:
    """Compare the two arms as they are now."""
    wanted = _ref(experiment)
    return single(lambda conn: Effect(rows.result(conn, rows.get(conn, wanted))))


def arm_of(session: SessionRef) -> Verb[ArmOf | None]:
    """Read which set-up a session was given; None where it takes part in nothing."""

    def on(conn: Connection) -> Effect[ArmOf | None]:
        return Effect(rows.arm_of_session(conn, session_id(conn, session)))

    return single(on)


def _as_object(experiment: ExperimentRecord) -> dict[str, object]:
    return {"experiment": experiment.id}


def _ref(experiment: Any) -> UUID | str:
    if isinstance(experiment, ExperimentRecord):
        return experiment.id
    found = intake.bare(experiment)
    name = check_name(found, name="experiment") if isinstance(found, str) else ""
    as_id = as_uuid(name) if name else intake.identifier(found, name="experiment")
    return name if as_id is None else as_id

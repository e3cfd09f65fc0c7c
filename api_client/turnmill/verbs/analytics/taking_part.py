"""New sessions that take part in an experiment: which set-up each of them gets."""

from dataclasses import dataclass
from typing import Any

from turnmill.domain.analytics.experiments import Arm
from turnmill.domain.ids import SessionId
from turnmill.domain.session_settings import merged_settings
from turnmill.domain.templates import TemplateRef
from turnmill.store.analytics import experiments as rows
from turnmill.store.trial_records import ExperimentRecord
from turnmill.verbs.verb import Connection


@dataclass(frozen=True, slots=True)
class Part:
    """What a session is in an experiment."""

    experiment: ExperimentRecord
    arm: Arm

    def version_of(self, ref: TemplateRef) -> TemplateRef:
        """Return the version of the template that the session is made from."""
        if self.arm is Arm.USUAL or self.experiment.version is None:
            return ref
        return TemplateRef(ref.name, self.experiment.version)

    def put(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return what the template says, and in its place what the experiment says."""
        if self.arm is Arm.USUAL:
            return said
        other = {name: getattr(self.experiment, name) for name in ("provider", "model")}
        settings = merged_settings(said["settings"], self.experiment.settings)
        return {**said, **{k: v for k, v in other.items() if v is not None}, "settings": settings}

    def note(self, conn: Connection, session_id: SessionId) -> None:
        """Write it down, in the transaction that makes the session."""
        rows.note_arm(conn, session_id, self.experiment, self.arm)


def taken_part(conn: Connection, ref: TemplateRef, user_id: str) -> Part | None:
    """Return the part of a session of this user's; None where no experiment runs with the template.

    Whoever names a version gets that one.
    """
    if ref.version is not None:
        return None
    experiment = rows.running_with(conn, ref.name)
    return None if experiment is None else Part(experiment, rows.arm_for(experiment, user_id))

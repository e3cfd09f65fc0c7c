"""Records of trials and experiments: what they are, and what they came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from turnmill.domain.analytics.differences import Difference, Proportion
from turnmill.domain.analytics.experiments import Arm
from turnmill.domain.analytics.judging import JudgeVerdict, TrialState
from turnmill.domain.batches import BatchMode
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import TurnState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrial:
    """A trial to be started."""

    id: UUID
    name: str
    batch_id: BatchId
    provider: str
    model: str
    settings: Mapping[str, Any] = field(repr=False)  #: in place of those of each turn's session
    judge: str  #: empty: nobody compares replies
    since: datetime
    until: datetime
    template: str | None
    sample: int
    mode: str  #: of its batches, or `auto`
    max_cost_usd: Decimal | None
    judge_usd: Decimal | None  #: of that, the judge's


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial as it stands."""

    id: UUID
    name: str
    state: TrialState
    batch_id: BatchId  #: in which turns are asked again
    judge_batch_id: BatchId | None  #: in which a model compares the replies
    provider: str
    model: str
    settings: Mapping[str, Any] = field(repr=False)
    judge: str
    since: datetime  #: turns that ended from then on were drawn from
    template: str | None
    sampled: int  #: turns that are asked again
    left_out: Mapping[str, int]  #: why turns that were drawn are not among them, and how many
    max_cost_usd: Decimal | None
    judge_usd: Decimal | None
    outcome: Mapping[str, Any] | None = field(repr=False)  #: figures, once it has ended
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will come of it."""
        return self.ended_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A turn that may be asked again."""

    turn_id: TurnId
    session_id: SessionId
    user_id: str = field(repr=False)
    input_tokens: int | None  #: that it has taken
    output_tokens: int | None
    cost_usd: Decimal | None


class Sample(NamedTuple):
    """Turns that were drawn."""

    turns: list[Drawn]
    left_out: dict[str, int]  #: reason → how many were drawn that cannot be asked again


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSide:
    """How a turn was answered."""

    turn_id: TurnId
    session_id: SessionId
    state: TurnState
    text: str | None = field(repr=False)  #: None: there is no reply, or it cannot be read
    model: str  #: "provider/model"
    cost_usd: Decimal | None
    latency_ms: int | None  #: that the provider took; None: it is not known, as in its own batch
    input_tokens: int | None
    output_tokens: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One turn of a trial: how it was answered, how it is now, and what the judge says."""

    line: int
    user_id: str = field(repr=False)
    before: TrialSide | None  #: None: it is gone
    after: TrialSide | None  #: None: it was not asked again yet, or could not be
    error_code: str | None  #: why it could not be
    verdict: JudgeVerdict
    agreement: float | None  #: from 0 to 1
    preferred: str | None  #: before, after or neither
    swayed: bool | None  #: the judge says otherwise when the order is another one
    judge_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSummary:
    """What a trial shows so far, or in the end; see `Difference` for what an interval means."""

    asked: int  #: turns that were asked again, and have ended
    answered: int  #: of those, that have a reply
    failed: int
    failures: Mapping[str, int]  #: code → how many
    cost_usd: Difference  #: of a turn
    latency_ms: Difference
    output_tokens: Difference
    characters: Difference  #: of a reply
    agreement: Proportion
    judged: int
    unjudged: Mapping[str, int]  #: why others were not: verdict, or the judge's code
    preferred: Mapping[str, int]  #: before, after, neither
    swayed: int  #: of the judged, by the order of the replies
    spent_usd: Decimal  #: on asking again
    judge_usd: Decimal  #: on judging


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEstimate:
    """What a trial would ask and cost, before it is started; a judge comes on top."""

    turns: int
    users: int
    left_out: Mapping[str, int]
    input_tokens: int  #: as these turns have taken, by their vendor's count
    output_tokens: int
    before_usd: Decimal | None  #: what they have cost; None: of one that is not known
    modes: Mapping[BatchMode, Decimal | None]  #: what they would cost; None: nobody knows
    judge_usd: Decimal | None  #: what a judging model would cost about; None: nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a trial that has ended shows, for whoever suggests something by it."""

    trial_id: UUID
    name: str
    provider: str
    model: str
    settings: Mapping[str, Any] | None = field(repr=False)  #: None: they cannot be opened here
    template: str | None
    judge: str
    since: datetime
    ended_at: datetime
    summary: TrialSummary
    #: That its turns had asked; None: not written down.
    models_before: Sequence[str] | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExperiment:
    """An experiment to be started."""

    id: UUID
    name: str
    template: str
    version: int | None
    provider: str | None
    model: str | None
    settings: Mapping[str, Any] = field(repr=False)
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord:
    """An experiment as it stands."""

    id: UUID
    name: str
    template: str
    version: int | None  #: of the template, that the other arm has; None: the current one
    provider: str | None  #: of the other arm; None: as the template says
    model: str | None
    settings: Mapping[str, Any] = field(repr=False)
    share: float  #: of users that get the other set-up
    created_at: datetime
    stopped_at: datetime | None

    @property
    def is_running(self) -> bool:
        """Tell whether new sessions take part."""
        return self.stopped_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFigures:
    """What the sessions of one arm came to."""

    arm: Arm
    users: int
    sessions: int
    turns: int  #: that have ended
    failed: int  #: of those, failed or dead
    cost_usd: Decimal  #: as far as it is known
    versions: Mapping[int, int]  #: of the template → sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """How the two arms compare, by users; the intervals may be looked at at any time."""

    experiment: ExperimentRecord
    usual: ArmFigures
    other: ArmFigures
    cost_usd: Difference  #: of a turn that has ended
    latency_seconds: Difference  #: from being sent to the reply
    failures: Difference  #: share of turns that have ended
    turns: Difference  #: of a session
    feedback: Difference  #: mean score of what was rated, from -1 to 1

"""What a report holds: figures of a window and of the one before it, as they are shown and written.

Plain data. Whatever is None or empty here is said on the page to be unknown, or to be nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from turnmill.domain.analytics.windows import Grain


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What turns came to that became final in a span of time, with all their attempts."""

    turns: int = 0
    succeeded: int = 0
    failed: int = 0  #: dead ones are counted apart
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    attempts: int = 0
    retries: int = 0  #: calls beyond the first one of each turn
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  #: of the input, read from the vendor's cache
    cost_usd: Decimal = Decimal(0)  #: of attempts whose price is known
    waste_usd: Decimal = Decimal(0)  #: of it, of attempts that came to nothing
    unpriced_attempts: int = 0

    @property
    def lost(self) -> int:
        """Return how many turns failed or died."""
        return self.failed + self.dead

    @property
    def judged(self) -> int:
        """Return how many turns either succeeded or came to nothing: none was cut short."""
        return self.succeeded + self.failed + self.dead

    @property
    def failure_rate(self) -> float | None:
        """Return the share of `judged` that failed or died; None: there are none."""
        return self.lost / self.judged if self.judged else None

    @property
    def cached_share(self) -> float | None:
        """Return the share of the input that was read from a cache; None: there is no input."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else None

    @property
    def known_usd(self) -> Decimal | None:
        """Return what is known of the cost; None: there were calls, and nothing has a price."""
        return None if self.unpriced_attempts and not self.cost_usd else self.cost_usd

    @property
    def known_waste_usd(self) -> Decimal | None:
        """Return what is known of the waste; None as `known_usd` is."""
        return None if self.known_usd is None else self.waste_usd

    @property
    def usd_per_turn(self) -> Decimal | None:
        """Return what a turn cost on average; None: there are none, or nothing has a price."""
        return None if self.known_usd is None or not self.turns else self.known_usd / self.turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One span of the window, and the one at the same place of the window before."""

    at: datetime  #: when it begins, in UTC
    until: datetime  #: when it ends; the last one is cut where the window ends
    now: Figures
    before: Figures | None = None  #: None: nothing is known of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The turns that have something in common."""

    name: str  #: "" for those that have none
    of: str = ""  #: to whom it belongs: of a model, its provider
    now: Figures
    before: Figures | None = None
    #: The cost of each `Point` of the report, in their order. Empty: it is not told apart by time.
    costs_usd: Sequence[Decimal] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How long it took: half of the turns at most `p50_ms`, 95 of a hundred at most `p95_ms`."""

    count: int  #: of turns that have such a time
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """One of the times that turns take, of interactive ones."""

    of: str  #: queued, first_token, provider or total
    model: str = ""  #: of whose turns; "": of all
    provider: str = ""
    now: Span | None  #: None: no turn has such a time
    before: Span | None = None
    #: Median and 95th percentile of each `Point`; None where no turn has such a time.
    points: Sequence[Span | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why turns came to nothing."""

    code: str
    turns: int
    dead: int  #: of them; the others failed for good at the first time of asking
    sessions: int
    before: int | None = None  #: turns in the window before; None: unknown


class Metric(StrEnum):
    """What may be out of the ordinary."""

    COST = "cost"
    TURNS = "turns"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A span whose figure is far from what its hours of the week come to otherwise."""

    metric: Metric
    at: datetime
    until: datetime
    value: float
    expected: float

    @property
    def is_above(self) -> bool:
        """Tell whether there was more than expected."""
        return self.value > self.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLine:
    """A session that stands out. Its id and figures; whose it is, a report never says."""

    session_id: UUID
    provider: str
    model: str
    turns: int  #: that ended in the window
    cost_usd: Decimal
    longest_ms: float | None = None  #: the longest that one of them took, from accept to end
    unpriced_turns: int = 0  #: of the turns, those whose cost is not known, and not in it


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """An alert that is open, or was in the window."""

    rule: str
    subject: str
    opened_at: datetime
    closed_at: datetime | None
    what: str  #: in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """A budget in its period, and what it will come to if things go on as they do."""

    name: str  #: of what it bounds; of a user's or session's: its id alone
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    forecast_usd: Decimal | None  #: None: too little of the period is over
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """What users said of replies, and what an estimate makes of conversations that nobody rated."""

    rated: int  #: turns with feedback
    score: float | None  #: the mean of it, from -1 to 1
    good: int  #: of the rated: above 0
    bad: int  #: below 0
    estimated: int = 0  #: sessions with an estimate and no feedback
    estimate: float | None = None  #: the mean of it
    before: float | None = None  #: the mean feedback of the window before


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLine:
    """Something that users talk about, of at least as many as the rule of privacy asks for."""

    terms: Sequence[str] = field(repr=False)
    sessions: int
    users: int
    share: float  #: of all sessions with a topic
    before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourLine:
    """A way in which conversations go wrong, found in rows without a model."""

    name: str
    what: str  #: what it is, in a sentence
    sessions: int
    turns: int
    share: float  #: of the turns of the window


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestionLine:
    """Something to change, with what it would bring and how that is known."""

    title: str = field(repr=False)
    why: str = field(repr=False)  #: the evidence, in a sentence
    saves_usd: Decimal | None  #: in a window as long as this one; None: it is not about money
    gains: str = field(repr=False)  #: what it brings, in words
    confidence: str = field(repr=False)
    setting: str = field(default="", repr=False)  #: what would be set


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLine:
    """A figure of two set-ups, and the interval of their difference at 95 %."""

    of: str  #: cost_usd, latency_ms, failures or feedback
    before: float
    after: float
    low: float | None  #: None: there is too little to say
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Tell whether the interval leaves no difference out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedLine:
    """A trial that has ended in the window, or an experiment that new sessions took part in."""

    name: str = field(repr=False)
    before: str  #: the set-up that there was: models, or a template
    after: str  #: what was tried instead
    turns: int  #: that were asked again; of an experiment, that the other set-up had
    users: int  #: whose they are
    agreement: float | None = None  #: the share of replies that say the same; None: nobody judged
    agreement_low: float | None = None
    agreement_high: float | None = None
    figures: Sequence[MeasuredLine] = ()  #: none: there is nothing to compare yet


class Section(StrEnum):
    """Parts of a report that may be missing, and then say why."""

    FEEDBACK = "feedback"
    TOPICS = "topics"
    BEHAVIOURS = "behaviours"
    SUGGESTIONS = "suggestions"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """A report, whole: what is shown as a page, and written as JSON."""

    since: datetime
    until: datetime  #: the end, not included
    zone: str  #: whose days these are
    made_at: datetime
    whole_until: datetime | None  #: until when turns are in it; None: none were added up yet
    tag: str = ""  #: under which key of metadata sessions are told apart; "": they are not
    grain: Grain  #: of the points
    now: Figures
    before: Figures | None = None  #: of the window before; None: nothing is known of it
    #: When the first quarter of an hour began of which there are figures at all; None: none.
    known_since: datetime | None = None
    points: Sequence[Point] = ()
    models: Sequence[Group] = ()  #: the dearest first, as all groups
    lanes: Sequence[Group] = ()
    tiers: Sequence[Group] = ()
    tags: Sequence[Group] = ()
    #: Turns in an hour, on average: seven days from Monday on, of 24 hours each. Empty: unknown.
    week: Sequence[Sequence[float]] = ()
    durations: Sequence[Duration] = ()
    reasons: Sequence[Reason] = ()
    anomalies: Sequence[Anomaly] = ()
    dearest: Sequence[SessionLine] = ()
    slowest: Sequence[SessionLine] = ()
    alerts: Sequence[AlertLine] = ()
    budgets: Sequence[BudgetLine] = ()
    feedback: Felt | None = None
    topics: Sequence[TopicLine] | None = None  #: None: missing, as the next two
    behaviours: Sequence[BehaviourLine] | None = None
    suggestions: Sequence[SuggestionLine] | None = None
    saves_usd: Decimal | None = None  #: what they come to; less than their sum where they overlap
    trials: Sequence[ComparedLine] = ()
    experiments: Sequence[ComparedLine] = ()
    missing: Mapping[Section, str] = field(default_factory=dict, repr=False)  #: why a section is
    notes: Sequence[str] = field(default=(), repr=False)  #: bounds that were hit, in sentences

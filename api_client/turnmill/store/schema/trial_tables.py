"""The tables of trials, which ask stored turns again, and of experiments with new sessions."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from turnmill.domain.analytics.experiments import Arm
from turnmill.domain.analytics.judging import JudgeVerdict, TrialState
from turnmill.store.dollars import Dollars
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.feedback_tables import metadata as metadata  # whole with these only
from turnmill.store.sealed_types import SealedSettings
from turnmill.store.types import Json, Timestamp, Word, db_now

# What is asked, and asked of the judge, are batches of the trial's own.
trials = Table(
    "trials",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Word, nullable=False, server_default=TrialState.ASKING),
    Column("batch_id", Uuid, nullable=False),
    Column("judge_batch_id", Uuid),  # NULL: no model judges, or not yet
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column(  # in place of theirs
        "settings",
        SealedSettings("trials", "settings", row=("id",)),
        nullable=False,
        server_default=text("'{}'"),
    ),
    Column("judge", Text, nullable=False, server_default=""),  # exact, embedding:NAME, model:NAME
    Column("since", Timestamp, nullable=False),
    Column("template", Text),  # of sessions made from it alone; NULL: of all
    Column("sampled", Integer, nullable=False),
    Column("left_out", Json, nullable=False, server_default=text("'{}'")),  # reason → how many
    Column("max_cost_usd", Dollars()),  # of all of it
    Column("judge_usd", Dollars()),  # of that, the judge's
    Column("outcome", Json),  # figures of all of it, when it has ended; no content
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("ended_at", Timestamp),
    UniqueConstraint("name"),
    one_of("state", TrialState),
    CheckConstraint("(ended_at IS NULL) = (state IN ('asking', 'judging'))", name="ended_is_over"),
)
_OPEN = text("ended_at IS NULL")
Index("ix_trials_open", trials.c.id, postgresql_where=_OPEN, sqlite_where=_OPEN)
Index("ix_trials_batch_id", trials.c.batch_id, unique=True)
_JUDGED = text("judge_batch_id IS NOT NULL")
Index(
    "ix_trials_judge_batch_id",
    trials.c.judge_batch_id,
    unique=True,
    postgresql_where=_JUDGED,
    sqlite_where=_JUDGED,
)

# A turn that is asked again: it goes when that turn goes, and what it was asked goes with it. Of
# the judge's batch, lines 2n - 1 and 2n are this one's, one for each order of the two replies.
trial_lines = Table(
    "trial_lines",
    metadata,
    Column("trial_id", Uuid, ForeignKey("trials.id", ondelete="CASCADE"), nullable=False),
    Column("line", BigInteger, nullable=False),  # of the batch, from 1
    Column("turn_id", Uuid, nullable=False),  # that is asked again
    Column("session_id", Uuid, nullable=False),  # of that turn
    Column("user_id", Text, nullable=False),
    Column("verdict", Text, nullable=False, server_default=JudgeVerdict.OPEN),
    Column("claim", Uuid),  # of who judges it, or has done so
    Column("claimed_at", Timestamp),
    Column("agreement", Float),  # from 0 to 1; NULL: nobody has said
    Column("preferred", Text),  # before, after or neither; NULL: nobody was asked
    Column("swayed", Boolean),  # the judge has said otherwise when the order was another one
    Column("error_code", Text),  # why nobody could judge it
    PrimaryKeyConstraint("trial_id", "line"),
    one_of("verdict", JudgeVerdict),
    CheckConstraint("agreement BETWEEN 0 AND 1", name="agreement_is_a_share"),
    CheckConstraint("preferred IN ('before', 'after', 'neither')", name="preferred_known"),
)
Index("ix_trial_lines_session_id", trial_lines.c.session_id)
Index("ix_trial_lines_turn_id", trial_lines.c.turn_id)
Index("ix_trial_lines_user_id", trial_lines.c.user_id)

experiments = Table(
    "experiments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("template", Text, nullable=False),
    Column("version", Integer),  # of the template, that the other arm has; NULL: the current one
    Column("provider", Text),  # of the other arm; NULL: as the template says, and so is the next
    Column("model", Text),
    Column(  # in place of its
        "settings",
        SealedSettings("experiments", "settings", row=("id",)),
        nullable=False,
        server_default=text("'{}'"),
    ),
    Column("share", Float, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    Column("stopped_at", Timestamp),  # NULL: new sessions take part
    UniqueConstraint("name"),
    CheckConstraint("share > 0 AND share < 1", name="share_is_a_part"),
)
_RUNS = text("stopped_at IS NULL")
Index(
    "uq_experiments_one_of_template",
    experiments.c.template,
    unique=True,
    postgresql_where=_RUNS,
    sqlite_where=_RUNS,
)

# Which set-up a session got, when it was made.
session_arms = Table(
    "session_arms",
    metadata,
    Column("session_id", Uuid, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("experiment_id", Uuid, ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("arm", Text, nullable=False),
    PrimaryKeyConstraint("session_id"),
    one_of("arm", Arm),
)
Index("ix_session_arms_experiment_id", session_arms.c.experiment_id, session_arms.c.arm)

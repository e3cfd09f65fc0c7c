"""What belongs to a session, or to a user: every table that names one, and how its rows go.

Whoever adds a table adds a line here: to `BELONGINGS`, where it names a session, a turn or a user,
else to `OF_NOBODY` or `OF_THE_HOUSE`. A test holds the three equal to the tables. Deletion,
purging, content-only retention and the report of a deletion read the first, and nothing else.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, or_, select

from turnmill.domain.budgets import Scope
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.schema.audit_tables import audit_subjects
from turnmill.store.schema.batch_tables import batch_lines, reuse_keys
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.erasure_tables import erasures, holds
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.file_tables import attachment_uses, attachments, file_usage
from turnmill.store.schema.hook_tables import deliveries, observed
from turnmill.store.schema.house_tables import announcements, wishes
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.key_tables import data_keys
from turnmill.store.schema.life_tables import tombstones, user_retention
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.schema.people_tables import (
    notes,
    participants,
    shared_log,
    shared_sessions,
    turn_senders,
)
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import attempts, batches, messages, sessions, turns
from turnmill.store.schema.topic_tables import session_topics
from turnmill.store.schema.trial_tables import session_arms, trial_lines
from turnmill.store.types import id_text

_SEEN = sessions.c.status != SessionStatus.DELETED


class Goes(StrEnum):
    """How the rows go that a session leaves."""

    BY_KEY = "by_key"  #: in the commit that removes the session, by a foreign key
    BY_NAME = "by_name"  #: in the same commit, by a statement of their own
    ELSEWHERE = "elsewhere"  #: when it is deleted where it lies too; asked for until it is
    WITH_USER = "with_user"  #: a user's, whatever becomes of a session
    LATER = "later"  #: ids and figures alone: upkeep removes them when nobody needs them


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """A table of what belongs to sessions or users."""

    table: Table
    goes: Goes
    session: Column[Any] | None = None  #: names the session
    turn: Column[Any] | None = None  #: names the turn
    user: Column[Any] | None = None  #: names the user
    user_which: ColumnElement[bool] | None = None  #: where only some of the rows are users'
    which: ColumnElement[bool] | None = None  #: where only some of the rows are sessions'
    #: Of a user's row in somebody else's session: what its columns become. Empty: the row goes.
    redacted: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_sender: bool = False  #: `user` has said what `turn` answers, in whosever session
    by_text: bool = False  #: `session` holds the id as a text
    #: Columns that hold what was said: what they are without it. Emptied with the turn's content.
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of_sessions(self, session_ids: Collection[SessionId]) -> ColumnElement[bool]:
        """Return which rows are of these sessions."""
        if self.session is not None:
            ids = [str(one) if self.by_text else one for one in session_ids]
            found: ColumnElement[bool] = self.session.in_(ids)
        elif self.turn is not None:
            of = select(turns.c.id).where(turns.c.session_id.in_(list(session_ids)))
            found = self.turn.in_(of)
        else:
            raise ValueError(f"{self.table.name} belongs to no session")
        return found if self.which is None else and_(self.which, found)

    def of_user_alone(self, user_id: str) -> ColumnElement[bool]:
        """Return which rows name this user themselves."""
        assert self.user is not None
        found: ColumnElement[bool] = self.user == user_id
        return found if self.user_which is None else and_(self.user_which, found)

    def of_user(self, user_id: str) -> ColumnElement[bool]:
        """Return which rows are of this user, or of sessions of his that somebody can see."""
        if self.table is sessions:
            return and_(self.of_user_alone(user_id), _SEEN)
        found = [] if self.user is None else [self.of_user_alone(user_id)]
        mine = and_(sessions.c.user_id == user_id, _SEEN)
        if self.session is not None and (self.turn is None or self.turn.nullable):
            whose = id_text(sessions.c.id) if self.by_text else sessions.c.id
            of_session = self.session.in_(select(whose).where(mine))
            found.append(of_session if self.which is None else and_(self.which, of_session))
        elif self.turn is not None:
            of_turn = select(turns.c.id).join(sessions, sessions.c.id == turns.c.session_id)
            found.append(self.turn.in_(of_turn.where(mine)))
        return or_(*found)


#: In this order rows go that are removed by name: those that refer to others first.
BELONGINGS: tuple[Belonging, ...] = (
    Belonging(
        table=messages,
        goes=Goes.BY_KEY,
        session=messages.c.session_id,
        turn=messages.c.turn_id,
        content=MappingProxyType({"content": []}),
    ),
    Belonging(
        table=attempts,
        goes=Goes.BY_KEY,
        turn=attempts.c.turn_id,
        content=MappingProxyType({"error_detail": None}),
    ),
    Belonging(
        table=tool_calls,
        goes=Goes.BY_KEY,
        session=tool_calls.c.session_id,
        turn=tool_calls.c.turn_id,
        content=MappingProxyType({"decision": None}),
    ),
    # Of lines that were not fed yet, the user's alone are known: those have no turn.
    Belonging(
        table=batch_lines,
        goes=Goes.BY_NAME,
        turn=batch_lines.c.turn_id,
        user=batch_lines.c.user_id,
        content=MappingProxyType({"content": None}),
    ),
    Belonging(table=batches, goes=Goes.WITH_USER, user=batches.c.user_id),
    Belonging(table=reuse_keys, goes=Goes.WITH_USER, user=reuse_keys.c.user_id),
    Belonging(table=schedules, goes=Goes.BY_KEY, session=schedules.c.session_id),
    Belonging(table=shared_sessions, goes=Goes.BY_KEY, session=shared_sessions.c.session_id),
    # Names of participants are those of users, or of whoever else talks there.
    Belonging(
        table=participants,
        goes=Goes.BY_KEY,
        session=participants.c.session_id,
        user=participants.c.name,
    ),
    Belonging(
        table=shared_log,
        goes=Goes.BY_KEY,
        session=shared_log.c.session_id,
        turn=shared_log.c.turn_id,
        user=shared_log.c.name,
        redacted=MappingProxyType({"name": None}),
    ),
    # What a note says is of no turn: it goes by its own age, see `upkeep.content_retention`.
    Belonging(
        table=notes,
        goes=Goes.BY_KEY,
        session=notes.c.session_id,
        user=notes.c.sender,
        redacted=MappingProxyType({"sender": None, "content": [], "idempotency_key": None}),
    ),
    Belonging(
        table=turn_senders,
        goes=Goes.BY_KEY,
        session=turn_senders.c.session_id,
        turn=turn_senders.c.turn_id,
        user=turn_senders.c.name,
        is_sender=True,
    ),
    # Who is not named is the session's user. What somebody else has said in it is his own.
    Belonging(
        table=feedback,
        goes=Goes.BY_KEY,
        session=feedback.c.session_id,
        turn=feedback.c.turn_id,
        user=feedback.c.name,
        content=MappingProxyType({"comment": None}),
    ),
    # A summary is of many turns: it goes with the first of them, see `upkeep.content_retention`.
    Belonging(table=compactions, goes=Goes.BY_KEY, session=compactions.c.session_id),
    # It is made of all that was said there: it goes with the first of that, see `line.topics`.
    Belonging(table=session_topics, goes=Goes.BY_KEY, session=session_topics.c.session_id),
    # With it goes, as soon as no other use is left, what it is a use of: see `line.attached`.
    Belonging(
        table=attachment_uses,
        goes=Goes.BY_KEY,
        session=attachment_uses.c.session_id,
        turn=attachment_uses.c.turn_id,
    ),
    Belonging(table=attachments, goes=Goes.WITH_USER, user=attachments.c.user_id),
    Belonging(table=file_usage, goes=Goes.WITH_USER, user=file_usage.c.user_id),
    Belonging(table=wishes, goes=Goes.BY_NAME, turn=wishes.c.turn_id),
    # What was asked again goes in the same commit, a session of its own: see `line.copies`.
    Belonging(
        table=trial_lines,
        goes=Goes.BY_NAME,
        session=trial_lines.c.session_id,
        turn=trial_lines.c.turn_id,
        user=trial_lines.c.user_id,
    ),
    Belonging(table=session_arms, goes=Goes.BY_KEY, session=session_arms.c.session_id),
    Belonging(table=announcements, goes=Goes.BY_NAME, session=announcements.c.session_id),
    Belonging(
        table=budgets,
        goes=Goes.BY_NAME,
        session=budgets.c.name,
        by_text=True,
        which=budgets.c.scope == Scope.SESSION.value,
        user=budgets.c.name,
        user_which=budgets.c.scope == Scope.USER.value,
    ),
    Belonging(table=kept_refs, goes=Goes.ELSEWHERE, session=kept_refs.c.session_id),
    Belonging(table=events, goes=Goes.LATER, session=events.c.session_id),
    Belonging(table=observed, goes=Goes.LATER, session=observed.c.session_id),
    Belonging(
        table=deliveries,
        goes=Goes.LATER,
        session=deliveries.c.session_id,
        turn=deliveries.c.turn_id,
    ),
    Belonging(table=charges, goes=Goes.LATER, turn=charges.c.turn_id),
    Belonging(table=turns, goes=Goes.BY_KEY, session=turns.c.session_id),
    Belonging(table=sessions, goes=Goes.BY_NAME, session=sessions.c.id, user=sessions.c.user_id),
    Belonging(table=tombstones, goes=Goes.LATER, session=tombstones.c.session_id),
    Belonging(table=user_retention, goes=Goes.WITH_USER, user=user_retention.c.user_id),
    # First of all, where a user is to be forgotten: nothing that is left of him can be read then.
    Belonging(table=data_keys, goes=Goes.WITH_USER, user=data_keys.c.user_id),
    Belonging(table=holds, goes=Goes.WITH_USER, user=holds.c.user_id),
    Belonging(table=erasures, goes=Goes.LATER, user=erasures.c.user_id),
)

#: Where what somebody says stands, in whosever session: its session, and who said it.
SPOKEN: tuple[tuple[Column[Any], Column[Any]], ...] = (
    (turn_senders.c.session_id, turn_senders.c.name),
    (notes.c.session_id, notes.c.sender),
    (feedback.c.session_id, feedback.c.name),
)

#: Tables whose rows name a turn or a session, and are nobody's: what is in them is of the house.
OF_NOBODY: Mapping[Table, str] = MappingProxyType(
    {
        accounts: "the turn that was refused last: an id, and gone with the account's next word",
        calls_gone: "calls that were under way when their turns went: what comes back is paid for",
        audit_subjects: "whose a pseudonym of the audit log is: `audited_erasure` takes it away",
    }
)

#: All other tables, and why nothing of anybody is in them: no row of theirs is exported or erased.
OF_THE_HOUSE: Mapping[str, str] = MappingProxyType(
    {
        "alerts": "figures that left their bounds, over all users",
        "audit_heads": "hashes of groups of the audit log",
        "audit_log": "who did what, to whose data by a pseudonym: see `audited_erasure`",
        "batch_shards": "a job at a vendor, of many users' lines: deletion comes to it by those",
        "batch_tallies": "how many turns of a batch are in which state",
        "erasure_notes": "that somebody was erased, by a hash",
        "event_log": "how far events have places",
        "event_readers": "who reads events, and how far he is",
        "experiments": "another set-up of a template",
        "job_runs": "when upkeep ran, and what it counted",
        "limits": "how much vendors may be asked",
        "pauses": "lanes and providers that stand still",
        "permits": "calls in flight, by model and worker",
        "price_lists": "names of models that operators have prices of",
        "reports": "that a report was made: figures",
        "resealing": "how far columns are sealed",
        "rollup_days": "figures, in which nobody is named",
        "rollup_marks": "which of them are to be made anew",
        "rollup_state": "how far they are made",
        "rollups": "figures, in which nobody is named",
        "rollups_gone": "figures of what is gone, in which nobody is named",
        "spent_gone": "figures of what is gone, in which nobody is named",
        "subscriptions": "who wants to hear of which events",
        "template_versions": "what operators have written for everybody",
        "templates": "the same, by name",
        "topic_runs": "when topics were looked for, and in how much",
        "topics": "words that five users have said: see `forgetting`",
        "trials": "what turns were asked again of, and how it compared",
        "usage_daily": "figures, in which nobody is named",
        "usage_gone": "figures of what is gone, in which nobody is named",
        "webhooks": "where events are posted to",
    }
)

"""Trials in tests: conversations that were had, turns that are asked again, and judges."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select

from tests import rows, steps
from tests.batch_clients import Told
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.executor.thread import Executor
from turnmill.settings import Settings
from turnmill.store.analytics import judging
from turnmill.store.analytics.judging import Step
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.start_many import start_many
from turnmill.store.records import Accepted, Claim, Settlement
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import TrialRecord
from turnmill.streams.copies import NoCopies
from turnmill.sync.experiments import Experiments
from turnmill.sync.trials import Trials
from turnmill_worker.process.feeding_batches import make_turns
from turnmill_worker.process.tending import tend_batches

OTHER = "mock/other"

#: What a model says to a claim; None: it fails.
Reply = Callable[[Claim], str | None]


def executor_of(store: Database) -> Executor:
    """Return what a client of this store would have."""
    return Executor(store, Told(lambda _: None), NoCopies(), Settings(max_text_bytes=100_000))


def trials_of(store: Database) -> Trials:
    """Return the verbs of a client."""
    return Trials(executor_of(store))


def experiments_of(store: Database) -> Experiments:
    """Return the verbs of a client."""
    return Experiments(executor_of(store))


def had(store: Database, *texts: str, reply: str | None = None, **options: Any) -> list[TurnId]:
    """Have a conversation; each text is a turn that is answered."""
    session = rows.start(store, **options)
    return [said(store, session, text, reply=reply) for text in texts]


def had_by_each(store: Database, users: Iterable[str], *texts: str, reply: str) -> None:
    """Have the same conversation with each of these users, all of them side by side."""
    first, *later = texts
    sessions_of_each = had_at_once(store, dict.fromkeys(users, first), reply=reply)
    for text in later:
        said = [(session, rows.say(text)) for session in sessions_of_each]
        _answered_at_once(store, store.run(accept_many, said), reply)


def had_at_once(
    store: Database, texts: Mapping[str, str], *, reply: str | None = None
) -> list[SessionId]:
    """Have a conversation with each of these users, all of them side by side."""
    new = [(rows.new_session(user_id=user), rows.say(text)) for user, text in texts.items()]
    _answered_at_once(store, store.run(start_many, new), reply)
    return [session.id for session, _ in new]


def _answered_at_once(store: Database, sent: Sequence[Accepted], reply: str | None) -> None:
    claims = steps.take(store, *(one.turn_id for one in sent))
    assert len(claims) == len(sent)
    each = (answered(claim, reply or f"answer to {claim.text}") for claim in claims)
    steps.end_all(store, *each)


def said(store: Database, session: SessionId, text: str, *, reply: str | None = None) -> TurnId:
    """Say something in a session, and have it answered."""
    turn = rows.send(store, session, text)
    claim = steps.take_one(store, turn)
    steps.end_all(store, answered(claim, reply or f"answer to {text}"))
    return turn


def answered(
    claim: Claim, reply: str, *, cost: Decimal = Decimal("0.25"), provider_ms: int = 800
) -> Settlement:
    """Return the verdict on a turn that was answered."""
    said = {"reply": reply, "cost_usd": cost, "priced": True, "provider_ms": provider_ms}
    return steps.verdict(claim, TurnState.SUCCEEDED, **said)


def asked(store: Database, reply: Reply = lambda claim: f"answer to {claim.text}") -> list[Claim]:
    """Make turns of what is to be asked, and have all of them answered; return their claims."""
    make_turns(store)
    seen: list[Claim] = []
    while due := steps.take_due(store, limit=100):
        seen += due
        steps.end_all(store, *(_asked_again(claim, reply(claim)) for claim in due))
        make_turns(store)
    tend_batches(store)
    return seen


def _asked_again(claim: Claim, reply: str | None) -> Settlement:
    if reply is None:
        return steps.verdict(claim, TurnState.FAILED, error_code="broken")
    return answered(claim, reply, cost=Decimal("0.05"), provider_ms=300)


def stepped(store: Database, trial: TrialRecord | UUID) -> Step:
    """Take steps of a trial for as long as there are any to be taken at once."""
    trial_id = trial.id if isinstance(trial, TrialRecord) else trial
    found = Step.AGAIN
    while found is Step.AGAIN:
        with store.begin() as conn:
            found = judging.step(conn, trial_id)
    return found


def lines_of(store: Database, trial: TrialRecord) -> list[Any]:
    """Return the rows of a trial's lines."""
    with store.begin() as conn:
        mine = select(trial_lines).where(trial_lines.c.trial_id == trial.id)
        return list(conn.execute(mine.order_by(trial_lines.c.line)))


def sessions_in(store: Database) -> list[Any]:
    """Return the rows of all sessions."""
    with store.begin() as conn:
        return list(conn.execute(select(sessions).order_by(sessions.c.id)))

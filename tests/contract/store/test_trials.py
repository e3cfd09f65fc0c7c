"""Trials: stored turns are asked again as they were asked, and nothing else notices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, insert, select, update

from tests import rows, steps
from tests.budgeting import ADA, ALL, ask, bound, sums
from tests.trying import OTHER, asked, had, lines_of, said, sessions_in, stepped, trials_of
from turnmill.domain.analytics.judging import JudgeVerdict, TrialState
from turnmill.domain.auditing import Action
from turnmill.domain.batches import BatchMode
from turnmill.domain.errors import Conflict, InvalidInput, TrialNotFound
from turnmill.domain.states import TurnState
from turnmill.store.analytics import conversations, forgetting
from turnmill.store.analytics.judging import Step
from turnmill.store.analytics.trials import findings
from turnmill.store.budget_records import Found
from turnmill.store.database import Database
from turnmill.store.nouns import audit_entries, batch_pauses, sessions
from turnmill.store.nouns.batch_tending import BEYOND_ITS_COST
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.people_tables import shared_sessions, turn_senders
from turnmill.store.schema.tables import messages, turns
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import TrialRecord
from turnmill_worker.process.feeding_batches import make_turns

pytestmark = pytest.mark.usefixtures("sound")


def test_a_turn_is_asked_again_with_its_history_as_it_stood_then(store: Database) -> None:
    session = rows.start(store, system_prompt="Be brief.", settings={"temperature": 0.5})
    said(store, session, "one")
    failed = rows.send(store, session, "never answered")
    steps.end(store, steps.take_one(store, failed), TurnState.FAILED, error_code="broken")
    middle = said(store, session, "two")
    said(store, session, "three")
    record = trials_of(store).start(OTHER, sample=10)
    claims = {claim.text: claim for claim in asked(store)}
    assert (record.sampled, record.left_out) == (3, {})
    again = claims["two"]
    history = [(one.role, one.text) for one in again.history or ()]
    assert history == [("user", "one"), ("assistant", "answer to one")]
    assert (again.provider, again.model) == ("mock", "other")
    assert (again.system_prompt, again.settings) == ("Be brief.", {"temperature": 0.5})
    assert again.session_id != session
    assert {row.turn_id for row in lines_of(store, record)} >= {middle}


def test_the_session_that_a_turn_is_of_is_not_touched(store: Database) -> None:
    had(store, "one", "two")
    (before,) = sessions_in(store)
    record = trials_of(store).start(OTHER, sample=10)
    asked(store)
    assert stepped(store, record) is Step.OVER
    after, *copies = sessions_in(store)
    assert after == before
    assert [copy.user_id for copy in copies] == ["ada", "ada"]
    assert {copy.metadata["trial"] for copy in copies} == {record.name}


def test_settings_of_a_trial_stand_in_the_place_of_those_of_the_session(store: Database) -> None:
    had(
        store,
        "one",
        settings={"temperature": 0.5, "top_p": 0.9},
        fallback=["mock/spare"],
        observers=["log"],
    )
    trials_of(store).start(OTHER, sample=1, settings={"temperature": 0, "top_p": None})
    (claim,) = asked(store)
    assert claim.settings == {"temperature": 0}


def test_what_a_compaction_had_left_out_by_then_is_left_out_again(store: Database) -> None:
    session = rows.start(store, on_context_full="summarise")
    first = said(store, session, "one")
    said(store, session, "two")
    with store.begin() as conn:
        conn.execute(
            insert(compactions).values(
                session_id=session,
                n=1,
                turn_id=first,
                kind="summarise",
                up_to_seq=1,
                turns=1,
                summary=[{"type": "text", "text": "the beginning"}],
            )
        )
    said(store, session, "three")
    trials_of(store).start(OTHER, sample=10)
    claims = {claim.text: claim for claim in asked(store)}
    told = {
        text: [one.text for one in claim.history or () if one.role == "user"]
        for text, claim in claims.items()
    }
    assert told == {"one": [], "two": ["one"], "three": ["two"]}
    with store.begin() as conn:
        kept = conn.execute(
            select(compactions.c.up_to_seq, compactions.c.summary).where(
                compactions.c.session_id == claims["three"].session_id
            )
        ).one()
    assert (kept.up_to_seq, kept.summary[0]["text"]) == (0, "the beginning")


def test_what_cannot_be_asked_as_it_was_is_left_out_and_counted(store: Database) -> None:
    had(store, "fine")
    had(store, "with tools", tools=["weather"])
    had(store, "spoken", settings={"reply_as": "audio"})
    had(store, "kept at the vendor", prompt="pmpt_1")
    (changed,) = had(store, "changed later", key="changed")
    (shared,) = had(store, "of several people")
    (forked,) = had(store, "a fork of such a one")
    (emptied,) = had(store, "whose time is over")
    with store.begin() as conn:
        of = {
            row.id: row.session_id for row in conn.execute(select(turns.c.id, turns.c.session_id))
        }
        conn.execute(insert(shared_sessions).values(session_id=of[shared], last_n=0, last_seq=1))
        said = {"turn_id": forked, "session_id": of[forked], "name": "bob"}
        conn.execute(insert(turn_senders).values(said))
        gone = {"content_gone_until": datetime.now(UTC) + timedelta(hours=1)}
        mine = session_rows.c.id == of[emptied]
        conn.execute(update(session_rows).where(mine).values(gone))
    rows.update_session(store, of[changed], system_prompt="Another one.", settings=None)
    record = trials_of(store).start(OTHER, sample=50)
    assert record.sampled == 1
    assert record.left_out == {
        "content_gone": 1,
        "kept_at_vendor": 1,
        "session_changed": 1,
        "shared": 2,
        "spoken": 1,
        "tools": 1,
    }


def test_what_a_trial_has_asked_is_in_no_other_trial(store: Database) -> None:
    had(store, "one")
    trials_of(store).start(OTHER, sample=10)
    asked(store)
    assert trials_of(store).start("mock/third", sample=10).sampled == 1


def test_without_a_turn_there_is_no_trial(store: Database) -> None:
    with pytest.raises(InvalidInput, match="no turn"):
        trials_of(store).start(OTHER)
    assert trials_of(store).list() == []
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(batch_lines)) == 0


def test_the_same_call_returns_the_trial_that_stands(store: Database) -> None:
    had(store, "one")
    trials = trials_of(store)
    first = trials.start(OTHER, name="nano")
    assert trials.start(OTHER, name="nano") == first
    with pytest.raises(Conflict):
        trials.start("mock/third", name="nano")
    with pytest.raises(Conflict):  # of other money
        trials.start(OTHER, name="nano", max_cost_usd=5)
    assert [one.name for one in trials.list()] == ["nano"]
    assert trials.get("nano") == trials.get(first.id) == first
    with pytest.raises(TrialNotFound):
        trials.get("never")


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "bare"},
        {"model": "/x"},
        {"judge": "nobody"},
        {"judge": "model:mock"},
        {"judge": "model:nobody/m"},
        {"judge": "embedding:nobody"},
        {"model": "nobody/m"},
        {"sample": 0},
        {"sample": 5001},
        {"since": "soon"},
        {"settings": {"tools": ["weather"]}},
        {"judge_share": 1},
        {"mode": "slow"},
    ],
)
def test_what_is_no_trial_is_refused(store: Database, wrong: dict[str, object]) -> None:
    had(store, "one")
    given: dict[str, object] = {"model": OTHER} | wrong
    with pytest.raises(InvalidInput):
        trials_of(store).start(**given)  # type: ignore[arg-type]


@pytest.fixture
def shown(store: Database) -> TrialRecord:
    """Return a trial that has ended: of ten turns of one user, and of one each of nine others."""
    had(store, *(f"text {n}" for n in range(10)), user_id="ada")
    for n in range(9):
        had(store, "same", user_id=f"user-{n}")
    record = trials_of(store).start(OTHER, sample=50, judge="exact")
    asked(store, lambda claim: "ANSWER to same!" if claim.text == "same" else "another")
    assert stepped(store, record) is Step.OVER
    return record


def test_a_trial_compares_what_was_with_what_is(store: Database, shown: TrialRecord) -> None:
    found = trials_of(store).summary(shown)
    assert (found.asked, found.answered, found.failed, found.judged) == (19, 19, 0, 19)
    cost = found.cost_usd
    assert (cost.before, cost.after) == pytest.approx((0.25, 0.05))
    assert (cost.n, cost.clusters) == (19, 10)
    assert cost.difference == pytest.approx(-0.2)
    assert cost.is_clear
    assert found.latency_ms.difference == pytest.approx(-500)
    assert found.agreement.mean == pytest.approx(9 / 19)
    assert found.spent_usd == Decimal("0.95")
    with store.begin() as conn:
        (finding,) = findings(conn)
    assert (finding.model, finding.summary) == ("other", found)


def test_a_trial_shows_both_sides_of_each_turn(store: Database, shown: TrialRecord) -> None:
    lines = [*trials_of(store).results(shown, limit=5)]
    lines += trials_of(store).results(shown, after=lines[-1].line)
    assert len(lines) == 19
    one = next(one for one in lines if one.before and one.before.text == "answer to text 0")
    assert one.before is not None
    assert one.after is not None
    assert one.after.text == "another"
    assert (one.before.model, one.after.model) == ("mock/mock", "mock/other")
    assert (one.before.latency_ms, one.after.latency_ms) == (800, 300)
    assert (one.verdict, one.agreement) == (JudgeVerdict.JUDGED, 0.0)


def test_what_has_failed_is_compared_with_nothing(store: Database) -> None:
    had(store, "one", "two")
    record = trials_of(store).start(OTHER, sample=10, judge="exact")
    asked(store, lambda claim: None if claim.text == "one" else "yes")
    stepped(store, record)
    shown = trials_of(store).summary(record)
    assert (shown.asked, shown.answered, shown.failures) == (2, 1, {"broken": 1})
    assert shown.unjudged == {"missing": 1}


def test_a_cancelled_trial_asks_nobody_any_more_and_keeps_what_there_is(store: Database) -> None:
    had(store, "one", "two", "three")
    record = trials_of(store).start(OTHER, sample=10)
    asked(store, lambda _: "yes")
    over = trials_of(store).cancel(record)
    assert (over.state, over.is_over) == (TrialState.CANCELLED, True)
    assert trials_of(store).cancel(record) == over
    assert trials_of(store).summary(record).answered == 3
    with store.begin() as conn:
        assert findings(conn) == []


def test_a_trial_that_has_no_money_left_goes_on_with_what_it_has(store: Database) -> None:
    had(store, "one", "two")
    record = trials_of(store).start(OTHER, sample=2, judge="exact", max_cost_usd="0.01")

    with store.begin() as conn:
        batch_pauses.pause(conn, record.batch_id, BEYOND_ITS_COST)
    assert stepped(store, record) is Step.WAIT
    asked(store)
    asked(store)
    assert stepped(store, record) is Step.OVER
    shown = trials_of(store).summary(record)
    assert (shown.asked, shown.answered) == (2, 0)


def test_what_was_asked_again_goes_with_its_session(store: Database) -> None:
    (kept,) = had(store, "one", user_id="bob")
    (gone,) = had(store, "two", user_id="ada")
    record = trials_of(store).start(OTHER, sample=10, judge="model:mock/judge")
    asked(store)
    stepped(store, record)
    asked(store, lambda _: '{"same": true, "better": "neither"}')
    with store.begin() as conn:
        session = conn.scalars(select(turns.c.session_id).where(turns.c.id == gone)).one()
        sessions.remove(conn, session)
    assert [row.turn_id for row in lines_of(store, record)] == [kept]
    assert {row.user_id for row in sessions_in(store)} == {"bob"}
    with store.begin() as conn:
        said_in = conn.scalars(select(messages.c.content)).all()
    assert not any("two" in str(content) for content in said_in)
    assert stepped(store, record) is Step.OVER
    assert trials_of(store).summary(record).asked == 1


def test_what_was_not_asked_yet_goes_with_its_session_too(store: Database) -> None:
    (gone,) = had(store, "two")
    record = trials_of(store).start(OTHER, sample=10)
    with store.begin() as conn:
        session = conn.scalars(select(turns.c.session_id).where(turns.c.id == gone)).one()
        sessions.remove(conn, session)
        assert conn.scalars(select(batch_lines.c.line)).all() == []
    assert asked(store) == []
    assert stepped(store, record) is Step.OVER


def test_copies_go_when_the_content_that_they_are_of_is_gone(store: Database) -> None:
    (emptied,) = had(store, "one", user_id="ada")
    had(store, "two", user_id="bob")
    record = trials_of(store).start(OTHER, sample=10)
    asked(store)
    stepped(store, record)
    with store.begin() as conn:
        session = conn.scalars(select(turns.c.session_id).where(turns.c.id == emptied)).one()
        until = {"content_gone_until": datetime.now(UTC) + timedelta(hours=1)}
        conn.execute(update(session_rows).where(session_rows.c.id == session).values(until))
        assert forgetting.forget_copies(conn, older_than=timedelta(days=30)) == 1
        assert forgetting.forget_copies(conn, older_than=timedelta(days=30)) == 0
    assert [row.user_id for row in sessions_in(store)] == ["ada", "bob", "bob"]
    assert trials_of(store).summary(record).answered == 2


def test_what_was_asked_again_goes_after_its_time_and_figures_stay(store: Database) -> None:
    had(store, "one")
    record = trials_of(store).start(OTHER, sample=10)
    asked(store)
    stepped(store, record)
    with store.begin() as conn:
        forgetting.forget_copies(conn, older_than=-timedelta(days=1))
        assert conn.scalars(select(trial_lines.c.line)).all() == []
        assert forgetting.forget_trials(conn, older_than=timedelta(days=1)) == 0
    assert len(sessions_in(store)) == 1
    assert trials_of(store).summary(record).answered == 1
    with store.begin() as conn:
        assert forgetting.forget_trials(conn, older_than=-timedelta(days=1)) == 1


def test_no_budget_of_a_user_pays_for_a_trial(store: Database) -> None:
    had(store, "one")
    bound(store, "0.01", ADA)
    bound(store, "5", ALL)
    trials_of(store).start(OTHER, sample=1, judge="model:mock/judge")
    make_turns(store)
    (claim,) = steps.take_due(store)
    assert ask(store, claim, "2").found is Found.RESERVED
    assert sums(store, ADA)[2] == 0
    assert sums(store, ALL)[2] == 2


def test_a_trial_is_written_down_in_the_log_of_who_did_what(store: Database) -> None:
    had(store, "one")
    record = trials_of(store).start(OTHER, sample=1)
    with store.begin() as conn:
        (entry,) = audit_entries.find(conn, action=Action.TRIAL_STARTED)
    assert entry.objects == {"trial": str(record.id)}
    assert entry.figures == {"turns": 1, "provider": "mock", "model": "other"}


def test_an_estimate_goes_by_what_turns_have_taken_and_writes_nothing(store: Database) -> None:
    had(store, "one", "two")
    had(store, "of tools", tools=["weather"])
    nano = "openai/gpt-4.1-nano"
    found = trials_of(store).estimate(nano, sample=10, judge=f"model:{nano}")
    assert (found.turns, found.users, found.left_out) == (2, 1, {"tools": 1})
    assert (found.input_tokens, found.output_tokens) == (6, 4)
    assert found.before_usd == Decimal("0.50")
    assert found.modes[BatchMode.LIVE] is not None
    assert found.judge_usd is not None
    assert trials_of(store).list() == []
    assert len(sessions_in(store)) == 2


def test_figures_of_a_user_are_those_of_what_he_has_said(store: Database) -> None:
    had(store, "one", "two")
    window = {"since": datetime.now(UTC) - timedelta(days=1), "until": datetime.now(UTC)}
    window["until"] += timedelta(days=1)
    mine = conversations.of_user("ada", **window)
    with store.begin() as conn:
        before = conversations.counts(conn, mine)
    record = trials_of(store).start(OTHER, sample=10, judge="model:mock/judge")
    asked(store)
    stepped(store, record)
    asked(store)
    with store.begin() as conn:
        assert conversations.counts(conn, mine) == before

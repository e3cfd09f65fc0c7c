"""What a trial has shown is suggested, and what it has asked again is in nobody's figures."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from tests import rows
from tests.trying import OTHER, asked, had, sessions_in, stepped, trials_of
from turnmill.domain.analytics.suggesting.findings import SuggestionRule
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import behaviours, evidence, topics
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database
from turnmill.store.schema.tables import turns


def around_now() -> Scope:
    day = timedelta(days=1)
    return Scope(window=Window(datetime.now(UTC) - day, datetime.now(UTC) + day))


def tried(store: Database, *, judge: str | None, reply: str = "the same") -> None:
    """Ask eighty turns of forty users again, at a fifth of their price."""
    for n in range(40):
        had(store, "one", "two", reply="the same", user_id=f"user-{n}")
    record = trials_of(store).start(OTHER, sample=100, judge=judge, settings={"temperature": 0.1})
    asked(store, lambda _: reply)
    stepped(store, record)


def test_a_model_that_said_the_same_for_less_is_suggested_and_users_are_told_what_it_saves_them(
    store: Database,
) -> None:
    tried(store, judge="exact")
    found = store.run_single(suggest, around_now())
    assert [one.rule for one in found.findings] == [SuggestionRule.TRIED]
    assert (found.suggested_model, found.suggested_temperature) == (OTHER, 0.1)
    assert float(found.estimated_improvement or 0) == 16.0  # 80 turns, 20 cents each
    window = around_now().window
    found = store.run_single(suggest, Scope(window=window, user_id="user-7"))
    assert float(found.estimated_improvement or 0) == 0.4
    assert store.run_single(suggest, Scope(window=window, user_id="nobody")).findings == []


def test_a_model_that_said_something_else_is_not(store: Database) -> None:
    tried(store, judge="exact", reply="another")
    assert store.run_single(suggest, around_now()).findings == []


def test_a_trial_that_nobody_has_judged_suggests_nothing(store: Database) -> None:
    tried(store, judge=None)
    assert store.run_single(suggest, around_now()).findings == []


def test_what_trials_ask_again_is_no_topic_no_behaviour_and_no_evidence(store: Database) -> None:
    had(store, "one", "two", user_id="ada")
    cut = rows.start(store, user_id="ada")
    rows.run(store, rows.send(store, cut), finish_reason="length")
    since = datetime.now(UTC) - timedelta(days=1)

    def seen() -> object:
        with store.begin() as conn:
            uses = evidence.model_uses(conn, around_now())
            return (
                topics.count_active(conn, since=since),
                {one.session_id for one in topics.sample(conn, since=since, limit=100)},
                behaviours.clusters(conn, around_now()),
                sorted((one.name, one.turns) for one in uses),
            )

    before = seen()
    record = trials_of(store).start(OTHER, sample=10, judge="model:mock/judge")
    asked(store)
    stepped(store, record)
    asked(store)
    assert len(sessions_in(store)) > 2
    with store.begin() as conn:
        assert conn.scalars(select(turns.c.id).where(turns.c.batch_id.is_not(None))).all()
    assert seen() == before

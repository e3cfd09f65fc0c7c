"""What a trial has shown is suggested, and what it has asked again is in nobody's figures."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select

from tests import rows
from tests.trying import (
    OTHER,
    asked,
    executor_of,
    experiments_of,
    had,
    had_by_each,
    sessions_in,
    stepped,
    trials_of,
)
from turnmill.domain.analytics.suggesting.findings import SuggestionRule
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import (
    behaviours,
    estimating,
    evidence,
    forgetting,
    report_comparisons,
    topics,
)
from turnmill.store.analytics.asking import answer
from turnmill.store.analytics.ended_turns import Scope, Seen
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database
from turnmill.store.schema.tables import turns
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.sync.templates import Templates
from turnmill.sync.turns import Turns


def around_now() -> Scope:
    day = timedelta(days=1)
    return Scope(window=Window(datetime.now(UTC) - day, datetime.now(UTC) + day))


def tried(store: Database, *, judge: str | None, reply: str = "the same") -> None:
    """Ask eighty turns of forty users again, at a fifth of their price."""
    users = (f"user-{n}" for n in range(40))
    had_by_each(store, users, "one", "two", reply="the same")
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


def test_a_report_tells_what_a_trial_and_an_experiment_have_shown(store: Database) -> None:
    tried(store, judge="exact")
    Templates(executor_of(store)).put("desk", provider="mock", model="mock")
    experiments_of(store).start("desk", name="cheaper", share=0.5, model=OTHER)
    with store.begin() as conn:
        (trial,) = report_comparisons.trials_in(conn, around_now().window)
        (experiment,) = report_comparisons.experiments_in(conn, around_now().window)
        long_ago = Window(*(datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2)))
        assert report_comparisons.trials_in(conn, long_ago) == []
        assert report_comparisons.experiments_in(conn, long_ago) == []
    assert (trial.before, trial.after) == ("mock/mock", f"{OTHER}, temperature = 0.1")
    assert (trial.turns, trial.users, trial.agreement) == (80, 40, 1.0)
    (cost,) = (one for one in trial.figures if one.of == "cost_usd")
    assert (cost.before, round(cost.after, 6), cost.is_clear) == (0.25, 0.05, True)
    assert (experiment.name, experiment.before, experiment.figures) == ("cheaper", "desk", [])


def test_conversations_that_nobody_has_rated_are_estimated_and_rated_ones_are_not(
    store: Database,
) -> None:
    had(store, "one", "two", user_id="ada")
    (rated,) = had(store, "three", user_id="bob")
    window = around_now().window
    with store.begin() as conn:
        assert len(estimating.estimates_in(conn, window)) == 2
    Turns(executor_of(store)).feedback(rated, 1)
    with store.begin() as conn:
        (found,) = estimating.estimates_in(conn, window)
        assert -1 <= found <= 1
        assert estimating.estimates_in(conn, window.previous()) == []


def test_what_a_trial_has_shown_counts_when_its_lines_are_gone(store: Database) -> None:
    tried(store, judge="exact")
    while store.run(forgetting.forget_copies, older_than=timedelta(0)):
        pass
    with store.begin() as conn:
        assert conn.execute(select(trial_lines)).all() == []
    found = store.run_single(suggest, around_now())
    assert [one.rule for one in found.findings] == [SuggestionRule.TRIED]
    assert float(found.estimated_improvement or 0) == 16.0


def test_of_a_user_the_turns_of_others_are_not_read_but_of_the_same_work(store: Database) -> None:
    had(store, "one", user_id="ada")
    had(store, "two", user_id="bob")
    asked_of_turns: list[str] = []

    def seen(*given: Any) -> None:
        if "turns" in given[2]:
            asked_of_turns.append(given[2])

    with store.begin() as conn:
        event.listen(conn, "before_cursor_execute", seen)
        suggest(conn, Scope(window=around_now().window, user_id="ada"))
        event.remove(conn, "before_cursor_execute", seen)
    assert asked_of_turns
    assert [one for one in asked_of_turns if "user_id = " not in one] == []


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
            uses = answer(conn, evidence.model_uses(Seen.of(around_now())))
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

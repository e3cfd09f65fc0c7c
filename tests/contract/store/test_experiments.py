"""Experiments: a share of users gets another set-up in new sessions, and the same one always."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests import rows, steps
from tests.trying import executor_of, experiments_of
from turnmill.domain.analytics.experiments import Arm
from turnmill.domain.errors import Conflict, ExperimentNotFound, InvalidInput, TemplateNotFound
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import sessions as session_store
from turnmill.store.nouns import templates
from turnmill.store.records import SessionRecord
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.trial_tables import session_arms
from turnmill.sync.sessions import Sessions
from turnmill.sync.templates import Templates

pytestmark = pytest.mark.usefixtures("sound")


@pytest.fixture
def template(store: Database) -> str:
    found = Templates(executor_of(store))
    found.put(
        "support",
        provider="mock",
        model="mock",
        system_prompt="Be kind.",
        settings={"temperature": 0.2, "top_p": 0.9},
    )
    return "support"


def opened(store: Database, user: int | str, template: str = "support", **o: Any) -> SessionRecord:
    sessions = Sessions(executor_of(store))
    return sessions.create(user_id=f"user-{user}", template=template, **o)


def talk(store: Database, session: SessionRecord, **verdict: Any) -> None:
    turn = rows.send(store, session.id)
    steps.end(store, steps.take_one(store, turn), **verdict)


def test_a_share_of_users_gets_the_other_set_up(store: Database, template: str) -> None:
    settings = {"temperature": 0.9, "top_p": None}
    experiments_of(store).start(template, model="other", settings=settings, share=0.5)
    made = [opened(store, n) for n in range(40)]
    by_model = Counter((one.provider, one.model) for one in made)
    assert set(by_model) == {("mock", "mock"), ("mock", "other")}
    assert 8 < by_model["mock", "other"] < 32
    for one in made:
        is_other = one.model == "other"
        usual = {"temperature": 0.2, "top_p": 0.9}
        assert one.settings == ({"temperature": 0.9} if is_other else usual)
        assert one.system_prompt == "Be kind."


def test_a_user_has_the_same_set_up_in_every_session(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    found = experiments.start(template, model="other", share=0.5, name="smaller")
    for n in range(10):
        arms = {experiments.arm_of(opened(store, n)) for _ in range(3)}
        assert len(arms) == 1
        (of,) = arms
        assert of is not None
        assert of.experiment == found.name


def test_two_experiments_do_not_choose_the_same_users(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    chosen = []
    for name in ("first", "second"):
        experiments.start(template, model="other", share=0.5, name=name)
        arms = {n: experiments.arm_of(opened(store, n)) for n in range(40)}
        chosen.append([n for n, of in arms.items() if of is not None and of.arm is Arm.OTHER])
        experiments.stop(name)
    assert chosen[0] != chosen[1]


def test_who_names_a_version_or_no_template_takes_no_part(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    experiments.start(template, model="other", share=0.99)
    assert {opened(store, n, "support@1").model for n in range(5)} == {"mock"}
    plain = Sessions(executor_of(store)).create(user_id="ada", provider="mock", model="mock")
    assert experiments.arm_of(plain) is None


def test_what_is_said_for_one_session_goes_first(store: Database, template: str) -> None:
    experiments_of(store).start(template, model="other", share=0.99)
    assert {opened(store, n, model="mine").model for n in range(5)} == {"mine"}


def test_a_session_that_stands_is_returned_as_it_is(store: Database, template: str) -> None:
    first = opened(store, 1, key="k")
    experiments = experiments_of(store)
    experiments.start(template, model="other", share=0.99)
    again = opened(store, 1, key="k")
    assert (again.id, again.model, experiments.arm_of(again)) == (first.id, "mock", None)


def test_another_version_is_a_set_up_too(store: Database, template: str) -> None:
    Templates(executor_of(store)).put(template, provider="mock", model="mock", system_prompt="New.")
    with store.begin() as conn:
        templates.make_current(conn, template, 1)
    experiments_of(store).start(template, version=2, share=0.5)
    made = [opened(store, n) for n in range(40)]
    assert {(one.template_version, one.system_prompt) for one in made} == {
        (1, "Be kind."),
        (2, "New."),
    }


def test_after_its_end_new_sessions_are_as_their_template_says(
    store: Database, template: str
) -> None:
    experiments = experiments_of(store)
    found = experiments.start(template, model="other", share=0.99)
    over = experiments.stop(found)
    assert not over.is_running
    assert experiments.stop(found) == over
    assert {opened(store, n).model for n in range(5)} == {"mock"}


def test_one_runs_with_a_template_at_a_time(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    first = experiments.start(template, model="other", name="one")
    assert experiments.start(template, model="other", name="one") == first
    with pytest.raises(Conflict):
        experiments.start(template, model="third", name="two")
    with pytest.raises(Conflict):
        experiments.start(template, model="third", name="one")
    assert [one.name for one in experiments.list()] == ["one"]
    with pytest.raises(ExperimentNotFound):
        experiments.get("two")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"model": "x", "share": 1},
        {"model": "x", "share": True},
        {"settings": {"timeout": -1}},
        {"provider": "nobody", "model": "x"},
        {"settings": {"fallback": ["nobody/x"]}},
        {"settings": {"audio_model": "nobody"}},
    ],
)
def test_what_is_no_experiment_is_refused(
    store: Database, template: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        experiments_of(store).start(template, **wrong)
    with pytest.raises(InvalidInput):
        experiments_of(store).start("support@1", model="x")
    with pytest.raises(TemplateNotFound):
        experiments_of(store).start("nothing", model="x")
    with pytest.raises(TemplateNotFound):
        experiments_of(store).start(template, version=7)


def test_a_result_compares_users_and_says_how_sure_it_is(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    found = experiments.start(template, model="other", share=0.5)
    for n in range(30):
        session = opened(store, n)
        is_other = session.model == "other"
        cost = Decimal("0.01" if is_other else "0.05") + Decimal(n) / 10_000
        talk(store, session, cost_usd=cost, priced=True)
        if is_other:
            talk(store, session, state=TurnState.FAILED, error_code="broken")
    shown = experiments.result(found)
    assert shown.usual.users + shown.other.users == 30
    assert (shown.usual.failed, shown.other.failed) == (0, shown.other.sessions)
    assert shown.other.turns == 2 * shown.other.sessions
    assert shown.cost_usd.difference == pytest.approx(-0.04, abs=0.002)
    assert shown.cost_usd.is_clear
    assert shown.failures.difference == pytest.approx(0.5)
    assert (shown.turns.before, shown.turns.after) == (1, 2)
    assert shown.feedback.difference is None
    assert shown.usual.versions == {1: shown.usual.sessions}


def test_what_users_have_said_of_replies_is_compared_too(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    found = experiments.start(template, model="other", share=0.5)
    for n in range(60):  # so that no arm has too few
        session = opened(store, n)
        turn = rows.send(store, session.id)
        steps.end(store, steps.take_one(store, turn))
        with store.begin() as conn:
            score = 0.5 if session.model == "other" else -0.5
            said = {"id": turn, "turn_id": turn, "session_id": session.id, "score": score}
            conn.execute(insert(feedback).values(said))
    shown = experiments.result(found).feedback
    assert (shown.before, shown.after) == (-0.5, 0.5)
    assert shown.is_clear
    failed = rows.send(store, session.id)
    claim = steps.take_one(store, failed)
    steps.end(store, claim, state=TurnState.FAILED, error_code="broken")
    with store.begin() as conn:
        said = {"id": failed, "turn_id": failed, "session_id": session.id, "score": -1}
        conn.execute(insert(feedback).values(said))
    assert experiments.result(found).feedback != shown
    steps.retry(store, failed)  # what was said of the reply before counts no more
    assert experiments.result(found).feedback == shown
    steps.end(store, steps.take_one(store, failed))
    assert experiments.result(found).feedback == shown


def test_an_arm_goes_with_its_session(store: Database, template: str) -> None:
    experiments = experiments_of(store)
    found = experiments.start(template, model="other", share=0.5)
    session = opened(store, 1)
    with store.begin() as conn:
        session_store.remove(conn, session.id)
        assert conn.execute(select(session_arms)).all() == []
    shown = experiments.result(found)
    assert shown.usual.sessions + shown.other.sessions == 0

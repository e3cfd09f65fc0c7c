"""What is suggested of a month: each of the things that were put into it, and nothing else."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from tests import rows
from tests.planted_month import PLANTS, WINDOW, Kind, Month, planted
from turnmill.domain.analytics.behaving import Behaviour
from turnmill.domain.analytics.suggesting.findings import Suggestion, SuggestionRule
from turnmill.domain.ids import SessionId
from turnmill.store.analytics.behaviours import BehaviourCluster, clusters
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.report_sections import _suggestion
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import sessions, turns


def suggested(store: Database, month: Month) -> Suggestion:
    store.run(month.write)
    return store.run_single(suggest, Scope(window=WINDOW))


def behaving(
    store: Database, session_id: SessionId | None = None
) -> dict[Behaviour, BehaviourCluster]:
    found = store.run_single(clusters, Scope(window=WINDOW, session_id=session_id))
    return {one.behaviour: one for one in found}


def session_of(store: Database, model: str) -> SessionId:
    with store.begin() as conn:
        longest = select(sessions.c.id).where(sessions.c.model == model)
        found = conn.scalars(longest.order_by(sessions.c.next_seq.desc()).limit(1)).one()
    return SessionId(found)


def test_twelve_plants_are_found_with_evidence_and_nothing_else(store: Database) -> None:
    found = suggested(store, planted())
    assert {(one.rule, one.subject) for one in found.findings} == {
        (rule, subject) for rule, (_, subject) in PLANTS.items()
    }
    assert all(one.evidence and one.formula and one.says for one in found.findings)
    assert found.suggested_model is None  # two findings name two
    assert found.suggested_temperature == 0.3  # one trial has shown it
    dear = next(one for one in found.findings if one.rule is SuggestionRule.CHEAPER_MODEL)
    assert dear.model == "openai/gpt-cheap"
    said = {one.title.partition(":")[0]: one for one in map(_suggestion, found.findings)}
    assert said["Answers cut"].gains.endswith(" fewer answers cut off")
    assert said["Few workers"].gains.endswith(" minutes less waiting for a slot")
    assert "the bound is 0.667." in said["Cheaper model"].confidence
    assert dear.confidence == pytest.approx((1 / 3, 1 / 3), abs=0.03)


@pytest.mark.long
def test_a_model_whose_replies_are_disliked_is_not_suggested(store: Database) -> None:
    def rules() -> set[SuggestionRule]:
        return {one.rule for one in store.run_single(suggest, Scope(window=WINDOW)).findings}

    store.run(planted((SuggestionRule.CHEAPER_MODEL,)).write)
    assert rules() == {SuggestionRule.CHEAPER_MODEL}
    of = {model: session_turns(store, model)[:60] for model in ("gpt-cheap", "gpt-dear")}
    for model, found in of.items():
        with store.begin() as conn:
            score = -1 if model == "gpt-cheap" else 1
            conn.execute(
                insert(feedback),
                [
                    {"id": turn, "turn_id": turn, "session_id": session, "score": score}
                    for turn, session in found
                ],
            )
    assert rules() == set()
    with store.begin() as conn:  # words that were said of another reply
        conn.execute(update(feedback).values(updated_at=WINDOW.since))
    assert rules() == {SuggestionRule.CHEAPER_MODEL}


@pytest.mark.parametrize(
    ("provider", "settings", "named"),
    [
        ("anthropic", {"max_tokens": 1200}, {"max_tokens": 2400}),
        ("anthropic", {"max_tokens": 1200, "max_output_tokens": 9000}, {"max_tokens": 2400}),
        ("openai", {"max_completion_tokens": 1200}, {"max_completion_tokens": 2400}),
        ("openai", {"max_output_tokens": 1200, "max_tokens": 9}, {"max_output_tokens": 2400}),
        ("anthropic", {}, {"max_output_tokens": 2400}),
    ],
)
def test_a_limit_is_suggested_by_the_name_that_decides_in_its_sessions(
    store: Database, provider: str, settings: dict[str, int], named: dict[str, int]
) -> None:
    month = Month()
    month.add(Kind(provider=provider, cut=0.3), sessions=40)
    store.run(month.write)
    with store.begin() as conn:
        conn.execute(update(sessions).values(settings=settings))
    found = store.run_single(suggest, Scope(window=WINDOW))
    (one,) = [one for one in found.findings if one.rule is SuggestionRule.ANSWERS_CUT]
    assert one.settings == named
    assert not settings or f"{next(iter(named))}=1200" in one.subject
    assert found.suggested_max_tokens == next(iter(one.settings.values()))
    assert not found.suggested_settings


def session_turns(store: Database, model: str) -> list[tuple[UUID, UUID]]:
    with store.begin() as conn:
        answered = sessions.c.model == model, turns.c.state == "succeeded"
        query = select(turns.c.id, turns.c.session_id).join(
            sessions, sessions.c.id == turns.c.session_id
        )
        rows = conn.execute(query.where(*answered).order_by(turns.c.id))
        return [(row.id, row.session_id) for row in rows]


@pytest.mark.long
def test_nothing_is_suggested_of_a_month_in_which_nothing_is_amiss(store: Database) -> None:
    found = suggested(store, planted(()))
    assert found.findings == []
    assert found.estimated_improvement is None


def test_of_a_session_is_suggested_what_its_own_turns_say(store: Database) -> None:
    month = Month()
    month.add(Kind(model="gpt-chatty", turns=(250, 250), history=0, again=0.3), sessions=1)
    month.add(Kind(), sessions=20)
    store.run(month.write)
    mine = session_of(store, "gpt-chatty")
    found = store.run_single(suggest, Scope(window=WINDOW, session_id=mine))
    assert [one.rule for one in found.findings] == [SuggestionRule.SENT_AGAIN]
    other = session_of(store, "gpt-steady")
    assert not store.run_single(suggest, Scope(window=WINDOW, session_id=other)).findings


def test_behaviours_are_counted_by_turns_sessions_and_users(store: Database) -> None:
    month = planted((SuggestionRule.ANSWERS_CUT, SuggestionRule.TOOL_LOOPS))
    store.run(month.write)
    found = behaving(store)
    with store.begin() as conn:
        cut = conn.scalars(select(turns.c.id).where(turns.c.finish_reason == "length")).all()
        failed = conn.scalars(select(turns.c.id).where(turns.c.state == "failed")).all()
    assert found[Behaviour.CUT_BY_LENGTH].turns == len(cut)
    assert found[Behaviour.FAILED].turns == len(failed)
    loops = found[Behaviour.TOOL_LOOP]
    assert 20 <= loops.turns <= 80
    assert loops.users <= loops.sessions <= loops.turns
    assert loops.cost_usd > 0
    assert len(loops.examples) == 5
    of_one = behaving(store, session_id=loops.examples[0])
    assert of_one[Behaviour.TOOL_LOOP].sessions == 1
    assert Behaviour.CUT_BY_LENGTH not in of_one
    assert of_one[Behaviour.TOOL_LOOP].turns <= loops.turns


def test_who_writes_again_waits_long_or_gives_up_is_seen(store: Database) -> None:
    month = Month()
    month.add(
        Kind(model="gpt-slow", works=(70.0, 80.0), again=1.0, turns=(3, 3), bad=0), sessions=4
    )
    month.add(Kind(model="gpt-gone", bad=1.0, turns=(2, 2)), sessions=3)
    store.run(month.write)
    found = behaving(store)
    assert found[Behaviour.LONG_SILENCE].turns >= 12
    assert found[Behaviour.FAILED].turns == 6
    assert found[Behaviour.GIVEN_UP].turns == 3
    assert Behaviour.SENT_AGAIN not in found  # after 70 s, and no longer within a minute
    quick = Month(2)
    quick.add(Kind(works=(20.0, 30.0), again=1.0, turns=(3, 3), bad=0, retried=0), sessions=4)
    store.run(quick.write)
    assert behaving(store)[Behaviour.SENT_AGAIN].turns == 8


def test_turns_that_go_through_the_queue_are_read_as_they_were(store: Database) -> None:
    session = rows.start(store, settings={"max_output_tokens": "many"})
    for _ in range(3):
        rows.run(store, rows.send(store, session), finish_reason="length")
    with store.begin() as conn:
        now = conn.scalar(select(turns.c.finished_at).limit(1))
    assert now is not None
    window = type(WINDOW)(now - timedelta(hours=1), now + timedelta(hours=1))
    found = store.run_single(clusters, Scope(window=window))
    assert [(one.behaviour, one.turns) for one in found] == [(Behaviour.CUT_BY_LENGTH, 3)]
    assert store.run_single(suggest, Scope(window=window)).findings == []

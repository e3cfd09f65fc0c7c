"""Judges of trials: each compares what it is given once, and whoever is killed is followed."""

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.trying import OTHER, asked, had_at_once, lines_of, stepped, trials_of
from turnmill.domain.analytics.judging import INSTRUCTIONS, JudgeVerdict, TrialState
from turnmill.store.analytics import judging, model_judging
from turnmill.store.analytics import verdicts as verdict_rows
from turnmill.store.analytics.judging import Step
from turnmill.store.database import Database
from turnmill.store.nouns import batch_staging
from turnmill.store.records import Claim
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, turns
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import TrialRecord
from turnmill_worker.analytics import judges
from turnmill_worker.analytics.trials import Tending

pytestmark = pytest.mark.usefixtures("sound")

NEITHER = '{"same": true, "better": "neither"}'
MINUTE = timedelta(minutes=1)
A_MOMENT = timedelta(seconds=0.05)


@pytest.fixture(autouse=True)
def _a_package_registers_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnmill.verbs.analytics.trials.refuse_function", lambda *_, **__: None)


class Crash(Exception):
    """The worker was killed here."""


def die(*_: object, **__: object) -> None:
    raise Crash


def begun(store: Database, *, judge: str, turns: int = 3, **options: Any) -> TrialRecord:
    """Return a trial whose turns were asked again."""
    had_at_once(store, {f"user-{n}": f"text {n}" for n in range(turns)})
    record = trials_of(store).start(OTHER, sample=50, judge=judge, **options)
    asked(store, lambda claim: f"another answer to {claim.text}")
    return record


def tend(store: Database, embed: Callable[..., Any] | None, **options: Any) -> dict[str, int]:
    return asyncio.run(Tending(store, find=lambda _: embed, **options).run(within=MINUTE))


def verdicts(store: Database, record: TrialRecord) -> list[str]:
    return [row.verdict for row in lines_of(store, record)]


def judged_by(said: Callable[[str, str], str]) -> Callable[[Claim], str]:
    """Return a model that is given the first and the second reply, and says what is said."""

    def reply(claim: Claim) -> str:
        first, second = (claim.text.split(f"=== {name} REPLY ")[1] for name in ("FIRST", "SECOND"))
        return said(first.split("\n")[1], second.split("\n")[1])

    return reply


def test_a_model_is_shown_both_orders_and_is_told_that_what_it_reads_is_no_instruction(
    store: Database,
) -> None:
    record = begun(store, judge="model:mock/judge", turns=1)
    assert stepped(store, record) is Step.WAIT
    first, second = asked(store, lambda _: NEITHER)
    assert (first.provider, first.model, first.user_id) == ("mock", "judge", "user-0")
    assert first.system_prompt == second.system_prompt == INSTRUCTIONS
    texts = [one.text for one in (first, second)]
    assert all("text 0" in text for text in texts)
    places = [text.index("another answer") > text.index("\nanswer to") for text in texts]
    assert sorted(places) == [False, True]
    assert stepped(store, record) is Step.OVER
    shown = trials_of(store).summary(record)
    assert (shown.judged, shown.agreement.mean, shown.preferred) == (1, 1.0, {"neither": 1})


def test_a_judge_that_goes_by_places_prefers_nobody(store: Database) -> None:
    record = begun(store, judge="model:mock/judge")
    stepped(store, record)
    asked(store, lambda _: '{"same": false, "better": "first"}')
    stepped(store, record)
    shown = trials_of(store).summary(record)
    assert (shown.preferred, shown.swayed, shown.agreement.mean) == ({"neither": 3}, 3, 0.0)


def test_a_judge_that_goes_by_what_is_said_is_believed(store: Database) -> None:
    record = begun(store, judge="model:mock/judge")
    stepped(store, record)

    def said(first: str, second: str) -> str:
        better = "first" if first.startswith("another") else "second"
        return f'```json\n{{"same": false, "better": "{better}"}}\n```'

    asked(store, judged_by(said))
    stepped(store, record)
    shown = trials_of(store).summary(record)
    assert (shown.preferred, shown.swayed) == ({"after": 3}, 0)


def test_a_judge_that_says_something_else_has_not_judged(store: Database) -> None:
    record = begun(store, judge="model:mock/judge", turns=2)
    stepped(store, record)
    asked(store, lambda claim: "both are nice" if "text 0" in claim.text else None)
    assert stepped(store, record) is Step.OVER
    shown = trials_of(store).summary(record)
    assert (shown.judged, shown.unjudged) == (0, {"judge_unclear": 1, "broken": 1})


def test_a_judge_has_a_budget_of_its_own_within_that_of_the_trial(store: Database) -> None:
    record = begun(store, judge="model:mock/judge", max_cost_usd="2", judge_share=0.25)
    stepped(store, record)
    with store.begin() as conn:
        query = select(batches.c.max_cost_usd).order_by(batches.c.id)
        assert conn.scalars(query).all() == [Decimal("1.5"), Decimal("0.5")]


def test_what_a_judge_costs_is_told_apart(store: Database) -> None:
    record = begun(store, judge="model:mock/judge")
    stepped(store, record)
    asked(store, lambda _: NEITHER)
    stepped(store, record)
    shown = trials_of(store).summary(record)
    assert (shown.spent_usd, shown.judge_usd) == (Decimal("0.15"), Decimal("0.30"))


@pytest.mark.parametrize("at", ["stage", "seal"])
def test_a_worker_that_dies_while_it_writes_questions_is_followed_and_none_is_asked_twice(
    store: Database, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(model_judging, "_AT_ONCE", 2)
    record = begun(store, judge="model:mock/judge", turns=5)
    real, left = getattr(batch_staging, at), iter([False] * (2 if at == "stage" else 0) + [True])

    def dying(*given: Any, **named: Any) -> Any:
        done = real(*given, **named)
        if next(left, False):
            raise Crash
        return done

    monkeypatch.setattr(batch_staging, at, dying)
    with pytest.raises(Crash):
        stepped(store, record)
    assert stepped(store, record) is Step.WAIT
    claims = asked(store, lambda _: NEITHER)
    assert len(claims) == 10
    assert len({claim.text for claim in claims}) == 10
    mine = batch_lines.c.batch_id == trials_of(store).get(record).judge_batch_id
    with store.begin() as conn:
        lines = select(batch_lines.c.line).where(mine).order_by(batch_lines.c.line)
        assert conn.scalars(lines).all() == [*range(1, 11)]
    assert stepped(store, record) is Step.OVER
    assert trials_of(store).summary(record).judged == 5


def test_a_worker_that_dies_while_it_reads_answers_is_followed_and_nothing_counts_twice(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_judging, "_AT_ONCE", 2)
    record = begun(store, judge="model:mock/judge", turns=5)
    stepped(store, record)
    asked(store, lambda _: NEITHER)
    real, left = verdict_rows.put, iter([False] * 3 + [True])

    def dying(*given: Any, **named: Any) -> int:
        if next(left, False):
            raise Crash
        return real(*given, **named)

    monkeypatch.setattr(model_judging, "put", dying)
    with pytest.raises(Crash):
        stepped(store, record)
    assert sorted(verdicts(store, record)) == [JudgeVerdict.JUDGED] * 2 + [JudgeVerdict.OPEN] * 3
    assert stepped(store, record) is Step.OVER
    assert trials_of(store).summary(record).judged == 5
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(turns)) == 5 + 5 + 10


class Embedding:
    """Makes vectors, and counts what it was given."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.texts: list[str] = []
        self.then = then

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        self.then()
        return [[1.0, 0.0] if text.startswith("another") else [1.0, 1.0] for text in texts]


def test_a_function_of_the_operators_makes_vectors_and_their_cosine_is_the_agreement(
    store: Database,
) -> None:
    record, embed = begun(store, judge="embedding:mine"), Embedding()
    assert tend(store, embed) == {"trials_tended": 1, "trials_ended": 1}
    shown = trials_of(store).summary(record)
    assert (shown.judged, round(shown.agreement.mean or 0, 3)) == (3, 0.707)
    assert len(embed.texts) == 6
    assert trials_of(store).get(record).state is TrialState.DONE


def test_no_transaction_is_open_while_a_function_compares(store: Database) -> None:
    begun(store, judge="embedding:mine")
    open_now: list[int] = []
    pool: Any = store.engine.pool
    tend(store, Embedding(lambda: open_now.append(pool.checkedout())))
    assert open_now == [0]


def test_what_a_killed_worker_was_judging_is_not_judged_again_and_the_trial_goes_on(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill_worker.analytics.trials.AT_ONCE", 2)
    record = begun(store, judge="embedding:mine", turns=5)
    embed = Embedding()
    with monkeypatch.context() as patched:
        patched.setattr(judging, "keep", die)
        with pytest.raises(Crash):
            tend(store, embed)
    assert len(embed.texts) == 4
    tend(store, embed)
    assert len(embed.texts) == 10
    assert sorted(verdicts(store, record)) == [JudgeVerdict.JUDGED] * 3 + [JudgeVerdict.JUDGING] * 2
    assert not trials_of(store).get(record).is_over
    long_ago = {"claimed_at": datetime.now(UTC) - timedelta(hours=1)}
    with store.begin() as conn:
        conn.execute(
            update(trial_lines)
            .where(trial_lines.c.verdict == JudgeVerdict.JUDGING)
            .values(long_ago)
        )
    tend(store, embed)
    assert len(embed.texts) == 10
    shown = trials_of(store).summary(record)
    assert (shown.judged, shown.unjudged) == (3, {"lost": 2})


def test_a_verdict_that_comes_after_its_worker_was_taken_for_lost_changes_nothing(
    store: Database,
) -> None:
    record = begun(store, judge="embedding:mine", turns=1)
    stepped(store, record)
    with store.begin() as conn:
        claimed = judging.claim(conn, record.id, claim_id=record.id, limit=5)
    assert claimed is not None
    with store.begin() as conn:
        conn.execute(update(trial_lines).values(verdict=JudgeVerdict.LOST.value))
        assert judging.keep(conn, record.id, claimed, {1: 0.5}) == 0
    assert verdicts(store, record) == [JudgeVerdict.LOST]


async def leaves(texts: Sequence[str]) -> list[list[float]]:
    sys.exit(3)


async def gives_up(texts: Sequence[str]) -> list[list[float]]:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("embed", "code"),
    [
        (None, judges.UNKNOWN),
        (lambda _: [[1.0]], judges.FAILED),
        (lambda texts: [[0.0] for _ in texts], judges.ODD),
        (lambda texts: [["x"] for _ in texts], judges.ODD),
        (lambda texts: 1 / 0, judges.FAILED),
        (lambda texts: sys.exit(3), judges.FAILED),
        (leaves, judges.FAILED),
        (gives_up, judges.FAILED),
    ],
)
def test_a_function_that_cannot_tell_leaves_its_code(
    store: Database, embed: Callable[..., Any] | None, code: str
) -> None:
    record = begun(store, judge="embedding:mine", turns=1)
    tend(store, embed)
    assert trials_of(store).summary(record).unjudged == {code: 1}


def test_a_function_that_hangs_is_given_no_more_in_this_run(store: Database) -> None:
    record, done = begun(store, judge="embedding:mine", turns=20), threading.Event()
    # Without end: neither the loop nor the process that runs it waits for such a thread.
    tend(store, lambda _: done.wait(), timeout=A_MOMENT)
    done.set()
    assert sorted(verdicts(store, record)) == [JudgeVerdict.FAILED] * 16 + [JudgeVerdict.OPEN] * 4


def test_a_coroutine_function_is_awaited(store: Database) -> None:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    record = begun(store, judge="embedding:mine", turns=1)
    tend(store, embed)
    assert trials_of(store).summary(record).agreement.mean == 1.0


def test_a_judge_that_is_not_registered_is_unknown() -> None:
    assert judges.registered("nobody-registers-this") is None

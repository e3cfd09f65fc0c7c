"""What a batch would cost: said beforehand, and reserved from budgets when it is submitted."""

import json
import random
from base64 import b64encode
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests import rows, steps
from tests.attachments import a_png
from tests.batch_clients import batches_of
from turnmill import Client
from turnmill.crypto.keyring import new_key
from turnmill.domain.batch_estimates import AskedLine
from turnmill.domain.batches import BatchMode
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.content import Message, Text
from turnmill.domain.errors import BudgetExceeded
from turnmill.domain.ids import SessionId
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.budget_records import Holder, NewBudget
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans
from turnmill.store.nouns import batch_feeding, budgets
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.budget_tables import budgets as budget_rows
from turnmill.store.schema.tables import sessions
from turnmill.sync.batches import Batch, Batches
from turnmill_worker.estimating import Estimator
from turnmill_worker.process.feeding_batches import make_turns

PRICES = {"mock/*": {"input": 1, "output": 2}}
SHORT = {"max_output_tokens": 40}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps(PRICES))
    return Settings(prices=prices)


@pytest.fixture
def batches(store: Database, settings: Settings) -> Batches:
    return batches_of(store, settings=settings)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.jsonl"
    lines = [
        {"custom_id": f"{n}", "user_id": f"user-{n % 2}", "text": "word " * (n + 1)}
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def set_budget(store: Database, scope: Scope, name: str, limit: Any, **options: Any) -> None:
    new = NewBudget(
        holder=Holder(scope, name),
        period=options.pop("period", Period.TOTAL),
        timezone="UTC",
        limit_usd=Decimal(limit),
        on_exceeded=options.pop("on_exceeded", OnExceeded.FAIL),
        warn_at=(),
    )
    with store.begin() as conn:
        budgets.set_budget(conn, new, budget_id=new_id())


def reserved(store: Database) -> list[Decimal]:
    with store.begin() as conn:
        query = select(budget_rows.c.reserved_usd).order_by(budget_rows.c.id)
        return [Decimal(one) for one in conn.scalars(query)]


def test_an_estimate_says_lines_tokens_cost_and_a_bound_and_submits_nothing(
    batches: Batches, jobs: Path
) -> None:
    found = batches.estimate(jobs)
    assert (found.lines, found.turns, found.unknown) == (4, 4, 0)
    live = found.modes[BatchMode.LIVE]
    assert live.cost_usd is not None
    assert live.bound_usd is not None
    assert 0 < live.cost_usd <= live.bound_usd
    tokens = Decimal(found.input_tokens + 2 * found.output_tokens) / 1_000_000
    assert abs(live.cost_usd - tokens) < Decimal("1e-9")
    assert found.modes[BatchMode.NATIVE].cost_usd is None  # the mock has no such tier
    assert batches.list() == []


def test_what_lines_cost_is_near_the_estimate_and_never_beyond_the_bound(
    tmp_path: Path, settings: Settings
) -> None:
    path, draw = tmp_path / "jobs.jsonl", random.Random(17)
    with path.open("w") as file:
        for n in range(60):
            asked = [{"role": "user", "content": "word " * draw.randint(1, 60)} for _ in range(2)]
            said = {"messages": asked} if n % 2 else {"text": asked[0]["content"]}
            file.write(json.dumps({"custom_id": f"{n}", "user_id": "ada", **said}) + "\n")
    with Client(settings=replace(settings, database_url="sqlite://")) as client:
        live = client.batches.estimate(path).modes[BatchMode.LIVE]
        counts = client.batches.create(path).wait(timeout=60)
    assert live.cost_usd is not None
    assert live.bound_usd is not None
    assert counts.succeeded == 60
    assert abs(counts.cost_usd - live.cost_usd) <= Decimal("0.15") * live.cost_usd
    assert counts.cost_usd <= live.bound_usd


def test_what_nobody_knows_the_price_of_is_unknown_and_not_free(
    store: Database, jobs: Path
) -> None:
    found = batches_of(store).estimate(jobs, provider="openai", model="nobody-knows")
    assert {one.cost_usd for one in found.modes.values()} == {None}


def test_a_vendors_own_batch_is_estimated_at_its_price(store: Database, jobs: Path) -> None:
    modes = batches_of(store).estimate(jobs, provider="openai", model="gpt-4o-mini").modes
    live, native = modes[BatchMode.LIVE], modes[BatchMode.NATIVE]
    assert live.cost_usd is not None
    assert native.cost_usd is not None
    assert native.cost_usd * 2 == live.cost_usd


def test_replies_are_as_long_as_they_were_here_for_whoever_has_no_key_of_the_vendors_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    line = AskedLine(
        provider="openai",
        model="gpt-4o-mini",
        system_prompt=None,
        settings={},
        before=(),
        turns=[(Message("user", (Text("hi"),)),)],
    )
    found = Estimator(Settings(), {("openai", "gpt-4o-mini"): 7}).of(line)
    assert found is not None
    assert found.output_tokens == 7


def test_a_batch_that_may_cost_more_than_a_budget_has_left_is_refused_whole(
    store: Database, batches: Batches, jobs: Path
) -> None:
    bound = batches.estimate(jobs).modes[BatchMode.LIVE].bound_usd
    assert bound is not None
    set_budget(store, Scope.ALL, "", bound - Decimal("0.0000000001"))
    with pytest.raises(BudgetExceeded):
        batches.create(jobs)
    assert batches.list() == []
    assert reserved(store) == [0]


def test_what_a_batch_may_cost_is_reserved_and_given_back_as_its_lines_are_fed(
    store: Database, batches: Batches, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    bound = batches.estimate(jobs).modes[BatchMode.LIVE].bound_usd
    assert bound is not None
    set_budget(store, Scope.ALL, "", bound)
    set_budget(store, Scope.USER, "user-1", bound)
    batch = batches.create(jobs)
    held = [reserved(store)]
    with store.begin() as conn:
        assert charge_orphans(conn) == 0
    for _ in range(3):
        answer_one(store, batch)
        make_turns(store)
        held.append(reserved(store))
    of_all, of_user = ([one[n] for one in held] for n in range(2))
    assert bound > of_all[0] > of_all[1] > of_all[2] > of_all[3] == 0
    assert of_user[0] > of_user[1] == of_user[2] > of_user[3] == 0
    assert of_all[0] > of_user[0]


def test_a_cancelled_batch_gives_back_all_that_is_reserved_for_it(
    store: Database, batches: Batches, jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    set_budget(store, Scope.ALL, "", 1)
    batch = batches.create(jobs)
    assert reserved(store)[0] > 0
    batch.cancel()
    assert reserved(store) == [0]


def test_a_budget_that_lets_turns_wait_refuses_no_batch(
    store: Database, batches: Batches, jobs: Path
) -> None:
    set_budget(store, Scope.ALL, "", 0, on_exceeded=OnExceeded.WAIT, period=Period.DAY)
    assert batches.create(jobs).counts.total == 4


@pytest.mark.parametrize(("limit", "of_it"), [(1, False), ("0.00005", True)])
def test_a_budget_that_lets_turns_wait_keeps_for_the_lines_what_they_may_cost_or_all_it_has(
    store: Database,
    batches: Batches,
    jobs: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: Any,
    of_it: bool,
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    bound = batches.estimate(jobs).modes[BatchMode.LIVE].bound_usd
    assert bound is not None
    set_budget(store, Scope.ALL, "", limit, on_exceeded=OnExceeded.WAIT, period=Period.DAY)
    batch = batches.create(jobs)
    (held,) = reserved(store)
    assert 0 < held < (Decimal(limit) if not of_it else bound)
    for _ in range(3):
        answer_one(store, batch)
        make_turns(store)
    assert reserved(store) == [0]


def test_a_tag_is_reserved_for_though_lines_are_encrypted(
    database_url: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    path = tmp_path / "tagged.jsonl"
    teams = ("red", "blue", "red", "red")
    path.write_text(
        "".join(
            json.dumps({"user_id": "ada", "text": f"word {n}", "metadata": {"team": team}}) + "\n"
            for n, team in enumerate(teams)
        )
    )
    sealed = replace(
        settings,
        database_url=database_url,
        tags=("team",),
        encryption_keys=new_key("1"),
        key_store=str(tmp_path / "keys"),
    )
    with Client(settings=sealed) as client:
        bound = client.batches.estimate(path).modes[BatchMode.LIVE].bound_usd
        client.budgets.set(limit_usd=1, tag=("team", "red"), period="total")
        client.budgets.set(limit_usd=1, tag=("team", "green"), period="total")
        client.batches.create(path)
        held = {one.tag: one.reserved_usd for one in client.budgets.list()}
    assert bound is not None
    # One line of red was fed at once, and blue is nobody's.
    assert bound / 4 < held[("team", "red")] < bound * 3 / 4
    assert held[("team", "green")] == 0


def test_lines_of_sessions_that_stand_are_reserved_for_with_what_stands_there(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    set_budget(store, Scope.USER, "ada", 9)
    new, old = (rows.start(store, settings=SHORT) for _ in "ab")
    steps.answer(store, steps.send(store, old, "word " * 150).turn_id)
    bounds = bounds_of(store, batches.create(lines_of(tmp_path, new, old, old, new)))
    assert 0 < bounds[0] < bounds[1]
    assert bounds[1] - bounds[0] >= Decimal(150 * 5) * Decimal("1e-6")  # a token for each byte
    # A later line reads what those before it have said, and were told.
    assert bounds[2] > bounds[1]
    assert bounds[3] > bounds[0]
    assert reserved(store)[0] <= sum(bounds)


def test_what_a_session_waits_for_is_read_by_its_lines_too(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    set_budget(store, Scope.USER, "ada", 9)
    idle, busy = (rows.start(store, settings=SHORT) for _ in "ab")
    steps.send(store, busy, "hello")
    of_idle, of_busy = bounds_of(store, batches.create(lines_of(tmp_path, idle, busy)))
    assert of_busy - of_idle >= SHORT["max_output_tokens"] * Decimal("1e-6")


def test_of_a_session_whose_size_nobody_knows_nothing_is_reserved(
    store: Database, batches: Batches, tmp_path: Path
) -> None:
    set_budget(store, Scope.USER, "ada", 9)
    plain, adopted = (rows.start(store, settings=SHORT) for _ in "ab")
    with store.begin() as conn:
        conn.execute(update(sessions).where(sessions.c.id == adopted).values(adopted="conv_1"))
    known, unknown = raw_bounds(store, batches.create(lines_of(tmp_path, plain, adopted)))
    assert known is not None
    assert unknown is None


def test_lines_of_sessions_that_stand_never_cost_more_than_was_reserved(
    tmp_path: Path, settings: Settings
) -> None:
    with Client(settings=replace(settings, database_url=f"sqlite:///{tmp_path}/db")) as client:
        client.budgets.set(limit_usd=9, user_id="ada", period="total")
        some = [client.sessions.create(user_id="ada", settings=SHORT).id for _ in range(2)]
        client.send(some[1], "word " * 30).result(timeout=60)
        batch = client.batches.create(lines_of(tmp_path, *(some * 5)))
        counts = batch.wait(timeout=60)
    store = Database(f"sqlite:///{tmp_path}/db")
    assert counts.succeeded == 10
    assert 0 < counts.cost_usd <= sum(bounds_of(store, batch))
    store.close()


def test_a_line_with_a_picture_is_reserved_for_once_it_is_kept(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    set_budget(store, Scope.USER, "ada", 5)
    line: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    words, picture = ({"type": "text", "text": "What is this?"}, a_picture())
    path = tmp_path / "seen.jsonl"
    with path.open("w") as file:
        for n, content in enumerate(([words], [words, picture])):
            said = [{"role": "user", "content": content}]
            body = {"model": "gpt-4o-mini", "messages": said, "max_tokens": 50}
            file.write(json.dumps({**line, "custom_id": f"{n}", "body": body}) + "\n")
    batch = batches_of(store, settings=Settings(home=tmp_path)).create(path, user_id="ada")
    without, seen = bounds_of(store, batch)
    assert 0 < without < seen


def lines_of(folder: Path, *of: SessionId) -> Path:
    path = folder / "more.jsonl"
    path.write_text(
        "".join(json.dumps({"session": str(one), "text": "go on"}) + "\n" for one in of)
    )
    return path


def a_picture() -> dict[str, Any]:
    url = f"data:image/png;base64,{b64encode(a_png()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def raw_bounds(store: Database, batch: Batch) -> list[Decimal | None]:
    query = select(batch_lines.c.bound_usd).where(batch_lines.c.batch_id == batch.id)
    with store.begin() as conn:
        return list(conn.scalars(query.order_by(batch_lines.c.line)))


def bounds_of(store: Database, batch: Batch) -> list[Decimal]:
    """Return what each line was said to cost at the most."""
    found = [one for one in raw_bounds(store, batch) if one is not None]
    assert found
    return found


def answer_one(store: Database, batch: Batch) -> None:
    queued = next(one for one in batch.iter_results() if one.state == "queued")
    assert queued.turn_id is not None
    rows.run(store, queued.turn_id)

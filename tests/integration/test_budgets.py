"""What turns may cost, by a client, a worker's half and the mock, to the end."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import steps
from tests.openai_sessions import vendor_at_hand
from turnmill import Client, InvalidInput, SessionRecord, Turn, TurnFailed
from turnmill.cli.commands.budget import command
from turnmill.settings import Settings
from turnmill_worker.stack.process import wait_until

#: US dollars a token, so that a turn of the mock costs cents.
PRICES = {
    "mock/mock": {"input": 1_000, "output": 10_000},
    "mock/dear": {"input": 2_000, "output": 20_000},
    "mock/free": {"call": 0},
}
SOON = timedelta(seconds=20)
OUTPUT = 9  #: tokens that a reply may have: as many as the shortest has
CALL = Decimal("0.092")  #: of "hello" as the first of a session


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    return path


@pytest.fixture(params=["memory", "file"])
def client(request: pytest.FixtureRequest, tmp_path: Path, prices: Path) -> Iterator[Client]:
    url = "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 't.db'}"
    with Client(settings=Settings(database_url=url, prices=prices, tags=("team",))) as client:
        yield client
        if request.param == "file":
            steps.assert_sound(client._executor.database)


def a_session(client: Client, **options: Any) -> SessionRecord:
    values: dict[str, Any] = {"user_id": "ada", "settings": {"max_output_tokens": OUTPUT}}
    return client.sessions.create(**values | options)


def code_of(turn: Turn) -> str:
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=SOON.total_seconds())
    return caught.value.error_code


def test_a_budget_counts_what_replies_cost_to_the_last_digit(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=100)
    session = a_session(client)
    replies = [client.send(session, f"hello {n}").result(timeout=20) for n in range(5)]
    costs = [one.cost_usd for one in replies if one.cost_usd is not None]
    found = client.budgets.get(user_id="ada")
    assert found.spent_usd == sum(costs) > 0
    assert (found.reserved_usd, found.estimated_usd) == (Decimal(0), Decimal(0))


def test_many_turns_at_once_spend_the_limit_and_no_more(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=10 * CALL)
    turns = client.send_many([(a_session(client), "hello") for _ in range(40)])
    ended = [turn for turn in turns if _ended(turn) == "succeeded"]
    assert len(ended) == 10
    assert {turn.record.error_code for turn in turns if turn not in ended} == {"budget_exceeded"}
    assert client.budgets.get(user_id="ada").spent_usd == 10 * CALL


def _ended(turn: Turn) -> str:
    assert wait_until(lambda: turn.refresh().record.finished_at is not None, timeout=SOON)
    return turn.record.state


def waits_at_rest(turn: Turn) -> None:
    """Have the turn wait, in a moment at which nobody looks whether there is room again."""

    def waits() -> bool:
        record = turn.refresh().record
        return (record.waits_for, record.state) == ("budget", "queued")

    assert wait_until(waits, timeout=SOON)


def test_a_turn_waits_for_a_budget_until_it_is_raised_and_spends_no_attempt(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=0, on_exceeded="wait", period="day")
    turn = client.send(a_session(client), "hello")
    waits_at_rest(turn)
    assert turn.record.attempt == 0
    client.budgets.set(user_id="ada", limit_usd=1, on_exceeded="wait", period="day")
    assert len(turn.result(timeout=20).attempts) <= 2
    assert turn.refresh().record.attempt == 1


def test_a_turn_waits_for_a_budget_until_it_is_removed(client: Client) -> None:
    client.budgets.set(tag=("team", "red"), limit_usd=0, on_exceeded="wait", period="total")
    turn = client.send(a_session(client, metadata={"team": "red"}), "hello")
    waits_at_rest(turn)
    client.budgets.remove(tag=("team", "red"))
    turn.result(timeout=20)
    assert client.budgets.list() == []


def test_a_turn_and_a_session_have_limits_of_their_own(client: Client) -> None:
    session = a_session(client, max_cost_usd=2 * CALL)
    assert code_of(client.send(session, "hello", max_cost_usd="0.05")) == "budget_exceeded"
    client.send(session, "hello", max_cost_usd=CALL).result(timeout=20)
    assert code_of(client.send(session, "hello")) == "budget_exceeded"  # its history costs, too
    client.sessions.update(session, max_cost_usd=None)
    client.send(session, "hello").result(timeout=20)


def test_a_model_without_a_price_fails_where_a_budget_bounds_it_and_only_there(
    client: Client,
) -> None:
    session = a_session(client, model="unheard-of")
    client.send(session, "hello").result(timeout=20)
    client.budgets.set(user_id="ada", limit_usd=1)
    assert code_of(client.send(session, "hello")) == "price_unknown"
    assert code_of(client.send(session, "hello", max_cost_usd=1)) == "price_unknown"
    client.send(a_session(client, model="free"), "hello").result(timeout=20)
    client.send(a_session(client, user_id="bob", model="unheard-of"), "hello").result(timeout=20)


def test_what_a_provider_refuses_is_told_as_that_under_a_budget(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=100)
    turn = client.send(a_session(client), "hello", metadata={"mock": {"no": "such key"}})
    assert code_of(turn) == "setting_refused"
    assert client.budgets.get(user_id="ada").spent_usd == 0


def test_each_try_is_reserved_for_and_what_came_to_nothing_costs_nothing(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=CALL)
    script = {"faults": ["rate_limited", "unreachable"], "retry_after": 0.01}
    turn = client.send(a_session(client), "hello", metadata={"mock": script})
    assert len(turn.result(timeout=20).attempts) == 3
    assert client.budgets.get(user_id="ada").spent_usd == CALL


def test_a_try_that_failed_at_its_vendor_is_charged_with_what_that_has_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vendor_at_hand(monkeypatch) as vendor:
        client.budgets.set(user_id="ada", limit_usd=100)
        session = client.sessions.create(
            user_id="ada", provider="openai", model="gpt-5-mini", settings={"thread": "client"}
        )
        vendor.double.meet("spent:server_error")
        turn = client.send(session, "hello")
        turn.result(timeout=SOON.total_seconds())
        tries = turn.attempts()
        vendor.double.meet("spent:invalid_prompt")
        assert code_of(client.send(session, "hello")) == "invalid_prompt"
    costs = [one.cost_usd for one in tries if one.cost_usd]
    assert len(costs) == 2
    assert [one.input_tokens for one in tries] == [1423, 1423]
    assert client.turns.get(turn.id).record.cost_usd == sum(costs)
    found = client.budgets.get(user_id="ada")
    assert found.spent_usd == sum(costs) + costs[0]
    assert (found.reserved_usd, found.estimated_usd) == (Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("fault", "is_paid"), [("spent:invalid_prompt", True), ("failed:invalid_prompt", False)]
)
def test_work_in_the_background_that_failed_is_charged_with_what_was_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch, fault: str, *, is_paid: bool
) -> None:
    with vendor_at_hand(monkeypatch) as vendor:
        client.budgets.set(user_id="ada", limit_usd=100)
        session = client.sessions.create(
            user_id="ada", provider="openai", model="gpt-5-mini", settings={"background": True}
        )
        vendor.double.meet(fault)
        turn = client.send(session, "hello")
        assert code_of(turn) == "invalid_prompt"
    found = client.budgets.get(user_id="ada")
    cost = client.turns.get(turn.id).record.cost_usd
    assert found.reserved_usd == found.estimated_usd == 0
    if is_paid:
        assert cost and found.spent_usd == cost
        assert client.turns.get(turn.id).record.input_tokens == 1423
    else:
        assert not found.spent_usd and not cost
        assert not client.turns.get(turn.id).record.input_tokens


def test_each_target_is_reserved_for_at_its_own_price(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=3 * CALL)
    session = a_session(client, fallback=["mock/dear"])
    turn = client.send(session, "hello", metadata={"mock": {"faults": ["overloaded"]}})
    assert turn.result(timeout=20).answered_by == "mock/dear"
    assert client.budgets.get(user_id="ada").spent_usd == 2 * CALL
    turn = client.send(session, "hello", metadata={"mock": {"faults": ["overloaded"]}})
    assert code_of(turn) == "budget_exceeded"


def test_a_reply_that_was_lost_is_charged_with_all_that_was_reserved(client: Client) -> None:
    client.budgets.set(user_id="ada", limit_usd=2 * CALL)
    session = a_session(client, on_ambiguous="retry", max_attempts=3)
    turn = client.send(session, "hello", metadata={"mock": {"faults": "maybe_sent"}})
    assert code_of(turn) == "budget_exceeded"
    found = client.budgets.get(user_id="ada")
    assert (found.spent_usd, found.estimated_usd) == (2 * CALL, 2 * CALL)


def test_a_tag_that_no_worker_looks_at_cannot_be_bounded(client: Client) -> None:
    with pytest.raises(InvalidInput, match="no tag is named project"):
        client.budgets.set(tag=("project", "x"), limit_usd=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": "ada", "tag": ("team", "red")},
        {"tag": ("team",)},
        {"tag": "team"},
        {"period": "year"},
        {"timezone": "Mars"},
        {"on_exceeded": "explode"},
        {"warn_at": [2]},
        {"limit_usd": -1},
        {"limit_usd": "a lot"},
        {"user_id": ""},
    ],
)
def test_what_is_no_budget_is_refused_at_the_door(prices: Path, wrong: dict[str, Any]) -> None:
    with Client(settings=Settings(database_url="sqlite://", tags=("team",))) as client:
        with pytest.raises(InvalidInput):
            client.budgets.set(**{"limit_usd": 1, **wrong})
        assert client.budgets.list() == []


def test_a_share_that_is_spent_is_told_as_an_event_of_the_turn(client: Client) -> None:
    made = client.budgets.set(user_id="ada", limit_usd=2 * CALL, warn_at=(0.5, 0.99))
    turn = client.send(a_session(client), "hello")
    turn.result(timeout=20)
    found = client.events.follow(kinds=["budget.threshold"], timeout=20)
    event = next(one for one in found if one.kind != "gap")
    assert (event.budget_id, event.share, event.turn_id) == (made.id, 0.5, turn.id)


def test_the_example_of_the_page_runs_as_it_stands(client: Client) -> None:
    page = Path(__file__).parents[2] / "docs" / "limits-and-money.md"
    (code,) = re.findall(r"```python\n(.*?budgets\.set.*?)```", page.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"client": client, "session": a_session(client)}
    exec(compile(code, str(page), "exec"), names)
    assert names["budget"].left_usd == 2 and names["budget"].period_end is not None
    assert len(client.budgets.list()) == 4


def test_the_prompt_sets_shows_and_removes_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'turnmill.db'}")
    monkeypatch.setenv("TURNMILL_TAGS", "team, project")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "no budget" in run("ls")
    assert "$12.50" in run("set", "--limit-usd", "12.5", "--user", "ada", "--period", "day")
    set_ = json.loads(run("set", "--limit-usd", "7", "--tag", "team=red", "--json"))
    assert (set_["limit_usd"], set_["tag"]) == ("7.0000000000", ["team", "red"])
    lines = run("ls", "--json").splitlines()
    assert [json.loads(line)["scope"] for line in lines] == ["user", "tag"]
    assert "user ada" in run("ls") and "tag team=red" in run("ls")
    assert "removed" in run("rm", "--user", "ada")
    assert "user ada" not in run("ls")


def test_tokens_are_counted_as_the_mock_will_count_them(client: Client) -> None:
    session = a_session(client, system_prompt="Be brief, and kind.")
    client.send(session, "How are you?").result(timeout=20)
    text = "And tomorrow, after the rain has gone?"
    counted = client.count_tokens(session, text)
    asked = client.count_tokens(session, text, exact=True)
    reply = client.send(session, text).result(timeout=20)
    assert counted == asked == reply.usage.input_tokens
    assert (counted.exact, asked.exact) == (False, True)

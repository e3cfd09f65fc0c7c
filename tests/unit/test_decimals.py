"""What others set for their own decimals is not what money is calculated by."""

import asyncio
import decimal
import json
from decimal import Decimal
from pathlib import Path

import pytest

import turnmill
from turnmill import Client
from turnmill.settings import Settings
from turnmill.testing import script
from turnmill_worker.providers.boundary import cost_of
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.counting import most_cost
from turnmill_worker.providers.decimals import of_money
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.pricing import price
from turnmill_worker.threads import Threads

ROUGH = decimal.Context(prec=2, rounding=decimal.ROUND_DOWN)


def calculate_roughly() -> str:
    ours = decimal.getcontext()
    ours.prec, ours.rounding = 2, decimal.ROUND_DOWN
    return str(Decimal(2) / 3)


@turnmill.tool(effects="none")
def rough() -> str:
    """Calculate."""
    return calculate_roughly()


@turnmill.tool(effects="none")
async def rough_on_the_loop() -> str:
    """Calculate."""
    return calculate_roughly()


@pytest.mark.parametrize("tool", [rough, rough_on_the_loop])
def test_a_tool_that_calculates_with_two_digits_changes_no_cost(
    tmp_path: Path, tool: turnmill.Tool[[], str]
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"mock/mock": {"input": 0, "output": 0, "call": 0.0123456789}}))
    with Client(
        settings=Settings(database_url="sqlite://", prices=prices, tools=(tool,))
    ) as client:
        session = client.sessions.create(user_id="ada", provider="mock", tools=[tool])
        turn = client.send(session, "Hello", metadata=script(calls=[(tool, {})] * 2))
        reply = turn.result(timeout=30)
        assert "0.66" in reply.text  # with what it has set itself
        assert turn.refresh().record.cost_usd == Decimal("0.0246913578")


def test_prices_are_looked_up_by_the_rules_of_money() -> None:
    usage = Usage(input_tokens=123_457, output_tokens=7_891, service_tier="default")
    with of_money():
        exact = price("openai", "gpt-4o-mini", usage), most_cost(price, "openai", "gpt-5", usage)
    assert None not in exact
    with decimal.localcontext(ROUGH):
        cost = cost_of(lambda: price("openai", "gpt-4o-mini", usage))
        assert (cost, most_cost(price, "openai", "gpt-5", usage)) == exact


async def _set_by_others() -> tuple[int, int]:
    async def work() -> None:
        calculate_roughly()

    before = decimal.getcontext().prec
    call = Call(work())
    await call.wait()
    await Threads(1, name="test").call(calculate_roughly)
    return before, decimal.getcontext().prec


def test_what_a_call_of_others_code_sets_is_its_own() -> None:
    before, after = asyncio.run(_set_by_others())
    assert after == before > 2

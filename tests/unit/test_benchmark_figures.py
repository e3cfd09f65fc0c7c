"""What the benchmark makes of what it has measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import memory, render
from benchmarks.many import Look, Stands, held_kb, wrongs
from benchmarks.parts import Spread
from benchmarks.throughput import Throughput

ROOT = Path(__file__).parents[2]
_ALL_ANSWERED = Stands(succeeded=9, turns=9, attempts=9, replies=9)


def a_load(*, calls: int, pss_mb: float) -> Throughput:
    return Throughput(
        system="interactive",
        in_flight=calls,
        latency_s=4.0,
        processes=2,
        turns_per_s=Spread(1.0, 1.0, 1.0),
        cpu_ms={},
        pss_mb=999.0,
        pss_mb_each=[999.0, pss_mb, pss_mb + 9],
        calls_waiting=[0, calls, calls - 100],
        ran_dry=False,
    )


def a_row(system: str, cost: float) -> dict[str, Any]:
    spread = {"median": cost, "least": cost, "most": cost}
    return {
        "system": system,
        "latency_s": 1.0,
        "in_flight": 2000,
        "turns_per_s": spread,
        "cpu_ms": {"all": spread},
        "pss_mb": 300.0,
        "ran_dry": False,
    }


@pytest.mark.parametrize(
    ("page", "results"),
    [
        ("README.md", "short.json"),
        ("docs/benchmarks.md", "short.json"),
        ("docs/benchmarks-full.md", "full.json"),
    ],
)
def test_the_figures_of_a_page_are_those_that_were_measured(page: str, results: str) -> None:
    shown = (ROOT / page).read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks/results" / results).read_text(encoding="utf-8"))
    assert "<!-- benchmark:" in shown
    assert render.rendered(shown, measured) == shown


def test_a_further_call_is_what_lies_between_two_loads_when_most_calls_were_there() -> None:
    held = memory._held(a_load(calls=500, pss_mb=250.0), a_load(calls=2000, pss_mb=355.0), tls=True)
    assert (held.each_kb, held.calls, held.tls) == (70.0, (500, 2000), True)
    assert "TLS | 500 … 2,000 | 250 … 355 MB | 70 |" in render.memory_table(
        {"memory": [held.as_json()]}
    )


def test_cpu_stands_beside_that_of_the_limit_program() -> None:
    table = render.throughput_table({"throughput": [a_row("bulk", 0.5), a_row("limit", 0.2)]})
    bulk, limit = table.splitlines()[2:]
    assert "| 2.5 × |" in bulk
    assert "| 1.0 × |" in limit


def test_results_of_before_have_no_such_figures() -> None:
    assert "×" not in render.throughput_table({"throughput": [a_row("bulk", 0.5)]})
    assert render.memory_table({}).count("\n") == 1
    assert render.growth_table({"growth": {"stored": []}}).count("\n") == 1  # it ended early


def test_whoever_runs_nothing_is_not_shown_the_limit() -> None:
    rows = [a_row("bulk", 0.5), a_row("limit", 0.2), a_row("bare-own", 0.7)]
    assert len(render.short_table({"throughput": rows}).splitlines()) == 3


def test_nothing_lost_is_what_the_tables_say() -> None:
    def found(stands: Stands, *, served: int = 9, each_kb: float = 70.0) -> list[str]:
        return wrongs(stands, turns=9, served=served, each_kb=each_kb)

    assert found(_ALL_ANSWERED) == []
    assert found(replace(_ALL_ANSWERED, replies=8)) == ["8 replies, not 9"]
    assert found(replace(_ALL_ANSWERED, attempts=10)) == ["10 attempts, not 9"]
    assert found(_ALL_ANSWERED, served=10) == ["10 requests, not 9"]
    assert found(_ALL_ANSWERED, each_kb=100.0) == ["100.0 kB a call"]


def test_what_a_call_holds_is_seen_when_most_are_in_flight() -> None:
    looks = [Look(seconds=n, calls=calls, pss_mb=mb) for n, calls, mb in _SEEN]
    assert held_kb(looks) == 80.0


_SEEN = ((0.0, 0, 200.0), (9.0, 1000, 280.0), (18.0, 100, 280.0))

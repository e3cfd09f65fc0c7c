"""Metrics: documented one by one, bounded, and without a word of anybody's."""

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.claims import a_claim
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.content import Message
from turnmill.domain.errors import RateLimited, StoreUnavailable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.nouns.closed_long import ClosedFor
from turnmill_worker.layers import measure as measuring
from turnmill_worker.layers.log import log
from turnmill_worker.layers.registered import Named
from turnmill_worker.process.metrics import Metrics
from turnmill_worker.process.metrics_server import MetricsServer
from turnmill_worker.providers.port import Done, Request, Usage
from turnmill_worker.stack import ports
from turnmill_worker.stack.process import wait_until
from turnmill_worker.turn.run import run_claim
from turnmill_worker.turn.written import Written

DOCS = Path(__file__).parents[2] / "docs"
CANARY = "xyzzy-canary"


def metrics(**options: Any) -> Metrics:
    values: dict[str, Any] = {
        "providers": ("openai", "theirs"),
        "longest_waits": lambda: {Lane.BULK: timedelta(seconds=7)},
        "lags": lambda: {"observer:crm": timedelta(seconds=3), "a b": timedelta(seconds=9)},
        "closed": list,
        "in_flight": lambda: 3,
        "slots": lambda: 10,
    }
    return Metrics(**values | options)


def seen(**options: Any) -> Written:
    values: dict[str, Any] = {
        "turn_id": TurnId(uuid4()),
        "session_id": SessionId(uuid4()),
        "provider": "openai",
        "model": "large",
        "kind": "send",
        "attempt": 1,
        "state": TurnState.SUCCEEDED,
        "outcome": "succeeded",
        "error_code": None,
        "waits_for": None,
        "input_tokens": 10,
        "output_tokens": 5,
        "cached_tokens": 0,
        "cost_usd": Decimal("0.25"),
    }
    return Written(**values | options)


def value(found: Metrics, name: str, **labels: str) -> float | None:
    return found.registry.get_sample_value(name, labels)


def names(found: Metrics) -> set[str]:
    return {
        one.name + ("_total" if one.type == "counter" else "") for one in found.registry.collect()
    }


def test_the_table_of_the_docs_has_every_metric_with_its_labels_and_no_other() -> None:
    found = metrics()
    page = (DOCS / "metrics.md").read_text()
    rows = re.findall(r"^\| `(turnmill_\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    assert {name for name, _, _ in rows} == names(found)
    families = list(found.registry.collect())
    kinds = {one.name + "_total" * (one.type == "counter"): one.type for one in families}
    assert {name: kind for name, kind, _ in rows} == kinds
    labels = {name: set(re.findall(r"`(\w+)`", told)) for name, _, told in rows}
    assert labels["turnmill_turns_total"] == {"provider", "model", "state"}
    for collector in found.registry._collector_to_names:
        declared = getattr(collector, "_labelnames", None)
        if declared is not None:
            name = getattr(collector, "_name")  # noqa: B009
            told = labels.get(name, labels.get(f"{name}_total"))
            assert told == set(declared)


def test_the_example_rules_name_metrics_that_there_are() -> None:
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"turnmill_\w+", rule["expr"])}
    of_flower = set(re.findall(r"`(turnmill_board_\w+)`", (DOCS / "monitoring.md").read_text()))
    assert {re.sub(r"_bucket$", "", one) for one in used} <= names(metrics()) | of_flower
    assert len(used) > 5


def test_the_example_rules_speak_up_where_no_worker_is_left_to_say_anything() -> None:
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    absent = {name for one in rules for name in re.findall(r"absent\((\w+)\)", one["expr"])}
    assert absent == {"turnmill_slots"} <= names(metrics())
    for rule in rules:
        if "turnmill_oldest_due_seconds" in rule["expr"]:
            assert " or turnmill_board_oldest_due_seconds" in rule["expr"]


def test_turns_retries_tokens_and_money_are_counted_and_the_unknown_is_never_0() -> None:
    found = metrics()
    for observed in (
        seen(),
        seen(cost_usd=None, input_tokens=None),
        seen(state=TurnState.RETRYING, outcome="retrying", error_code="rate_limited"),
        seen(state=TurnState.QUEUED, outcome="not_now", waits_for="budget"),
        seen(state=TurnState.DEAD, outcome="dead", error_code="rate_limited"),
    ):
        found.written(observed)
    model = {"provider": "openai", "model": "large"}
    assert value(found, "turnmill_turns_total", **model, state="succeeded") == 2
    assert value(found, "turnmill_turns_total", **model, state="dead") == 1
    assert value(found, "turnmill_retries_total", provider="openai", code="rate_limited") == 1
    assert value(found, "turnmill_put_off_total", waits_for="budget") == 1
    assert value(found, "turnmill_tokens_total", **model, kind="input") == 10
    assert value(found, "turnmill_tokens_total", **model, kind="output") == 10
    assert value(found, "turnmill_cost_usd_total", **model) == 0.25
    assert value(found, "turnmill_unpriced_replies_total", **model) == 1


def test_labels_are_bounded_and_take_nothing_that_is_no_name() -> None:
    found = metrics()
    for number in range(300):
        found.written(seen(model=f"m{number}", provider=f"p{number}"))
        found.written(seen(state=TurnState.RETRYING, outcome="retrying", error_code=f"c{number}"))
        found.written(seen(state=TurnState.QUEUED, outcome="not_now", waits_for=f"w{number}"))
    found.written(seen(model=f"what {CANARY} said"))
    samples = [one for family in found.registry.collect() for one in family.samples]
    assert {one.labels["provider"] for one in samples if "provider" in one.labels} <= {
        "openai",
        "other",
    }
    for label, most in (("model", 51), ("code", 101), ("waits_for", 31)):
        assert len({one.labels[label] for one in samples if label in one.labels}) == most
    assert CANARY not in repr(samples)


def test_a_store_that_is_away_is_said_to_be_so_and_asked_no_more_often_for_many_scrapes() -> None:
    asked: list[int] = []

    def away() -> dict[Lane, timedelta]:
        asked.append(1)
        raise StoreUnavailable

    found = metrics(longest_waits=away)
    for _ in range(5):
        assert value(found, "turnmill_store_up") == 0
        assert value(found, "turnmill_oldest_due_seconds", lane="bulk") is None
    assert len(asked) == 1
    assert value(metrics(), "turnmill_oldest_due_seconds", lane="bulk") == 7


def test_how_far_readers_are_behind_is_told_by_their_names_or_as_others() -> None:
    assert value(metrics(), "turnmill_reader_lag_seconds", reader="observer:crm") == 3
    assert value(metrics(), "turnmill_reader_lag_seconds", reader="other") == 9

    def away() -> dict[str, timedelta]:
        raise StoreUnavailable

    assert value(metrics(lags=away), "turnmill_reader_lag_seconds", reader="other") is None


def shut(provider: str, model: str = "", *, minutes: float, permanent: bool = False) -> ClosedFor:
    return ClosedFor(
        kind="account",
        provider=provider,
        model=model,
        tier="",
        permanent=permanent,
        lasted=timedelta(minutes=minutes),
    )


def test_what_is_closed_is_told_for_as_long_as_it_is_and_by_names_that_are_bounded() -> None:
    closed = [
        shut("openai", minutes=2, permanent=True),
        shut("openai", "large", minutes=3),
        shut("openai", "large", minutes=20),  # of another key
        *(shut("theirs", f"{CANARY} {n}", minutes=n) for n in range(90)),
        shut("nobody's", minutes=1),
    ]
    found = metrics(closed=lambda: closed)

    def seconds(provider: str, model: str, permanent: str = "no") -> float | None:
        labels = {"provider": provider, "model": model, "kind": "account", "permanent": permanent}
        return value(found, "turnmill_closed_seconds", **labels)

    assert seconds("openai", "", "yes") == 120
    assert seconds("openai", "large") == 1200
    assert seconds("theirs", "other") == 89 * 60
    assert seconds("other", "") == 60
    assert CANARY not in repr(list(found.registry.collect()))
    closed.clear()
    assert value(metrics(closed=lambda: closed), "turnmill_closed_seconds") is None


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["send", "check"])
async def test_every_call_is_counted_and_logged_with_its_outcome_and_without_a_word(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "turnmill.calls")
    found = metrics()

    async def verb(request: Request) -> Done:
        if request.attempt == 2:
            raise RateLimited("slow_down", detail=CANARY)
        return Done(text=CANARY, usage=Usage(input_tokens=1, output_tokens=1))

    deps = deps_of(
        FakeLedger(),
        verb,
        check=verb,
        layers=[Named(name="log", layer=log())],
        measure=measuring.measure(found.called),
        told=found.written,
    )
    for attempt in (1, 2):
        await run_claim(
            a_claim(kind=kind, attempt=attempt, messages=[Message.of("user", CANARY)]), deps
        )
    for outcome in ("done", "rate_limited"):
        labels = {"provider": "theirs", "kind": kind, "outcome": outcome}
        assert value(found, "turnmill_call_seconds_count", **labels) == 1
    lines = [one for one in caplog.records if one.name == "turnmill.calls"]
    assert [(one.outcome, one.code) for one in lines] == [  # type: ignore[attr-defined]
        ("done", None),
        ("rate_limited", "slow_down"),
    ]
    assert all(one.levelname == "INFO" and one.ms >= 0 for one in lines)  # type: ignore[attr-defined]
    assert CANARY not in caplog.text + repr([vars(one) for one in lines])


@pytest.fixture
def taken() -> Iterator[MetricsServer]:
    server = MetricsServer(metrics().registry, host=ports.LOOPBACK, port=ports.choose(0))
    server.start()
    assert wait_until(lambda: server._server is not None, timeout=timedelta(seconds=10))
    yield server
    server.stop()


def test_metrics_are_served_and_a_port_that_is_taken_is_named_and_tried_again(
    taken: MetricsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnmill_worker.process import metrics_server

    monkeypatch.setattr(metrics_server, "_TRY_AGAIN_AFTER", timedelta(seconds=0.05))
    url = f"http://{taken._host}:{taken._port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert "turnmill_in_flight 3.0" in answer.read().decode()
    second = MetricsServer(metrics().registry, host=taken._host, port=taken._port)
    second.start()
    assert wait_until(lambda: "trying again" in caplog.text, timeout=timedelta(seconds=10))
    taken.stop()
    assert wait_until(lambda: second._server is not None, timeout=timedelta(seconds=10))
    second.stop()


def test_a_worker_without_metrics_does_not_import_what_counts_them() -> None:
    program = (
        "import sys\n"
        "import turnmill_worker.process.runtime, turnmill_worker.process.embedded\n"
        "assert 'prometheus_client' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

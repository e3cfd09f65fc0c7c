"""Chaos as a test: a third of a minute from a fixed seed. `make chaos` runs it for longer."""

from datetime import timedelta

import pytest
from rich.console import Console

from tests.chaos.chaos import Chaos, Plan
from tests.chaos.every_verb import VERBS, EveryVerb
from tests.chaos.report import show
from tests.chaos.system import Servers

PLAN = Plan(duration=timedelta(seconds=20), seed="1", fault_every=2.0)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_whatever_happens_nothing_is_lost_doubled_or_out_of_order(servers: Servers) -> None:
    outcome = Chaos(PLAN, servers).run()
    show(outcome, Console(width=100))
    assert outcome.complaints() == []
    assert len(outcome.books.turns) > 100
    assert len(outcome.blows) >= 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_whatever_clients_do_meanwhile_nothing_is_left_unsound(servers: Servers) -> None:
    outcome = Chaos(PLAN, servers, traffic=EveryVerb).run()
    show(outcome, Console(width=100))
    assert outcome.complaints() == []
    assert len(outcome.traffic.done) > len(VERBS) / 2

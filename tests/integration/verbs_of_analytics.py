"""Each verb of figures, feedback, trials and experiments, called once."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

from turnmill import Client, ExperimentRecord, NewPrice, PaidCall, TrialRecord


def a_bill(path: Path) -> Path:
    bill = path.with_suffix(".csv")
    bill.write_text("date,model,cost_usd\n2026-11-26,gpt-5,1.25\n", encoding="utf-8")
    return bill


def free(call: PaidCall) -> NewPrice:
    return NewPrice(Decimal(0), "nobody's list")


def a_trial(client: Client) -> TrialRecord:
    return client.trials.start("mock/mock-2", sample=5, name="one")


def an_experiment(client: Client) -> ExperimentRecord:
    return client.experiments.start("t", model="mock-2", name="e")


OF_ANALYTICS: dict[str, Callable[[Client, Path], object]] = {
    "Analytics.session": lambda c, _: c.analytics.session("s"),
    "Analytics.user": lambda c, _: c.analytics.user("ada", since="1d", zone="Asia/Kolkata"),
    "Analytics.feedback": lambda c, _: c.analytics.feedback(session="s", most=0),
    "Turn.feedback": lambda c, _: c.turns.list(states=["failed"])[0].feedback(-1, "bad"),
    "Turns.feedback": lambda c, _: c.turns.feedback(
        c.turns.list(states=["failed"])[0].id, 1, by="bob"
    ),
    "Trials.estimate": lambda c, _: c.trials.estimate("mock/mock-2", sample=5),
    "Trials.start": lambda c, _: a_trial(c),
    "Trials.list": lambda c, _: c.trials.list(),
    "Trials.get": lambda c, _: c.trials.get(a_trial(c)),
    "Trials.summary": lambda c, _: c.trials.summary(a_trial(c)),
    "Trials.results": lambda c, _: list(c.trials.results(a_trial(c))),
    "Trials.wait": lambda c, _: c.trials.wait(c.trials.cancel(a_trial(c))),
    "Trials.cancel": lambda c, _: c.trials.cancel(a_trial(c)),
    "Experiments.start": lambda c, _: an_experiment(c),
    "Experiments.list": lambda c, _: c.experiments.list(),
    "Experiments.get": lambda c, _: c.experiments.get(an_experiment(c)),
    "Experiments.result": lambda c, _: c.experiments.result(an_experiment(c)),
    "Experiments.arm_of": lambda c, _: c.experiments.arm_of("s"),
    "Experiments.stop": lambda c, _: c.experiments.stop(an_experiment(c)),
    "Analytics.report": lambda c, _: c.analytics.report(days=2),
    "Analytics.topics": lambda c, _: c.analytics.topics(),
    "Analytics.behaviours": lambda c, _: c.analytics.behaviours(session="s"),
    "Analytics.suggest": lambda c, _: c.analytics.suggest("s", since="24h"),
    "Analytics.overview": lambda c, _: c.analytics.overview(since="2d"),
    "Analytics.lines": lambda c, _: c.analytics.lines(since="2d"),
    "Analytics.alerts": lambda c, _: c.analytics.alerts(since="2d"),
    "Analytics.reconcile": lambda c, path: c.analytics.reconcile(a_bill(path), provider="mock"),
    "Analytics.reprice": lambda c, _: c.analytics.reprice(free, first=date(2026, 1, 1)),
}

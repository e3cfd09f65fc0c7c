"""`turnmill trial`: stored turns, asked again with another model or other settings."""

from __future__ import annotations

from typing import Any

import click

from turnmill.cli import INTERRUPTED, OK, STILL_RUNNING
from turnmill.cli.awaited import what_stops
from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import advise, json_option, open_client
from turnmill.cli.json_settings import object_of
from turnmill.cli.waiting import explaining
from turnmill.show.terminal import say
from turnmill.show.trial_view import print_trial, print_trial_estimate


@click.command("trial")
@click.option("--model", required=True, help="PROVIDER/MODEL, or a model of --provider.")
@click.option("--provider", help="Whose model it is.")
@click.option("--sample", type=click.IntRange(1, 5000), default=200, show_default=True)
@click.option("--since", default="7d", show_default=True, help="24h, 7d, or a day.")
@click.option("--template", help="Turns of sessions that were made from it alone.")
@click.option("--settings", metavar="JSON", help="In place of those of the sessions.")
@click.option("--judge", help="exact, embedding:NAME, or model:PROVIDER/MODEL.")
@click.option("--max-cost-usd", metavar="USD", help="Of all of it, the judge included.")
@click.option(
    "--judge-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Of that, the part of a judging model.",
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "flex", "live", "native"]),
    default="auto",
    show_default=True,
    help="Call by call, or in the vendors' batches.",
)
@click.option("--name", help="What the trial is known by.  [default: the model, and an id]")
@click.option("--dry-run", is_flag=True, help="Say what it would ask and cost; start nothing.")
@click.option("--watch", is_flag=True, help="Stay until it has ended.")
@json_option
def command(
    *,
    model: str,
    provider: str | None,
    sample: int,
    since: str,
    template: str | None,
    settings: str | None,
    judge: str | None,
    max_cost_usd: str | None,
    judge_share: float,
    mode: str,
    name: str | None,
    dry_run: bool,
    watch: bool,
    as_json: bool,
) -> int:
    """Ask stored turns again, and compare the replies side by side.

    Turns are drawn by chance among those with a reply, and asked with their history as it stood
    then, in the bulk lane. The sessions that they are of are not touched.
    """
    if dry_run:
        of_starting = ("max_cost_usd", "judge_share", "mode", "name", "watch")
        refuse_beside("--dry-run", *of_starting, why="it says what each mode would cost")
    if max_cost_usd is None or not (judge or "").startswith("model:"):
        why = "it is the part of --max-cost-usd that a judging model may spend"
        refuse_beside("this judge", "judge_share", why=why)
    what: dict[str, Any] = {
        "provider": provider,
        "sample": sample,
        "since": since,
        "template": template,
        "settings": object_of(settings),
        "judge": judge,
    }
    with open_client() as client:
        if dry_run:
            print_trial_estimate(client.trials.estimate(model, **what), as_json=as_json)
            return OK
        trial = client.trials.start(
            model,
            **what,
            max_cost_usd=max_cost_usd,
            judge_share=judge_share,
            mode=mode,
            name=name,
        )
        if watch:
            try:
                with explaining(lambda: what_stops(client, trial)):
                    trial = client.trials.wait(trial)
            except KeyboardInterrupt:
                say("the trial goes on without you")
                advise(f"next: turnmill trials show {trial.id}")
                return INTERRUPTED
        print_trial(trial, client.trials.summary(trial), as_json=as_json)
    return OK if trial.is_over or not watch else STILL_RUNNING

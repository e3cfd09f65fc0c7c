"""`turnmill flower`: the window on tasks and workers, behind a login."""

from __future__ import annotations

import os

import click

from turnmill.cli.celery_program import (
    PASSES_ON,
    become,
    passed_on,
    require_worker_half,
    settings_of_servers,
)
from turnmill.domain.errors import UnsafeSetting


@click.command("flower", context_settings=PASSES_ON)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Run Flower for whoever knows TURNMILL_FLOWER_AUTH (user:password), on loopback unless told.

    Further options go to Flower: --port=5555, --address=0.0.0.0, --url-prefix=flower, …
    """
    require_worker_half("flower", "greenlet")
    from turnmill_worker.stack.celery_parts import FLOWER_BOUNDS, FLOWER_CONFIG
    from turnmill_worker.stack.environments import FLOWER_AUTH

    login = os.environ.get(FLOWER_AUTH, "")
    user, _, password = login.partition(":")
    if not user or not password:
        raise UnsafeSetting(
            "Flower would be open to everybody" if not login else f"{FLOWER_AUTH} is no login",
            hint=f"set {FLOWER_AUTH}=user:password; `turnmill up` generates one by itself",
        )
    settings = settings_of_servers(database=False)
    ours = [FLOWER_CONFIG, *FLOWER_BOUNDS, "--address=127.0.0.1"]
    arguments = passed_on(ctx, *ours, reserved=("conf", "basic-auth"))
    become("flower", arguments, settings=settings, environ={})

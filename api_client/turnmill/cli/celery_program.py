"""Becoming one of Celery's own programs, set up for Turnmill."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from turnmill.domain.errors import InvalidSetting, MissingExtra

if TYPE_CHECKING:
    from turnmill.settings import Settings

APP = "turnmill_worker.app"

#: What the extra `worker` brings and the light install lacks: no provider can be asked without.
RUNS_TURNS = ("aiohttp", "httptools")

#: Of commands that hand on to Celery what they do not know themselves.
PASSES_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def require_worker_half(*modules: str) -> None:
    """Raise MissingExtra unless these modules, which the extra brings, are there."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            "this is the light install, which sends and reads: the worker half is not there"
            f" (missing: {', '.join(missing)})",
            hint="pip install 'turnmill[worker]'",
        )


def settings_of_servers(*, database: bool = True) -> Settings:
    """Return the settings with the URLs of the servers that are needed, or raise InvalidSetting."""
    from turnmill.running_home import settings_of_home

    settings = settings_of_home()
    for variable, url, needed in (
        ("TURNMILL_DATABASE_URL", settings.database_url, database),
        ("TURNMILL_BROKER_URL", settings.broker_url, True),
    ):
        if needed and not url:
            hint = f"set {variable}, or run `turnmill up`, which brings the servers along"
            if database and settings.database_url and not _names_server(settings.database_url):
                hint = "SQLite needs no worker: turns run in the process that sends them"
            raise InvalidSetting(f"{variable} is not set", hint=hint)
    return settings


def _names_server(database_url: str) -> bool:
    """Tell whether it is no file; raises InvalidSetting where there is no store for it."""
    from turnmill.store.database import address_of, parse_url

    parse_url(database_url)
    return address_of(database_url) is not None


def become(
    program: str, arguments: Sequence[str], *, settings: Settings, environ: Mapping[str, str]
) -> NoReturn:
    """Turn this process into one of Celery's programs; signals reach it."""
    from turnmill_worker.stack import environments
    from turnmill_worker.stack.celery_parts import command_of

    servers = {
        "TURNMILL_DATABASE_URL": settings.database_url,
        "TURNMILL_BROKER_URL": settings.broker_url,
    }
    narrow = {"beat": environments.of_beat, "flower": environments.of_flower}
    env = narrow.get(program, environments.of_worker)({**os.environ, **servers, **environ})
    sys.stdout.flush()
    os.execve(sys.executable, command_of(program, *arguments, app=APP), env)


def passed_on(ctx: click.Context, *ours: str, reserved: Sequence[str] = ()) -> list[str]:
    """Return our options and then the caller's, which win; UsageError for a reserved one."""
    for argument in ctx.args:
        name = argument.partition("=")[0].lstrip("-").replace("_", "-")
        if argument.startswith("-") and name in reserved:
            raise click.UsageError(f"--{name} is set by Turnmill")
    return [*ours, *ctx.args]

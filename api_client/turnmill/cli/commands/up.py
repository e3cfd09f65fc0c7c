"""`turnmill up`: the whole system on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli.celery_program import RUNS_TURNS
from turnmill.domain.errors import InvalidSetting, MissingExtra, UnsupportedByStore
from turnmill.role_urls import RoleUrls
from turnmill.settings import Settings
from turnmill.show.as_typed import as_typed
from turnmill.show.terminal import say, tell

if TYPE_CHECKING:
    from turnmill_worker.stack.celery_parts import FlowerLogin
    from turnmill_worker.stack.ready import Ready
    from turnmill_worker.stack.supervisor import StackOptions


@click.command("up")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data, passwords and logs live.  [default: TURNMILL_HOME, or .turnmill]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Turns that each worker holds at once.  [default: TURNMILL_CONCURRENCY, or 1000]",
)
@click.option(
    "--flower-auth",
    envvar="TURNMILL_FLOWER_AUTH",
    show_envvar=True,
    metavar="USER:PASSWORD",
    help="Who may look at Flower.  [default: a generated password]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when it is ready.")
def command(
    *,
    home: Path | None,
    workers: int,
    concurrency: int | None,
    flower_auth: str | None,
    as_json: bool,
) -> None:
    """Run Postgres, Valkey, workers, beat and Flower on this machine, on loopback only.

    TURNMILL_DATABASE_URL and TURNMILL_BROKER_URL replace the servers that come along.
    Ctrl-C stops everything; the data stay: `turnmill home show` says where, `turnmill home remove`
    removes them. Run by root, data that the user of Postgres cannot reach in the home go to
    /var/lib/turnmill.
    """
    _require_extras()
    from turnmill_worker.stack.supervisor import Stack

    options = _options(
        Settings.from_env(),
        home=home,
        workers=workers,
        concurrency=concurrency,
        flower_auth=flower_auth,
    )
    Stack(options, say=_say).run(_print_json if as_json else _print_text)


def _options(
    settings: Settings,
    *,
    home: Path | None,
    workers: int,
    concurrency: int | None,
    flower_auth: str | None,
) -> StackOptions:
    from turnmill.store.capabilities import Capability, capabilities_at
    from turnmill_worker.stack.supervisor import StackOptions

    if Capability.SHARED not in capabilities_at(settings.database_url):
        raise UnsupportedByStore(
            "workers in processes of their own need Postgres",
            hint="unset TURNMILL_DATABASE_URL: a Postgres comes along; or name one of yours there",
        )
    others = RoleUrls.from_env(settings)
    return StackOptions(
        home=home or settings.home,
        database_url=settings.database_url,
        roles=others,
        schema=settings.schema,
        broker_url=settings.broker_url,
        workers=workers,
        concurrency=concurrency or settings.concurrency,
        call_grace=settings.grace,
        flower_login=_login(flower_auth) if flower_auth else None,
    )


def _login(flower_auth: str) -> FlowerLogin:
    from turnmill_worker.stack.celery_parts import FlowerLogin

    user, _, password = flower_auth.partition(":")
    if not user or not password:
        raise InvalidSetting("TURNMILL_FLOWER_AUTH is not a login", hint="user:password")
    return FlowerLogin(user, password)


def _require_extras() -> None:
    for module in ("greenlet", "flower", *RUNS_TURNS):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(
                f"`turnmill up` runs parts that are not installed (missing: {module})",
                hint="pip install 'turnmill[all]'",
            )


def _say(line: str) -> None:
    say(line)


def _print_json(ready: Ready) -> None:
    tell(ready.as_json())


def _print_text(ready: Ready) -> None:
    tell(as_typed(ready.as_text()))

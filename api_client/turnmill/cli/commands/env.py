"""`turnmill env`: where the system is, for other programs."""

from __future__ import annotations

import shlex

import click

from turnmill.cli.context import json_option
from turnmill.domain.errors import InvalidSetting
from turnmill.show.tables import print_json
from turnmill.show.terminal import tell


@click.command("env")
@click.option(
    "--role",
    type=click.Choice(["viewer", "producer", "auditor", "analyst"]),
    help="For a program that does a part only: docs/security.md.",
)
@json_option
def command(*, role: str | None, as_json: bool) -> None:
    """Print the variables by which other programs find this system: eval "$(turnmill env)".

    As commands find it: by TURNMILL_* variables, or else by the `turnmill up` that runs in the
    home. The URLs hold passwords.
    """
    from turnmill.running_home import role_urls_of_home, settings_of_home

    settings = settings_of_home()
    if not settings.database_url:
        raise InvalidSetting(
            "no system was found",
            hint="set TURNMILL_DATABASE_URL, or start `turnmill up` in this folder",
        )
    database_url = settings.database_url
    if role is not None:
        database_url = getattr(role_urls_of_home(settings), role)
    if not database_url:
        variable = f"TURNMILL_{role}_URL".upper()
        raise InvalidSetting(f"there is no {role} here", hint=f"{variable}, and `turnmill roles`")
    found = {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": settings.broker_url,
        "TURNMILL_STREAM_URL": settings.stream_url,
        "TURNMILL_SCHEMA": settings.schema,
        "TURNMILL_HOME": str(settings.home.absolute()),
        "TURNMILL_FILES_URL": settings.files_url,
    }
    if not settings.files_url:  # the home has them
        del found["TURNMILL_FILES_URL"]
    if not settings.stream_url:  # the broker carries them
        del found["TURNMILL_STREAM_URL"]
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        tell(f"export {name}={shlex.quote(value)}")

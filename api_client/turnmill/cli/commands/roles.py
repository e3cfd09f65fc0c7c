"""`turnmill roles`: the roles of a database of Turnmill's own."""

from __future__ import annotations

import click

from turnmill.domain.errors import InvalidSetting
from turnmill.show.terminal import tell


@click.command("roles")
def command() -> None:
    """Make the roles that own the tables, work on them, or do a part of it; safe to run twice.

    TURNMILL_SUPERUSER_URL leads, as whoever may make roles, to a database of Turnmill's own.
    TURNMILL_OWNER_URL, TURNMILL_DATABASE_URL and, where they are set, TURNMILL_VIEWER_URL,
    TURNMILL_PRODUCER_URL, TURNMILL_AUDITOR_URL and TURNMILL_ANALYST_URL say the names and
    passwords. Then `turnmill migrate`. Beside an application: docs/security.md.
    """
    from turnmill.role_urls import ADMIN, ANALYST, AUDITOR, OWNER, PRODUCER, VIEWER, RoleUrls
    from turnmill.settings import Settings
    from turnmill.store.schema.roles import Login, make_roles

    settings = Settings.from_env()
    urls = RoleUrls.from_env(settings)
    needed = {ADMIN: urls.admin, OWNER: urls.owner, "TURNMILL_DATABASE_URL": settings.database_url}
    for variable, url in needed.items():
        if not url:
            raise InvalidSetting(f"{variable} is not set", hint="turnmill roles --help")
    owner = Login.of(OWNER, urls.owner)
    runtime = Login.of("TURNMILL_DATABASE_URL", settings.database_url)
    given = {
        VIEWER: urls.viewer,
        PRODUCER: urls.producer,
        AUDITOR: urls.auditor,
        ANALYST: urls.analyst,
    }
    viewer, producer, auditor, analyst = (
        Login.of(variable, url) if url else None for variable, url in given.items()
    )
    make_roles(
        urls.admin,
        owner=owner,
        runtime=runtime,
        viewer=viewer,
        producer=producer,
        auditor=auditor,
        analyst=analyst,
        schema=settings.schema,
    )
    does = {
        "looks": viewer,
        "sends and reads replies": producer,
        "audits": auditor,
        "reads figures": analyst,
    }
    others = "".join(f", {one.name} {what}" for what, one in does.items() if one)
    tell(f"{owner.name} owns, {runtime.name} works{others}")

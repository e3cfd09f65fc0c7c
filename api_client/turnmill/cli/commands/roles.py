"""`turnmill roles`: the roles of a database of Turnmill's own."""

from __future__ import annotations

import click

from turnmill.domain.errors import InvalidSetting
from turnmill.show.terminal import tell


@click.command("roles")
def command() -> None:
    """Make the roles that own the tables, work on them, and look; safe to run twice.

    TURNMILL_SUPERUSER_URL leads, as whoever may make roles, to a database of Turnmill's own.
    TURNMILL_OWNER_URL, TURNMILL_DATABASE_URL and, if it is set, TURNMILL_VIEWER_URL say the names
    and passwords. Then `turnmill migrate`. Beside an application: docs/security.md.
    """
    from turnmill.role_urls import ADMIN, OWNER, VIEWER, RoleUrls
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
    viewer = Login.of(VIEWER, urls.viewer) if urls.viewer else None
    make_roles(urls.admin, owner=owner, runtime=runtime, viewer=viewer, schema=settings.schema)
    looking = f", {viewer.name} looks" if viewer else ""
    tell(f"{owner.name} owns, {runtime.name} works{looking}")

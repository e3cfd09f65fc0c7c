"""The database of the stack: its roles, and its schema, brought along by the role that owns it."""

from turnmill import role_urls
from turnmill.role_urls import RoleUrls
from turnmill.store.schema import migrate
from turnmill.store.schema.roles import Login, make_roles
from turnmill_worker.stack.postgres import (
    ANALYST,
    AUDITOR,
    OWNER,
    PRODUCER,
    RUNTIME,
    VIEWER,
    EmbeddedPostgres,
)


def bring_along(postgres: EmbeddedPostgres, *, schema: str) -> None:
    """Make the roles of a server that came along, and migrate. Its home may be of before them."""
    make_roles(
        postgres.url,
        owner=Login.of(role_urls.OWNER, postgres.url_as(OWNER)),
        runtime=Login.of("TURNMILL_DATABASE_URL", postgres.url_as(RUNTIME)),
        viewer=Login.of(role_urls.VIEWER, postgres.url_as(VIEWER)),
        producer=Login.of(role_urls.PRODUCER, postgres.url_as(PRODUCER)),
        auditor=Login.of(role_urls.AUDITOR, postgres.url_as(AUDITOR)),
        analyst=Login.of(role_urls.ANALYST, postgres.url_as(ANALYST)),
        schema=schema,
    )
    owner_url = postgres.url_as(OWNER)
    migrate.upgrade(owner_url, schema=schema)
    others = {"viewer": VIEWER, "producer": PRODUCER, "auditor": AUDITOR, "analyst": ANALYST}
    migrate.grant(owner_url, schema=schema, runtime=RUNTIME, **others)


def migrate_theirs(database_url: str, *, roles: RoleUrls, schema: str) -> None:
    """Migrate a server of the caller's, as the owner of the tables where one is named."""
    migrate.upgrade(roles.owner or database_url, schema=schema)
    if roles.owner:
        runtime = Login.of("TURNMILL_DATABASE_URL", database_url).name
        others = {
            "viewer": _name(role_urls.VIEWER, roles.viewer),
            "producer": _name(role_urls.PRODUCER, roles.producer),
            "auditor": _name(role_urls.AUDITOR, roles.auditor),
            "analyst": _name(role_urls.ANALYST, roles.analyst),
        }
        migrate.grant(roles.owner, schema=schema, runtime=runtime, **others)


def _name(variable: str, url: str) -> str | None:
    return Login.of(variable, url).name if url else None

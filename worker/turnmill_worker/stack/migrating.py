"""The database of the stack: its roles, and its schema, brought along by the role that owns it."""

from turnmill.role_urls import OWNER as OWNER_URL
from turnmill.role_urls import VIEWER as VIEWER_URL
from turnmill.store.schema import migrate
from turnmill.store.schema.roles import Login, make_roles
from turnmill_worker.stack.postgres import OWNER, RUNTIME, VIEWER, EmbeddedPostgres


def bring_along(postgres: EmbeddedPostgres, *, schema: str) -> None:
    """Make the roles of a server that came along, and migrate. Its home may be of before them."""
    make_roles(
        postgres.url,
        owner=Login.of(OWNER_URL, postgres.url_as(OWNER)),
        runtime=Login.of("TURNMILL_DATABASE_URL", postgres.url_as(RUNTIME)),
        viewer=Login.of(VIEWER_URL, postgres.url_as(VIEWER)),
        schema=schema,
    )
    migrate.upgrade(postgres.url_as(OWNER), schema=schema)
    migrate.grant(postgres.url_as(OWNER), schema=schema, runtime=RUNTIME, viewer=VIEWER)


def migrate_theirs(database_url: str, *, owner_url: str, viewer_url: str, schema: str) -> None:
    """Migrate a server of the caller's, as the owner of the tables where one is named."""
    migrate.upgrade(owner_url or database_url, schema=schema)
    if owner_url:
        runtime = Login.of("TURNMILL_DATABASE_URL", database_url).name
        viewer = Login.of(VIEWER_URL, viewer_url).name if viewer_url else None
        migrate.grant(owner_url, schema=schema, runtime=runtime, viewer=viewer)

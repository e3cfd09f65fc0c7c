"""`turnmill migrate`: the database at this version's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import advise, confirm, json_option, yes_option
from turnmill.cli.waiting import working
from turnmill.show.tables import print_json
from turnmill.show.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnmill.store.schema.migrate import Migrated


_OF_UPGRADES = (
    *("revision", "finish", "pooled_roles"),
    *("runtime_role", "viewer_role", "producer_role", "auditor_role", "analyst_role"),
)


@click.command("migrate")
@click.option("--revision", default="head", show_default=True, help="Up to this revision.")
@click.option("--finish", is_flag=True, help="Also what the version before cannot live with.")
@click.option("--runtime-role", metavar="ROLE", help="Let this role work on the tables.")
@click.option("--viewer-role", metavar="ROLE", help="Let this role look at them: no content.")
@click.option("--producer-role", metavar="ROLE", help="Let this role send and read replies.")
@click.option("--auditor-role", metavar="ROLE", help="Let this role read the audit log.")
@click.option("--analyst-role", metavar="ROLE", help="Let this role read views of figures.")
@click.option("--downgrade", metavar="REVISION", help="Back to this one; `base` removes all.")
@click.option(
    "--pooled-role",
    "pooled_roles",
    metavar="ROLE",
    multiple=True,
    help="A role that comes through PgBouncer: the server keeps its settings. More than once.",
)
@yes_option
@json_option
def command(
    *,
    revision: str,
    finish: bool,
    runtime_role: str | None,
    viewer_role: str | None,
    producer_role: str | None,
    auditor_role: str | None,
    analyst_role: str | None,
    downgrade: str | None,
    pooled_roles: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Bring the database to this version's schema. Safe to run twice, and from two places at once.

    As the role of TURNMILL_OWNER_URL, where that is set, or of the `turnmill up` in the home; the
    role of TURNMILL_DATABASE_URL is then let work on the tables, that of TURNMILL_VIEWER_URL look
    at them, and those of TURNMILL_PRODUCER_URL, TURNMILL_AUDITOR_URL and TURNMILL_ANALYST_URL do
    their part.

    Workers of the version before go on while it runs, and after it, until --finish. --downgrade
    loses what the later schema holds.
    """
    from turnmill.running_home import role_urls_of_home, settings_of_home
    from turnmill.store.schema import migrate
    from turnmill.store.schema.revision import revision_of

    _refuse_downgrade(downgrade)
    settings = settings_of_home()
    urls = role_urls_of_home(settings)
    url, schema = urls.owner or settings.database_url, settings.schema
    with migrate.whose(url, schema=schema):
        before = revision_of(url, schema=schema)
        if downgrade is not None:
            if not yes:
                confirm(
                    _what_goes(before, downgrade, migrate.most_rows(url, schema=schema)), yes=yes
                )
            with working("the schema is taken back"):
                migrate.downgrade(url, downgrade, schema=schema)
        else:
            with working("the schema is brought to this version"):
                done = migrate.upgrade(
                    url, revision, schema=schema, finish=finish, pooled_roles=pooled_roles
                )
            before = done.before
            if not as_json:
                _tell(done, schema)
            named = {
                "runtime": (runtime_role, settings.database_url),
                "viewer": (viewer_role, urls.viewer),
                "producer": (producer_role, urls.producer),
                "auditor": (auditor_role, urls.auditor),
                "analyst": (analyst_role, urls.analyst),
            }
            by_url = bool(urls.owner)
            _let_in(url, schema, {name: _role(*of, by_url=by_url) for name, of in named.items()})
    _report(url, schema, before=before, as_json=as_json)


def _refuse_downgrade(to: str | None) -> None:
    """Raise for options beside it, and for what is no revision, before anybody is asked."""
    from turnmill.store.schema.migrate import refuse_unknown_revision

    if to is not None:
        refuse_beside("--downgrade", *_OF_UPGRADES, why="it goes back, and lets nobody in")
        refuse_unknown_revision(to)


def _report(url: str, schema: str, *, before: str | None, as_json: bool) -> None:
    from turnmill.store.schema import migrate
    from turnmill.store.schema.revision import HEAD, NEEDS, revision_of

    after = revision_of(url, schema=schema)
    left = migrate.unfinished(url, schema=schema)
    if as_json:
        print_json({"from": before, "to": after, "needed": NEEDS, "newest": HEAD, "left": left})
    else:
        _tell_moved(before, after, left=left)


def _tell_moved(before: str | None, after: str | None, *, left: int) -> None:
    from turnmill.store.schema.revision import NEEDS

    moved = f"{before or 'nothing'} → {after or 'nothing'}"
    tell(f"schema {moved}" if before != after else f"schema {after}: nothing to do")
    if after is None or after < NEEDS:
        advise(f"this version needs revision {NEEDS}: turnmill migrate")
    elif left:
        advise(f"{left} more once no older worker runs: turnmill migrate --finish")


def _what_goes(before: str | None, to: str, rows: Mapping[str, int]) -> str:
    held = ", ".join(f"{count:,} {table}" for table, count in rows.items())
    lost = "all tables go" if to == "base" else f"what is held since {to} goes"
    return f"Go back from revision {before} to {to}? For good {lost}; there are now {held}."


def _let_in(url: str, schema: str, roles: dict[str, str | None]) -> None:
    from turnmill.store.schema import migrate

    if any(roles.values()):
        migrate.grant(url, schema=schema, **roles)


def _role(role: str | None, url: str, *, by_url: bool) -> str | None:
    return role or (_role_of(url) if by_url else None)


def _role_of(url: str) -> str | None:
    from turnmill.store.database import parse_url

    return parse_url(url).username if url else None


def _tell(done: Migrated, schema: str) -> None:
    """Say what was done beside the migrations."""
    for role, names in done.settled.items():
        whose = f"the role {role}" if role else "this role, which comes through a pooler,"
        tell(f"connections of {whose} begin with settings of their own: {', '.join(names)}")
    if done.moved is None:
        return
    if done.moved.tables_from:
        tell(f"tables moved from the schema {done.moved.tables_from} to {schema}")
    if done.moved.search_path:
        tell(
            f"search_path of the role {schema} in this database set to {done.moved.search_path}:"
            " its bare names mean what they meant"
        )

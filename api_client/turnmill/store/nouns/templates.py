"""Templates: versions are added and never changed; one of them is current."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from turnmill.domain.errors import MoveRefused, TemplateNotFound
from turnmill.domain.ids import SessionId
from turnmill.domain.json_values import Unreadable
from turnmill.domain.states import SessionStatus
from turnmill.domain.templates import TemplateRef
from turnmill.store.readable import read_one, read_page
from turnmill.store.rules.sealing import sealed_of_house
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.template_tables import template_versions, templates
from turnmill.store.template_records import NewTemplate, PutTemplate, TemplateRecord
from turnmill.store.types import db_now, insert_into
from turnmill.store.vaults import plain


def put(conn: Connection, new: NewTemplate) -> PutTemplate:
    """Let the template say this from now on: a new version, unless the current one says just that.

    The caller's transaction holds the template's lock until it ends.
    """
    latest = _locked(conn, new.name)
    if latest and (standing := get(conn, TemplateRef(new.name, None))).definition == new.definition:
        return PutTemplate(record=standing, is_new=False)
    version = latest + 1
    place = f"{new.name.encode().hex()}/{version}"
    definition = sealed_of_house(conn, template_versions.c.definition, place, new.definition)
    note = sealed_of_house(conn, template_versions.c.note, place, new.note)
    values = {"name": new.name, "version": version, "definition": definition, "note": note}
    conn.execute(insert(template_versions).values(values))
    conn.execute(
        update(templates)
        .where(templates.c.name == new.name)
        .values(current=version, latest=version)
    )
    return PutTemplate(record=get(conn, TemplateRef(new.name, version)), is_new=True)


def _locked(conn: Connection, name: str) -> int:
    """Lock the template, and return its last version; 0 where there was none until now."""
    fresh = insert_into(conn, templates).values(name=name, current=1, latest=1)
    wanted = select(templates.c.latest).where(templates.c.name == name).with_for_update()
    while True:
        made = conn.execute(fresh.on_conflict_do_nothing().returning(templates.c.name)).first()
        if made is not None:
            return 0
        if (latest := conn.scalar(wanted)) is not None:
            return int(latest)  # or else it was removed just now


def get(conn: Connection, ref: TemplateRef, *, hold: bool = False) -> TemplateRecord:
    """Return a version of a template, the current one unless it is named; or TemplateNotFound.

    With `hold` nobody removes it until the caller's transaction ends, which notes a use of it.
    """
    version = template_versions.c.version
    wanted = templates.c.current if ref.version is None else ref.version
    query = _versions().where(templates.c.name == ref.name, version == wanted)
    if hold:
        query = query.with_for_update(read=True, key_share=True, of=templates)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise TemplateNotFound()
    return read_one(row, _record)


def find(conn: Connection, *, after: str | None = None, limit: int = 100) -> list[TemplateRecord]:
    """Return the current versions of up to `limit` templates, by name; `after` is a name."""
    query = _versions().where(template_versions.c.version == templates.c.current)
    if after is not None:
        query = query.where(templates.c.name > after)
    by = template_versions.c.name
    return read_page(conn, query, _record, by=by, limit=limit, newest_first=False)


def versions(
    conn: Connection, name: str, *, before: int | None = None, limit: int = 100
) -> list[TemplateRecord]:
    """Return up to `limit` versions, newest first; or raise TemplateNotFound."""
    if conn.scalar(select(templates.c.name).where(templates.c.name == name)) is None:
        raise TemplateNotFound()
    query = _versions().where(templates.c.name == name)
    if before is not None:
        query = query.where(template_versions.c.version < before)
    return read_page(conn, query, _record, by=template_versions.c.version, limit=limit)


def make_current(conn: Connection, name: str, version: int) -> TemplateRecord:
    """Let this version be meant where none is named; the others stay as they are."""
    if not _locked_if_there(conn, name):
        raise TemplateNotFound()
    found = get(conn, TemplateRef(name, version))
    conn.execute(update(templates).where(templates.c.name == name).values(current=version))
    return get(conn, TemplateRef(name, found.version))


def _locked_if_there(conn: Connection, name: str) -> bool:
    wanted = select(templates.c.name).where(templates.c.name == name)
    return conn.scalar(wanted.with_for_update()) is not None


def remove(conn: Connection, name: str) -> None:
    """Forget a template with all its versions, or raise TemplateNotFound.

    Raises MoveRefused while there are sessions that were made from it: they say so.
    """
    if not _locked_if_there(conn, name):
        raise TemplateNotFound()
    made = select(func.count()).select_from(sessions).where(sessions.c.template == name)
    if count := conn.scalar(made):
        raise MoveRefused(
            f"{count} sessions were made from the template",
            hint=f"`turnmill templates sessions {name}` lists them",
        )
    conn.execute(delete(template_versions).where(template_versions.c.name == name))
    conn.execute(delete(templates).where(templates.c.name == name))


def not_yet(conn: Connection, new: NewTemplate, *, version: int) -> TemplateRecord:
    """Return the record that a version would have if it was written now."""
    return TemplateRecord(
        name=new.name,
        version=version,
        is_current=True,
        definition=new.definition,
        note=new.note,
        created_at=conn.scalars(select(db_now())).one(),
    )


def note_use(conn: Connection, session_id: SessionId, record: TemplateRecord) -> None:
    """Note which version a new session was made from."""
    made_from = {"template": record.name, "template_version": record.version}
    conn.execute(update(sessions).where(sessions.c.id == session_id).values(made_from))


def uses(conn: Connection, name: str) -> dict[int, int]:
    """Return how many sessions were made from each version, as far as there are any, newest first.

    Sessions that were deleted do not count; archived ones do.
    """
    version = sessions.c.template_version
    rows = conn.execute(
        select(version, func.count())
        .where(sessions.c.template == name, sessions.c.status != SessionStatus.DELETED)
        .group_by(version)
        .order_by(version.desc())
    )
    return {int(row[0]): int(row[1]) for row in rows}


def _versions() -> Select[Any]:
    return select(
        template_versions, (template_versions.c.version == templates.c.current).label("is_current")
    ).join(templates, templates.c.name == template_versions.c.name)


def _record(row: Row[Any]) -> TemplateRecord:
    definition = plain(row.definition)
    if not isinstance(definition, Mapping) or isinstance(definition, Unreadable):
        raise TypeError("a template is an object")
    return TemplateRecord(
        name=row.name,
        version=row.version,
        is_current=bool(row.is_current),
        definition=definition,
        note=plain(row.note),
        created_at=row.created_at,
    )

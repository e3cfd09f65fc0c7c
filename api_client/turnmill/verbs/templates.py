"""Templates: `client.templates`, set-ups of sessions by name and version."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from turnmill.domain.arguments import page_size, whole, yes_or_no
from turnmill.domain.checks import check_name, check_text
from turnmill.domain.errors import InvalidInput, TemplateNotFound
from turnmill.domain.templates import (
    TemplateRef,
    changes_between,
    declared,
    lines_between,
    name_given,
    opening_given,
    ref_given,
)
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns import templates as rows
from turnmill.store.records import SessionRecord
from turnmill.store.template_records import (
    NewTemplate,
    PutTemplate,
    TemplateDiff,
    TemplateRecord,
    TemplateSync,
)
from turnmill.verbs import intake
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction

_MOST_VERSIONS = 10**9

#: What a template says in seconds.
SPANS = frozenset({"idle_ttl", "keep_content"})

#: What a template may say.
OPTIONS = frozenset(
    {
        *("provider", "model", "system_prompt", "settings", "metadata", "on_failure"),
        *("on_ambiguous", "max_attempts", "max_cost_usd", "idle_ttl", "opening", "variables"),
        *("keep_content", "note", *intake.SPOKEN),
    }
)


def new_template(
    name: object,
    *,
    max_text_bytes: int,
    note: object = None,
    provider: object = None,
    model: object = None,
    max_cost_usd: object = None,
    opening: object = None,
    variables: object = None,
    **options: Any,
) -> NewTemplate:
    """Check what a template is to say; raises InvalidInput. None is left to `sessions.create`."""
    bounded = partial(check_text, max_bytes=max_text_bytes)
    said = {key: value for key, value in options.items() if value is not None}
    if model is not None:
        said["model"] = model
    definition = intake.session_options(max_text_bytes=max_text_bytes, **{"settings": None, **said})
    if provider is not None:
        definition["provider"] = check_name(provider, name="provider")
    if max_cost_usd is not None:
        definition["max_cost_usd"] = str(intake.max_cost(max_cost_usd))
    for span in SPANS & definition.keys():
        definition[span] = int(definition[span].total_seconds())
    messages = opening_given(opening)
    texts = [bounded(one["content"], name="a message of opening") for one in messages]
    if texts:
        bounded("".join(texts), name="opening")
        definition["opening"] = messages
    places = declared(variables, [definition.get("system_prompt") or "", *texts])
    if places:
        definition["variables"] = places
    return NewTemplate(
        name=name_given(name),
        # As it comes back from a store, to be compared with what stands there.
        definition=json.loads(json.dumps(_without_nothing(definition))),
        note=None if note is None else bounded(note, name="note"),
    )


def _without_nothing(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in definition.items() if value not in (None, {}, [])}


def put(new: NewTemplate) -> Verb[TemplateRecord]:
    """Let the template say this from now on."""
    return transaction(lambda conn: Effect(rows.put(conn, new).record))


def get(template: object) -> Verb[TemplateRecord]:
    """Read a version of a template."""
    ref = ref_of(template)
    return single(lambda conn: Effect(rows.get(conn, ref)))


def find(*, after: object, limit: object) -> Verb[list[TemplateRecord]]:
    """Read the current versions of a page of templates."""
    begin, most = None if after is None else ref_of(after).name, page_size(limit)
    return single(lambda conn: Effect(rows.find(conn, after=begin, limit=most)))


def versions(name: object, *, before: object, limit: object) -> Verb[list[TemplateRecord]]:
    """Read a page of versions, newest first."""
    wanted, most = ref_of(name).name, page_size(limit)
    begin = None if before is None else whole(before, name="before", most=_MOST_VERSIONS)
    return single(lambda conn: Effect(rows.versions(conn, wanted, before=begin, limit=most)))


def roll_back(template: object, *, to: object) -> Verb[TemplateRecord]:
    """Let an earlier version be current again."""
    name = ref_of(template).name
    version = whole(to, name="to", most=_MOST_VERSIONS)
    deed = Deed("template.rolled_back", objects={"version": version})
    return transaction(lambda conn: Effect(rows.make_current(conn, name, version)), does=deed)


def remove(template: object) -> Verb[None]:
    """Forget a template that no session was made from."""
    ref = ref_of(template)
    if ref.version is not None and not isinstance(template, TemplateRecord):
        raise InvalidInput("a template goes with all its versions", hint=f'"{ref.name}"')

    def on(conn: Connection) -> Effect[None]:
        rows.remove(conn, ref.name)
        return Effect(None)

    return transaction(on, does=Deed("template.removed"))


def diff(before: object, after: object) -> Verb[TemplateDiff]:
    """Compare two versions of one template."""
    first, second = ref_of(before), None if after is None else ref_of(after)
    if second is not None and second.name != first.name:
        raise InvalidInput("versions of two templates", hint=f'"{first.name}@1"')

    def on(conn: Connection) -> Effect[TemplateDiff]:
        old = rows.get(conn, first)
        return Effect(compared(old, rows.get(conn, second or TemplateRef(first.name, None))))

    return single(on)


def compared(old: TemplateRecord, new: TemplateRecord) -> TemplateDiff:
    """Return what differs between two versions."""
    lines = lines_between(old.definition, new.definition, names=(old.ref, new.ref))
    return TemplateDiff(
        name=old.name,
        before=old.version,
        after=new.version,
        changes=changes_between(old.definition, new.definition),
        text="\n".join(lines),
    )


def uses(template: object) -> Verb[dict[int, int]]:
    """Count the sessions of each version."""
    name = ref_of(template).name
    return single(lambda conn: Effect(rows.uses(conn, name)))


def sessions(template: object, *, after: object, limit: object) -> Verb[list[SessionRecord]]:
    """Read a page of the sessions that were made from a template, or from one version of it."""
    ref, page = ref_of(template), intake.listing(after=after, limit=limit)
    return single(lambda conn: Effect(session_rows.find(conn, template=ref, **page)))


def sync(news: Sequence[NewTemplate], *, dry_run: object) -> Verb[TemplateSync]:
    """Put all that is new or changed, in one transaction; or only tell what would be put."""
    is_dry = yes_or_no(dry_run, name="dry_run")

    def on(conn: Connection) -> Effect[TemplateSync]:
        done = [_would(conn, one) if is_dry else rows.put(conn, one) for one in news]
        known = {one.name for one in news}
        return Effect(TemplateSync(put=done, only_in_store=_others(conn, known)))

    deed = Deed("templates.synced", figures={"templates": len(news)})
    return transaction(on, does=None if is_dry else deed)


def _would(conn: Connection, new: NewTemplate) -> PutTemplate:
    """Return what putting it would make of it, but for the moment."""
    try:
        standing = rows.get(conn, TemplateRef(new.name, None))
        if standing.definition == new.definition:
            return PutTemplate(record=standing, is_new=False)
        latest = rows.versions(conn, new.name, limit=1)[0].version
    except TemplateNotFound:
        latest = 0
    return PutTemplate(record=rows.not_yet(conn, new, version=latest + 1), is_new=True)


def _others(conn: Connection, known: set[str]) -> list[str]:
    found, page = [], rows.find(conn)
    while page:
        found += [one.name for one in page if one.name not in known]
        page = rows.find(conn, after=page[-1].name)
    return found


def ref_of(template: object) -> TemplateRef:
    """Return which template is meant, given as record or by name; raises InvalidInput."""
    if isinstance(template, TemplateRecord):
        return TemplateRef(template.name, template.version)
    return ref_given(template)

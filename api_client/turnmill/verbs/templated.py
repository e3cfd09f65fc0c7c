"""Sessions that are made from a template: `sessions.create(template=…)`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from turnmill.domain.content import Message
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.json_values import json_object
from turnmill.domain.scripts import Script, script_of
from turnmill.domain.templates import filled, values_for
from turnmill.new_ids import new_id
from turnmill.store.line.accept import accept
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns import templates as rows
from turnmill.store.nouns.scripted import ScriptedTurn, insert_scripted
from turnmill.store.records import Accepted, SessionRecord
from turnmill.store.template_records import TemplateRecord
from turnmill.verbs import intake, new_messages
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.intake import SPOKEN
from turnmill.verbs.sending import heads_of
from turnmill.verbs.sessions import bound_session
from turnmill.verbs.templates import SPANS, ref_of
from turnmill.verbs.verb import Connection, Effect, Verb, transaction

#: What a template says of a session, besides its settings, its budget and how it begins.
_PLAIN = ("provider", "model", "system_prompt", "on_failure", "on_ambiguous", "max_attempts")


def create(
    template: object,
    variables: object,
    given: Mapping[str, Any],
    backpressure: Backpressure,
    *,
    max_cost_usd: object = None,
    history: Sequence[tuple[Message, ...]] = (),
) -> Verb[SessionRecord]:
    """Create a session as its template says, or get the one that its key stands for, as it is.

    `given` are the arguments of `sessions.create`: what is not None there goes first. A `history`
    stands in the place of opening messages.
    """
    if template is None:
        raise InvalidInput("variables are those of a template", hint='template="support"')
    ref = ref_of(template)
    limit = None if max_cost_usd is None else intake.max_cost(max_cost_usd)

    def on(conn: Connection) -> Effect[SessionRecord]:
        found = rows.get(conn, ref, hold=True)
        values = values_for(variables, found.definition.get("variables", {}))
        new = intake.new_session(**_merged(_said(found, values), given))
        session = session_rows.create(conn, new)
        backpressure.note(session)
        if session.id != new.id:
            return Effect(session)
        rows.note_use(conn, session.id, found)
        most = limit if limit is not None else found.definition.get("max_cost_usd")
        if most is not None:
            bound_session(conn, session.id, intake.max_cost(most))
        script = Script(history, ())
        if not history:
            script = _opening(found, values, max_text_bytes=given["max_text_bytes"])
        if script.turns and new.adopted is not None:
            raise InvalidInput(
                "a thread that is adopted has begun already, and the template opens it",
                hint="use a template without opening messages",
            )
        accepted = _begin(conn, session.id, script, backpressure, given)
        made = session_rows.get(conn, session.id)
        return Effect(made, heads_of(accepted, intake.turn_options()["lane"]))

    return transaction(on)


def _said(template: TemplateRecord, values: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template says, as arguments of `sessions.create`."""
    definition = template.definition
    said = {name: definition.get(name) for name in _PLAIN}
    if said["system_prompt"] is not None:
        said["system_prompt"] = filled(said["system_prompt"], values)
    for span in SPANS:
        seconds = definition.get(span)
        said[span] = None if seconds is None else timedelta(seconds=seconds)
    return said | {name: dict(definition.get(name, {})) for name in ("settings", "metadata")}


def _merged(said: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said, and in its place what is given."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in SPOKEN:
        if name in chosen:
            said["settings"].pop(name, None)
    for name in ("settings", "metadata"):
        if isinstance(chosen.get(name), Mapping):
            own = json_object(chosen[name], name=name)
            chosen[name] = {**said[name], **own}
    return {**said, "key": None, "user_id": given["user_id"], **chosen}


def _opening(template: TemplateRecord, values: Mapping[str, str], *, max_text_bytes: int) -> Script:
    messages = []
    for one in template.definition.get("opening", ()):
        text = filled(one["content"], values)
        parts = new_messages.parts_of(text, max_text_bytes=max_text_bytes)
        messages.append(Message(one["role"], parts))
    return script_of(messages)


def _begin(
    conn: Connection,
    session_id: SessionId,
    script: Script,
    backpressure: Backpressure,
    given: Mapping[str, Any],
) -> Sequence[Accepted]:
    """Let the session begin with what is written down; what nobody has answered there is sent."""
    turns = [ScriptedTurn(id=TurnId(new_id()), messages=one) for one in script.turns]
    if turns:
        insert_scripted(conn, session_id, turns)
    if script.open:
        backpressure.take(conn, session_id, count=len(script.open))
    options = intake.turn_options()
    most = given["max_text_bytes"]
    return [
        accept(
            conn, session_id, new_messages.new_turn(list(one.parts), options, max_text_bytes=most)
        )
        for one in script.open
    ]

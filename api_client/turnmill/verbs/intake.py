"""Checking what callers hand in, and making records of it: shared by both clients."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import signature
from typing import Any, TypedDict, cast
from uuid import UUID

from turnmill.domain.adoption import settled_in, thread_to_adopt
from turnmill.domain.arguments import moment, one_of, page_size, span, whole, yes_or_no
from turnmill.domain.bounds import (
    LONGEST_IDLE,
    MOST_ATTEMPTS,
    MOST_MESSAGES,
    SHORTEST_IDLE,
)
from turnmill.domain.checks import check_name, check_text
from turnmill.domain.content import Message
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId, as_uuid, ids_from
from turnmill.domain.json_values import json_object
from turnmill.domain.plain import id_of, items_of, text_of
from turnmill.domain.session_settings import (
    OBSERVERS,
    checked_settings,
    choice_given,
    fallback_given,
    format_given,
    layers_given,
    merged_settings,
    observers_given,
    prompt_given,
    rounds_given,
    tools_given,
)
from turnmill.domain.states import Lane, OnAmbiguous, OnFailure, TurnState
from turnmill.domain.targets import FALLBACK
from turnmill.new_ids import new_id
from turnmill.store.records import NewSession

#: Who answers, and by which model, where nothing is said: no vendor.
MOCK = "mock"

_MOST_STATES = 100  #: that a listing names; there are fewer
_PAIRS = '[(session, "text"), …]'


class Unchanged(Enum):
    """What `sessions.update` takes for an option that is to stay as it is, where None says more."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return self.name


UNCHANGED = Unchanged.UNCHANGED

#: Tools of a session: names, objects, and what `turnmill.tool` has made.
Tools = Sequence[str | Mapping[str, Any] | Callable[..., Any]]
#: The id of a prompt that a vendor keeps, or {"id", "version", "variables"}.
Prompt = str | Mapping[str, Any]
#: Who else may answer: names such as "anthropic/claude-sonnet-4-5", or objects.
Fallback = Sequence[str | Mapping[str, Any]]
#: What was said elsewhere: messages, or a document that holds them.
History = Sequence[Message | Mapping[str, Any]] | Mapping[str, Any]
#: A JSON schema, or a pydantic model.
ResponseFormat = Mapping[str, Any] | type

#: Settings that `sessions.create`, `sessions.update` and templates take by names of their own.
SPOKEN: Mapping[str, Callable[[Any], Any]] = {
    FALLBACK: fallback_given,
    "layers": layers_given,
    "tools": tools_given,
    "max_tool_rounds": rounds_given,
    "on_context_full": partial(choice_given, name="on_context_full"),
    "response_format": format_given,
    OBSERVERS: observers_given,
    "thread": partial(choice_given, name="thread"),
    "prompt": prompt_given,
}


#: Settings that name who else is asked, besides the session's own provider.
_NAMING = frozenset({FALLBACK, "transcribe", "audio_model"})


def new_session(
    *,
    user_id: str,
    key: str | None,
    max_text_bytes: int,
    provider: str | None = None,
    model: str | None = None,
    adopt: str | None = None,
    key_id: str | None = None,
    **options: Any,
) -> NewSession:
    """Check the arguments of `sessions.create`, None being left out; raises InvalidInput."""
    said = {name: value for name, value in options.items() if value is not None}
    given = session_options(max_text_bytes=max_text_bytes, **{"settings": None, **said})
    answering = check_name(MOCK if provider is None else provider, name="provider")
    if adopt is not None:
        given["adopted"] = thread_to_adopt(adopt, provider=answering)
        given["settings"] = settled_in(given["settings"], given["adopted"])
    return NewSession(
        id=SessionId(new_id()),
        user_id=check_name(user_id, name="user_id"),
        provider=answering,
        model=check_name(MOCK if model is None else model, name="model"),
        key=None if key is None else session_key(key),
        key_id=None if key_id is None else check_name(key_id, name="key_id"),
        **given,
    )


def session_key(key: str) -> str:
    """Return the key, or raise InvalidInput: a key that reads as an id could mean two sessions."""
    checked = check_name(key, name="key")
    if as_uuid(checked) is not None:
        raise InvalidInput("a session key must not look like a UUID", hint="add a prefix")
    return checked


def session_options(
    *,
    max_text_bytes: int,
    model: str | Unchanged = UNCHANGED,
    system_prompt: str | Unchanged | None = UNCHANGED,
    settings: Mapping[str, Any] | Unchanged | None = UNCHANGED,
    metadata: Mapping[str, Any] | Unchanged | None = UNCHANGED,
    on_failure: str | Unchanged = UNCHANGED,
    on_ambiguous: str | Unchanged = UNCHANGED,
    max_attempts: int | Unchanged = UNCHANGED,
    idle_ttl: timedelta | Unchanged | None = UNCHANGED,
    keep_content: timedelta | Unchanged | None = UNCHANGED,
    **spoken: Any,
) -> dict[str, Any]:
    """Return those options of a session that were given, checked; raises InvalidInput.

    `spoken` are settings that have names of their own. They go into those that are given beside
    them; alone they come back as `more_settings`, to be put into what the session has.
    """
    checks: tuple[tuple[str, object, Callable[[Any], object]], ...] = (
        ("model", model, partial(check_name, name="model")),
        ("system_prompt", system_prompt, partial(_system_prompt, max_bytes=max_text_bytes)),
        ("settings", settings, checked_settings),
        ("metadata", metadata, partial(json_object, name="metadata")),
        ("on_failure", on_failure, partial(one_of, OnFailure, name="on_failure")),
        ("on_ambiguous", on_ambiguous, partial(one_of, OnAmbiguous, name="on_ambiguous")),
        ("max_attempts", max_attempts, _attempts),
        ("idle_ttl", idle_ttl, _idle_ttl),
        ("keep_content", keep_content, kept_content),
    )
    options = {name: check(value) for name, value, check in checks if value is not UNCHANGED}
    more = {name: SPOKEN[name](value) for name, value in spoken.items() if value is not UNCHANGED}
    if "settings" in options:
        options["settings"] = _joined(cast("dict[str, Any]", options["settings"]), more)
    elif more:
        options["more_settings"] = more
    refuse_strangers(options.get("settings") or more)
    return options


def refuse_strangers(settings: Any) -> None:
    """Raise InvalidInput where checked settings name somebody who is not installed here."""
    if settings.keys() & _NAMING:
        from turnmill.verbs import installed  # noqa: PLC0415  few name any

        installed.refuse_strangers(settings)


def _joined(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        if value is not None and name in settings:
            raise InvalidInput(
                f"{name} is given twice", hint=f"{name}=, or settings={{{name!r}: …}}"
            )
    changes = {name: one for name, one in more.items() if one is not None}
    return merged_settings(settings, changes) if changes else dict(settings)


def _system_prompt(value: object, *, max_bytes: int) -> str | None:
    return None if value is None else check_text(value, name="system_prompt", max_bytes=max_bytes)


def _idle_ttl(value: object) -> timedelta | None:
    if value is None:
        return None
    return span(value, name="idle_ttl", least=SHORTEST_IDLE, most=LONGEST_IDLE)


def kept_content(value: object) -> timedelta | None:
    """Return for how long content is to be kept; None: nothing is said. Raises InvalidInput."""
    if value is None:
        return None
    return span(value, name="keep_content", least=SHORTEST_IDLE, most=LONGEST_IDLE)


class TurnOptions(TypedDict):
    """What may be said of a message besides its text, checked: fields of a `NewTurn`."""

    lane: Lane
    idempotency_key: str | None
    deliver_at: datetime | None
    expires_at: datetime | None
    metadata: Mapping[str, Any]
    max_attempts: int | None
    max_cost_usd: Decimal | None
    stream: bool
    reply_as: str | None


def turn_options(
    *,
    lane: str = Lane.INTERACTIVE,
    idempotency_key: str | None = None,
    deliver_at: datetime | None = None,
    expires: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
    max_attempts: int | None = None,
    max_cost_usd: object = None,
    stream: bool = False,
    reply_as: str | None = None,
) -> TurnOptions:
    """Check the options of `send` and `send_many`; raises InvalidInput."""
    chosen = one_of(Lane, lane, name="lane")
    if chosen is Lane.QUARANTINE:
        raise InvalidInput("nothing is sent to quarantine", hint="lane: interactive or bulk")
    due_at, expires_at = moment(deliver_at, name="deliver_at"), moment(expires, name="expires")
    if due_at is not None and expires_at is not None and expires_at <= due_at:
        raise InvalidInput("expires must be after deliver_at", hint="it could never run")
    return {
        "lane": chosen,
        "idempotency_key": name_or_none(idempotency_key, name="idempotency_key"),
        "deliver_at": due_at,
        "expires_at": expires_at,
        "metadata": json_object(metadata, name="metadata"),
        "max_attempts": None if max_attempts is None else _attempts(max_attempts),
        "max_cost_usd": None if max_cost_usd is None else max_cost(max_cost_usd),
        "stream": yes_or_no(stream, name="stream"),
        "reply_as": choice_given(reply_as, name="reply_as"),
    }


def max_cost(value: object) -> Decimal:
    """Return what something may cost at the most, in US dollars; raises InvalidInput."""
    from turnmill.domain.budgets import dollars  # noqa: PLC0415  few name any

    return dollars(value, name="max_cost_usd")


def options_of(verb: Callable[..., object]) -> frozenset[str]:
    """Return what the verb may be told by keyword."""
    return frozenset(signature(verb).parameters)


def refuse_unknown_arguments(given: Collection[str], *, known: frozenset[str], verb: str) -> None:
    """Raise InvalidInput for an option that the verb does not have: Python would name no others."""
    if unknown := set(given) - known:
        raise InvalidInput(
            f"{verb} has no option {', '.join(sorted(unknown))}",
            hint=f"known: {', '.join(sorted(known - {'self'}))}",
        )


def pairs(messages: object) -> tuple[list[Any], list[Any]]:
    """Return the sessions and the texts of `send_many`; raises InvalidInput.

    Nothing was written yet, so that an iterable that fails half-way costs nothing: its error is the
    caller's own.
    """
    if not isinstance(messages, Iterable) or isinstance(messages, str | bytes):
        raise InvalidInput("messages must be pairs of session and text", hint=_PAIRS)
    listed = items_of(messages, most=MOST_MESSAGES) if isinstance(messages, list) else messages
    sessions, texts = [], []
    for index, one in enumerate(cast("Iterable[object]", listed)):
        if index == MOST_MESSAGES:
            raise InvalidInput(
                f"messages are more than {MOST_MESSAGES}", hint="send them in several calls"
            )
        pair = items_of(one, most=2) if isinstance(one, tuple | list) else None
        if pair is None or len(pair) != 2:
            raise InvalidInput(f"message {index} is no pair of session and text", hint=_PAIRS)
        sessions.append(pair[0])
        texts.append(pair[1])
    return sessions, texts


def listing(*, after: object, limit: object) -> dict[str, Any]:
    """Return the arguments of a page of a listing; raises InvalidInput."""
    return {
        "after": None if after is None else identifier(after, name="after"),
        "limit": page_size(limit),
    }


def states(wanted: object) -> list[TurnState]:
    """Return the states that a listing is to show; raises InvalidInput."""
    is_some = isinstance(wanted, Collection) and not isinstance(wanted, str)
    found = items_of(wanted, most=_MOST_STATES) if is_some else None
    if found is None:
        raise InvalidInput("states must be a sequence of states", hint='states=["failed", "dead"]')
    if len(found) > _MOST_STATES:
        raise InvalidInput(f"states are more than {_MOST_STATES}", hint="name each once")
    return [one_of(TurnState, state, name="state") for state in found]


def ids(prefix: object) -> tuple[UUID, UUID] | None:
    """Return the least and the largest id that a listing is to show; raises InvalidInput."""
    if prefix is None:
        return None
    found = ids_from(str.__str__(prefix)) if isinstance(prefix, str) else None
    if found is None:
        raise InvalidInput(
            "id_prefix must be the beginning of an id", hint='eight digits or more: "01a2161c-7d19"'
        )
    return found


def name_or_none(value: object, *, name: str) -> str | None:
    """Return what a listing is filtered by; raises InvalidInput."""
    return None if value is None else check_name(value, name=name)


def are_none(attachments: object) -> bool:
    """Tell whether nothing is attached; of what is no list of files, whoever keeps them tells."""
    if attachments is None:
        return True
    return isinstance(attachments, list | tuple) and not items_of(attachments, most=0)


def turn_id(value: object) -> TurnId:
    """Return the id of a turn given as handle, UUID or text; raises InvalidInput."""
    return TurnId(identifier(value, name="turn", hint="`turnmill turns ls` lists them"))


def turn_ids(value: object, *, most: int) -> list[TurnId]:
    """Return the ids of up to so many turns, each given as for `turn_id`; raises InvalidInput."""
    listed = items_of(value, most=most) if isinstance(value, list | tuple) else None
    if listed is None:
        raise InvalidInput(
            "turns must be a list of turns, or of their ids", hint="[turn, turn.id, str(turn.id)]"
        )
    if len(listed) > most:
        raise InvalidInput(f"more than {most} turns at once", hint="ask for some after the others")
    return [turn_id(one) for one in listed]


def identifier(value: object, *, name: str, hint: str = "an id as a listing shows it") -> UUID:
    """Return the id that is given as UUID, as text, or by what bears it; raises InvalidInput."""
    found = bare(value)
    if isinstance(found, str):
        found = as_uuid(found)
    if not isinstance(found, UUID):
        raise InvalidInput(f"{name} must be an id", hint=hint)
    return found


def bare(value: object) -> object:
    """Return the id of what bears one, such as a record or handle; anything else as it is.

    A text or id of a subclass is what that holds.
    """
    if not isinstance(value, str | UUID):
        try:
            value = getattr(value, "id", value)
        except Exception:  # noqa: BLE001
            # The edge to a caller's own type: it names nothing then, which whoever asks will say.
            return None
    if isinstance(value, UUID):
        return id_of(value)
    text = text_of(value)
    return value if text is None else text


def _attempts(value: object) -> int:
    return whole(value, name="max_attempts", most=MOST_ATTEMPTS)

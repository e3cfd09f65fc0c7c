"""What a line says, checked: all that is stored of it until turns are made of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from turnmill.domain.bounds import NAME_LENGTH
from turnmill.domain.checks import check_name, check_text
from turnmill.domain.content import Attached, Message, Part
from turnmill.domain.conversations import Conversation, conversation_from
from turnmill.domain.counting import bytes_of
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, as_uuid
from turnmill.domain.json_values import json_object
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.scripts import script_of
from turnmill.domain.session_settings import merged_settings
from turnmill.store.batch_records import StagedLine
from turnmill.store.codec import content_of
from turnmill.verbs import intake
from turnmill.verbs.batch_files.line_files import (
    LineFile,
    files_in,
    refuse_files,
    with_files,
)
from turnmill.verbs.batch_files.problems import (
    MISSING,
    TOO_LONG,
    UNKNOWN,
    WRONG_TYPE,
    WRONG_VALUE,
    Refused,
)
from turnmill.verbs.batch_files.strict_json import object_in
from turnmill.verbs.batch_files.vendor_lines import translated
from turnmill.verbs.intake import MOCK

T = TypeVar("T")

_TALKS = ("messages", "conversations", "conversation")
_OF_SESSION = frozenset({"fallback", "provider", "model", "system_prompt", "settings"})
_FIELDS = frozenset({"custom_id", "user_id", "session", "text", "metadata", *_TALKS}) | _OF_SESSION
_OPTIONS = ("fallback", "system_prompt", "settings")
#: Options of sessions that many lines share are checked once.
_MOST_KEPT = 256
#: Of English prose; other scripts have fewer bytes a token, and are counted as such.
_BYTES_PER_TOKEN, _BYTES_PER_OTHER = 4, 3
_TOKENS_AROUND = 4  #: a message
_TOKENS_OF_FILE = 1_000  #: about: of a picture


@dataclass(frozen=True, slots=True)
class Defaults:
    """What lines may leave out."""

    provider: str | None  #: None: the vendor whose line it is, or else nobody's: the mock
    model: str | None
    user_id: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)


class Draft(NamedTuple):
    """A line that was checked, but for the session that it names."""

    line: StagedLine
    session: SessionId | str | None  #: an id or a key; None: it has one of its own
    terms: "Terms | None"  #: None: the session has its own
    files: Sequence[LineFile] = ()  #: that are to be kept before it can stand

    def with_kept(self, parts: Sequence[Part]) -> "Draft":
        """Return it with these in the places of its files, in their order."""
        for file, part in zip(self.files, parts, strict=True):
            message = self.line.content["said"][file.turn][file.message]
            message[1][file.part] = content_of([part])[0]
        return self._replace(files=())


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a line is priced."""

    provider: str
    model: str
    settings: Mapping[str, Any] = field(repr=False)


class LineReader:
    """Checks lines one by one."""

    def __init__(self, defaults: Defaults, *, max_text_bytes: int) -> None:
        self._defaults = defaults
        self._max_text_bytes = max_text_bytes
        self._kept: dict[str, Mapping[str, Any]] = {}

    def read(self, number: int, content: bytes | Mapping[str, Any] | Refused) -> Draft:
        """Return what the line says; raises Refused."""
        if isinstance(content, Refused):
            raise content
        fields = object_in(content) if isinstance(content, bytes) else content
        said, vendor = translated(fields)
        if vendor is None:
            said = _without_nulls(said)
        if unknown := said.keys() - _FIELDS:
            names = ", ".join(repr(name[:40]) for name in sorted(unknown)[:5])
            raise Refused(UNKNOWN, f"unknown field {names}; known: {', '.join(sorted(_FIELDS))}")
        return self._draft(number, said, vendor)

    def _draft(self, number: int, said: Mapping[str, Any], vendor: str | None) -> Draft:
        session = self._session_named(said)
        content: dict[str, Any] = {}
        files: list[LineFile] = []
        told = self._say(said, content, files)
        if session is not None and (told or "before" in content):
            raise Refused(
                WRONG_VALUE, "messages: the session has a history and a prompt of its own"
            )
        terms = None if session is not None else self._of_session(said, content, told, vendor)
        if said.get("metadata") is not None:
            content["metadata"] = _given(json_object, said["metadata"], "metadata")
        custom_id = said.get("custom_id")
        texts = _texts_in(content)
        line = StagedLine(
            number=number,
            content=content,
            custom_id=None if custom_id is None else _name(custom_id, "custom_id"),
            user_id=None if session is not None else self._user(said),
            weight=weight_of(texts) + _TOKENS_OF_FILE * len(files),
        )
        return Draft(line, session, None if terms is None else Terms(*terms), files)

    def _session_named(self, said: Mapping[str, Any]) -> SessionId | str | None:
        if "session" not in said:
            return None
        if "user_id" in said:
            raise Refused(WRONG_VALUE, 'needs one of "user_id" and "session", not both')
        if given := _OF_SESSION & said.keys():
            raise Refused(WRONG_VALUE, f"{', '.join(sorted(given))}: the session has its own")
        ref = _name(said["session"], "session")
        found = as_uuid(ref)
        return ref if found is None else SessionId(found)

    def _user(self, said: Mapping[str, Any]) -> str:
        if "user_id" in said:
            return _name(said["user_id"], "user_id")
        if self._defaults.user_id is None:
            raise Refused(
                MISSING, 'needs one of "user_id" and "session", or the batch a user_id of its own'
            )
        return self._defaults.user_id

    def _say(
        self, said: Mapping[str, Any], content: dict[str, Any], files: list[LineFile]
    ) -> str | None:
        """Put in what is said; return the system prompt that stands before it, if one does."""
        talks = [name for name in _TALKS if name in said]
        if "text" in said:
            if talks:
                raise Refused(WRONG_VALUE, f"needs one of text and {talks[0]}, not both")
            content["text"] = self._text(said["text"], "text")
            return None
        if not talks:
            raise Refused(MISSING, "needs text, or messages")
        if len(talks) > 1:
            raise Refused(WRONG_VALUE, f"needs one of {talks[0]} and {talks[1]}, not both")
        return self._talk(said[talks[0]], content, files)

    def _talk(self, messages: object, content: dict[str, Any], files: list[LineFile]) -> str | None:
        if not isinstance(messages, list):
            raise Refused(WRONG_TYPE, "messages is no list")
        listed = with_files(messages)
        try:
            found: Conversation = conversation_from(
                listed, max_text_bytes=self._max_text_bytes, files=True
            )
        except InvalidInput as error:
            raise Refused(WRONG_VALUE, str(error)) from None
        script = script_of(found.messages)
        open_turns = _open_turns(script.open)
        if not open_turns:
            raise Refused(WRONG_VALUE, "the last message is not the user's: nothing is to be said")
        files += files_in(open_turns)
        if script.turns:
            for before in script.turns:
                refuse_files(before)
            content["before"] = [_stored(one) for one in script.turns]
        content["said"] = [_stored(one) for one in open_turns]
        return found.system_prompt

    def _text(self, text: object, name: str) -> str:
        if type(text) is str and self._is_plain(text):
            return text  # most are
        if not isinstance(text, str):
            raise Refused(WRONG_TYPE, f"{name} must be a str, not {type(text).__name__}")
        too_long = len(text.encode(errors="replace")) > self._max_text_bytes
        return _given(
            partial(check_text, max_bytes=self._max_text_bytes),
            text,
            name,
            code=TOO_LONG if too_long else WRONG_VALUE,
        )

    def _is_plain(self, text: str) -> bool:
        fits = len(text) <= self._max_text_bytes and text.isascii()
        return fits and "\0" not in text and not text.isspace() and text != ""

    def _of_session(
        self, said: Mapping[str, Any], content: dict[str, Any], told: str | None, vendor: str | None
    ) -> tuple[str, str, Mapping[str, Any]]:
        """Put in what the session of the line is to be; return by what it is priced."""
        given = self._defaults
        provider = given.provider or vendor or MOCK
        if "provider" in said:
            provider = _name(said["provider"], "provider")
        model = given.model or (MOCK if provider == MOCK else None)
        if "model" in said:
            model = _name(said["model"], "model")
        if model is None:
            raise Refused(MISSING, "model is missing")
        if provider != (given.provider or MOCK):
            content["provider"] = provider
        if model != model_by_default(given):
            content["model"] = model
        if told is not None or not said.keys().isdisjoint(_OPTIONS):
            content |= self._options(said, told)
        return provider, model, laid_over(given.settings, content.get("settings", {}))

    def _options(self, said: Mapping[str, Any], told: str | None) -> Mapping[str, Any]:
        """Return system prompt and settings, checked; once for all lines that have the same."""
        given = {name: said[name] for name in _OPTIONS if said.get(name) is not None}
        if told is not None:
            given["system_prompt"] = "\n\n".join(filter(None, (given.get("system_prompt"), told)))
        kept = json.dumps(given)
        if kept not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[kept] = self._checked(given)
        return self._kept[kept]

    def _checked(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            found = intake.session_options(
                max_text_bytes=self._max_text_bytes, **{"settings": None, **given}
            )
            merged_settings(self._defaults.settings, found["settings"])
        except InvalidInput as error:
            raise Refused(WRONG_VALUE, str(error)) from None
        return {name: found[name] for name in ("system_prompt", "settings") if found.get(name)}


def _without_nulls(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line without what is null: whoever writes tables as lines fills up with it."""
    if None not in said.values():
        return said
    return {name: one for name, one in said.items() if one is not None or name not in _FIELDS}


def model_by_default(given: Defaults) -> str | None:
    """Return the model of lines that name none, nor a provider; None: each names one."""
    return given.model or (MOCK if (given.provider or MOCK) == MOCK else None)


def _open_turns(said: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Return what is to be answered, turn by turn: each ends with a message of the user's."""
    turns: list[tuple[Message, ...]] = []
    current: list[Message] = []
    for message in said:
        current.append(message)
        if message.role == "user":
            turns.append(tuple(current))
            current = []
    return [] if current else turns


def _stored(messages: Sequence[Message]) -> list[list[Any]]:
    return [[one.role, [*map(_part, one.parts)]] for one in messages]


def _part(part: Part) -> dict[str, Any]:
    """Return a part as it is stored; of a file that is not kept yet, its place."""
    return {} if isinstance(part, Attached) else content_of([part])[0]


def weight_of(size: Sequence[str]) -> int:
    """Return how many tokens texts are, about."""
    tokens = sum(
        len(one) // _BYTES_PER_TOKEN if one.isascii() else bytes_of(one) // _BYTES_PER_OTHER
        for one in size
    )
    return tokens + _TOKENS_AROUND * len(size)


def _texts_in(content: Mapping[str, Any]) -> list[str]:
    texts = [content["text"]] if "text" in content else []
    for name in ("before", "said"):
        for turn in content.get(name, ()):
            texts += [
                part.get("text") or json.dumps(part) for _, parts in turn for part in parts if part
            ]
    if "system_prompt" in content:
        texts.append(content["system_prompt"])
    return texts


def _name(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(WRONG_TYPE, f"{name} must be a str, not {type(value).__name__}")
    code = TOO_LONG if len(value) > NAME_LENGTH else WRONG_VALUE
    return _given(check_name, value, name, code=code)


def _given(check: Callable[..., T], value: object, name: str, *, code: str = WRONG_VALUE) -> T:
    """Return what the check makes of it; Refused in place of InvalidInput."""
    try:
        return check(value, name=name)
    except InvalidInput as error:
        raise Refused(code, str(error)) from None

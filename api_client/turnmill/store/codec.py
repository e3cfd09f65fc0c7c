"""Content as it is stored: the one place where messages become JSON, and JSON becomes messages."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, overload

from turnmill.domain.content import KINDS, Kind, Message, Part, Text, text_of
from turnmill.domain.errors import Rejected, SealBroken, UnreadableRow
from turnmill.domain.ids import SessionId
from turnmill.domain.json_values import Unreadable
from turnmill.new_ids import new_id
from turnmill.store.readable import ODD
from turnmill.store.vaults import Unopened, plain

#: Changes a message on its way to one who cannot take all of it; None leaves it out.
Fit = Callable[[Message], Message | None]
#: Reads what has been said in a session, once more.
Reread = Callable[[SessionId], Awaitable["StoredHistory"]]

_FIELDS: Mapping[Kind, Mapping[str, Any]] = {
    kind: {one.name: one.type for one in fields(kind)} for kind in KINDS.values()
}
_DEFAULTS: Mapping[Kind, Mapping[str, Any]] = {
    kind: {one.name: one.default for one in fields(kind)} for kind in KINDS.values()
}
_NOTHING_SAID = "[]"
#: Characters from which on it is worth while to let a history go that can be read again.
_LONG = 1000
#: Stands in the JSON of a message that holds an attachment; within a text, it stands escaped.
_ATTACHED = '"sha256"'
#: Stands where a part of a listed message cannot be read.
_UNREADABLE = Text("\N{REPLACEMENT CHARACTER}")


def content_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what is stored of a message's parts, to be written as JSON."""
    return [
        {"type": "text", "text": part.text} if isinstance(part, Text) else _stored(part)
        for part in parts
    ]


def parts_from(content: object) -> tuple[Part, ...]:
    """Return the parts that are stored; raises one of `readable.ODD` where one cannot be read.

    So it is with a kind or a field that a newer version wrote: what nobody here understands is
    never left out.
    """
    if not isinstance(content, list):
        raise content.error if isinstance(content, Unopened) else TypeError("no list of parts")
    if len(content) == 1:
        return (_part(content[0]),)
    return tuple([_part(one) for one in content])


def said_from(
    rows: Sequence[tuple[str, Any, int]],
) -> tuple[tuple[Message, ...], tuple[Message, ...], int]:
    """Return what stands before a turn, its messages, and the position behind them.

    `rows` are (role, content, position), in order: of a turn without any there is nothing to ask.
    Below 0 stands what was said in a thread before it was adopted. Raises one of `readable.ODD`.
    """
    said = tuple([Message(role, parts_from(content)) for role, content, _ in rows])
    first = 0 if rows[0][2] >= 0 else sum(position < 0 for _, _, position in rows)
    return said[:first], said[first:], rows[-1][2] + 1


def shown_parts(content: object) -> tuple[Part, ...]:
    """Return the parts for a listing, in which those that cannot be read are marked."""
    if not isinstance(content, list):
        if isinstance(content, Unopened) and not isinstance(content.error, SealBroken):
            raise content.error  # it will be readable
        return (_UNREADABLE,)
    return tuple([_shown(one) for one in content])


def rows_of(messages: Sequence[Message], *, first: int = 0) -> list[dict[str, Any]]:
    """Return what is written of messages that follow one another, from this position on."""
    return [
        {"id": new_id(), "position": n, "role": one.role, "content": content_of(one.parts)}
        for n, one in enumerate(messages, first)
    ]


def exported(parts: Sequence[Part]) -> dict[str, Any]:
    """Return a message's content for a file or a program: its text, and all parts if it is more."""
    more = any(not isinstance(part, Text) for part in parts)
    return {"text": text_of(parts)} | ({"parts": content_of(parts)} if more else {})


def content_hash(messages: Sequence[Message]) -> bytes:
    """Return what is compared of two turns under one idempotency key: content only.

    Of one plain text it is what it was before messages had parts. No text begins with the NUL
    that stands before everything else.
    """
    if len(messages) == 1 and messages[0].role == "user" and len(messages[0].parts) == 1:
        only = messages[0].parts[0]
        if isinstance(only, Text):
            return hashlib.sha256(only.text.encode()).digest()
    canonical = [[one.role, _compared(one.parts)] for one in messages]
    document = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"\0" + document.encode()).digest()


class StoredHistory(Sequence[Message]):
    """Messages as the JSON that the store has returned, read anew by whoever looks.

    A provider looks once, and then waits for seconds with thousands of others: read at once, each
    history would be kept in memory as lists of messages, several times its size. Where it can be
    read again, it is not even kept as JSON then: who has looked may `let_go`.
    """

    __slots__ = ("_fit", "_json", "_length", "_reread", "_session", "_whole", "_words")

    def __init__(self, rows: str = _NOTHING_SAID) -> None:
        """`rows` is a JSON array of [role, content]."""
        self._json: str | None = rows
        self._fit: Fit | None = None
        self._whole: StoredHistory | None = None  #: what this is a view of
        self._length: int | None = None  # asked by `list()` and `[*…]` after they began to read
        self._words: list[tuple[str, str]] | None = None  # read already, for who writes them next
        self._reread: Reread | None = None
        self._session: SessionId | None = None

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[str, Any]]) -> "StoredHistory":
        """Return the history of rows whose JSON a driver has read already."""
        return cls(json.dumps([[role, plain(content)] for role, content in rows]))

    @property
    def holds_attachments(self) -> bool:
        """Tell whether a message refers to a file, without reading any."""
        rows = self._source._json
        return rows is not None and _ATTACHED in rows  # one that may be let go of holds none

    def fitted(self, fit: Fit) -> "StoredHistory":
        """Return the same history as one is to see it who cannot take all of it.

        What `fit` raises, looking raises.
        """
        if self._source._json == _NOTHING_SAID:
            return self
        view = StoredHistory()
        view._json, view._fit, view._whole = None, fit, self._source
        return view

    def can_be_read_again(self, reread: Reread, session: SessionId) -> None:
        """Let it go when it is let go of; `reread` brings it back. Only if it is long, and text."""
        whole = self._source
        if len(whole._rows) >= _LONG and not whole.holds_attachments:
            whole._reread, whole._session = reread, session

    def let_go(self) -> None:
        """Keep nothing of it, nor do views: looking at it raises RuntimeError until it comes back.

        Of one that cannot be read again everything stays.
        """
        whole = self._source
        if whole._reread is not None:
            whole._json = whole._words = None

    @property
    def is_here(self) -> bool:
        """Tell whether it can be looked at."""
        return self._source._json is not None

    async def come_back(self) -> None:
        """Read it again if it was let go; raises what reading raises."""
        whole = self._source
        if whole._json is None and whole._reread is not None and whole._session is not None:
            whole._json = (await whole._reread(whole._session))._rows

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages())

    def __len__(self) -> int:
        return len(self._messages()) if self._length is None else self._length

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return self._messages()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._messages() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        said = self._source._json
        size = "let go" if said is None else f"of {len(said)} characters"
        return f"<StoredHistory {size}>"  # never what was said

    def counted_words(self) -> list[tuple[str, str]] | None:
        """Return `words`, and keep them for whoever asks next: who counts is before who writes."""
        whole = self._source
        whole._words = self.words()
        return whole._words

    def words(self) -> list[tuple[str, str]] | None:
        """Return who said what, where each message is one text; None where one is more, or odd.

        Nearly all are: for whoever takes text as it is, messages need not be made of them.
        """
        whole = self._source
        if whole._words is not None:
            found, whole._words = whole._words, None
            return found
        return self._read_words()

    def _read_words(self) -> list[tuple[str, str]] | None:
        found: list[tuple[str, str]] = []
        try:
            for role, (part,) in json.loads(self._rows):
                text = part["text"]
                if part["type"] != "text" or len(part) != 2 or type(text) is not str:
                    return None
                found.append((role, text))
        except ODD:
            return None  # whoever looks at the messages is told
        return found

    @property
    def _source(self) -> "StoredHistory":
        return self if self._whole is None else self._whole

    @property
    def _rows(self) -> str:
        rows = self._source._json
        if rows is None:
            raise RuntimeError("the history was let go of: it has to come back first")
        return rows

    def _messages(self) -> list[Message]:
        self._source._words = None
        try:
            found = [Message(role, parts_from(said)) for role, said in json.loads(self._rows)]
        except ODD:
            # It will not become readable: the turn ends, and says why.
            raise Rejected(UnreadableRow.code, hint=UnreadableRow.hint) from None
        if self._fit is not None:
            found = [one for one in map(self._fit, found) if one is not None]
        self._length = len(found)
        return found


def object_of(found: Any) -> dict[str, Any]:
    """Return what settings and metadata are, or raise TypeError."""
    if isinstance(found, Unopened):
        raise found.error
    if not isinstance(found, dict) or isinstance(found, Unreadable):
        raise TypeError("not an object")
    return found


def _compared(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what is stored of the parts, without what is found out later: how long they take."""
    return [
        {name: value for name, value in one.items() if name != "duration_ms"}
        for one in content_of(parts)
    ]


def _stored(part: Part) -> dict[str, Any]:
    """Return a part without what is not said of it: the hash of it must not change with us."""
    defaults = _DEFAULTS[type(part)]
    said = {name: getattr(part, name) for name in defaults}
    return {"type": part.kind} | {
        name: value for name, value in said.items() if value != defaults[name]
    }


def _part(stored: Any) -> Part:
    if stored["type"] == "text" and len(stored) == 2 and type(stored["text"]) is str:
        return Text(stored["text"])  # most parts are
    kind = KINDS[stored["type"]]
    types = _FIELDS[kind]
    values = {name: value for name, value in stored.items() if name != "type"}
    if any(type(value) is not types[name] for name, value in values.items()):
        raise TypeError("a field is of another type")
    return kind(**values)


def _shown(stored: object) -> Part:
    try:
        return _part(stored)
    except ODD:
        return _UNREADABLE

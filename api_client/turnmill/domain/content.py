"""What is said: messages, and the parts that a message is made of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    kind: ClassVar[str] = "text"

    text: str

    def __repr__(self) -> str:
        """Tell how long it is, and never what was said; of what is no text, what it is."""
        told = self.text
        is_text = isinstance(told, str)  # what a caller hands in is looked at later
        return f"Text(<{len(told)} characters>)" if is_text else f"Text(<{type(told).__name__}>)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What is kept elsewhere: a reference, never the bytes.

    A caller may give a source in its place, `Image("cat.png")`: a path, bytes, a file that is open,
    a URL. That is kept first, and no message that is stored holds one.
    """

    kind: ClassVar[str] = "attachment"

    source: Any = field(default=None, kw_only=False, repr=False)
    id: str = ""  #: of an attachment that Turnmill keeps
    url: str = field(default="", repr=False)  #: a source, too: where it can be fetched
    sha256: str = ""  #: of its bytes, in hex
    media_type: str = ""
    name: str = field(default="", repr=False)  #: as its giver called it; never a path
    size: int = 0  #: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Attached):
    """A picture."""

    kind: ClassVar[str] = "image"

    width: int = 0  #: pixels
    height: int = 0
    detail: str = ""  #: how closely a model is to look: low, high, auto; empty: as its vendor does


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Attached):
    """A document, or any other file."""

    kind: ClassVar[str] = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Attached):
    """Something to be heard."""

    kind: ClassVar[str] = "audio"

    duration_ms: int = 0  #: how long it takes; 0: that is not known
    is_told: bool = False  #: its words stand beside it: who reads them needs no sound

    @property
    def duration(self) -> timedelta | None:
        """How long it takes; None where that is not known."""
        return timedelta(milliseconds=self.duration_ms) if self.duration_ms else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The model wants a tool to be run."""

    kind: ClassVar[str] = "tool_call"

    id: str
    name: str
    arguments: str = field(repr=False)  #: as the model wrote them: JSON, or what was to be JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    """What a tool returned."""

    kind: ClassVar[str] = "tool_output"

    call_id: str  #: of the ToolCall
    output: str = field(repr=False)
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """An item of one vendor's own that must travel back as it came, such as signed thinking.

    It means nothing to anybody else, and is sent to nobody else.
    """

    kind: ClassVar[str] = "native"

    provider: str  #: the provider's name here
    #: JSON as it came, so that neither the order of its keys nor a number changes
    item: str = field(repr=False)
    api: str = ""  #: which API of the provider's, where it has several


@dataclass(frozen=True, slots=True)
class Sender:
    """Who of several people says what follows in the message; it stands first in it."""

    kind: ClassVar[str] = "sender"

    name: str = field(repr=False)


#: What a message is made of.
Part = Text | Image | File | Audio | ToolCall | ToolOutput | Native | Sender
Kind = (
    type[Text]
    | type[Image]
    | type[File]
    | type[Audio]
    | type[ToolCall]
    | type[ToolOutput]
    | type[Native]
    | type[Sender]
)

#: Every kind of part, by the name under which it is stored.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {one.kind: one for one in (Text, Image, File, Audio, ToolCall, ToolOutput, Native, Sender)}
)

#: What a caller may say: a text, a part, or several of them.
Said = str | Part | Sequence[Part]

#: What may be attached to a message: a path, bytes, an open file, a URL, or what is kept already.
Attachable = Any

#: What is taken of somebody who only knows text.
TEXT_ONLY: frozenset[Kind] = frozenset({Text})

_STRINGS: Mapping[Kind, Sequence[str]] = MappingProxyType(
    {kind: [one.name for one in fields(kind) if one.type is str] for kind in KINDS.values()}
)


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation: who says what."""

    role: str  #: user, assistant, tool or system
    parts: Sequence[Part]

    @property
    def text(self) -> str:
        """Return its words; what is no text is in `parts` alone."""
        return text_of(self.parts)

    def with_text(self, text: str) -> "Message":
        """Return the same message in other words; what is no text stays."""
        return Message(self.role, with_text(self.parts, text))

    @classmethod
    def of(cls, role: str, text: str) -> "Message":
        """Return a message that is text only."""
        return cls(role, (Text(text),))


def text_of(parts: Sequence[Part]) -> str:
    """Return the words among the parts, joined as they stand."""
    if len(parts) == 1 and isinstance(first := parts[0], Text):
        return first.text
    return "".join(part.text for part in parts if isinstance(part, Text))


def sender_of(parts: Sequence[Part]) -> str | None:
    """Return who says it; None where nobody is named."""
    return parts[0].name if parts and isinstance(parts[0], Sender) else None


def without_sender(parts: Sequence[Part]) -> Sequence[Part]:
    """Return what is said, without who says it."""
    return parts[1:] if parts and isinstance(parts[0], Sender) else parts


def text_of_all(messages: Sequence[Message]) -> str:
    """Return the words of several messages, a blank line between them."""
    if len(messages) == 1:
        return messages[0].text
    return "\n\n".join([one.text for one in messages])


def with_text(parts: Sequence[Part], text: str) -> tuple[Part, ...]:
    """Return the parts with another text: where the first stood, or else at the end."""
    place = next((n for n, part in enumerate(parts) if isinstance(part, Text)), len(parts))
    others = [part for part in parts[place:] if not isinstance(part, Text)]
    return (*parts[:place], Text(text), *others)


def strings_of(part: Part) -> Iterator[str]:
    """Yield all strings that a part holds."""
    return (getattr(part, name) for name in _STRINGS[type(part)])


def changed(part: Part, change: Callable[[str], str]) -> Part:
    """Return the part with each of its strings changed."""
    old: Any = part
    new: Part = replace(old, **{name: change(getattr(old, name)) for name in _STRINGS[type(old)]})
    return new

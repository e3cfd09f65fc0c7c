"""What a user says, as parts: words, and files that are kept."""

from dataclasses import replace
from itertools import islice
from typing import Any

from turnmill.domain.bounds import MOST_ATTACHMENTS, MOST_PARTS
from turnmill.domain.checks import check_text
from turnmill.domain.content import Attached, Audio, Message, Part, Said, Text
from turnmill.domain.errors import InvalidInput, InvalidText, UnsupportedPart
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.records import NewTurn
from turnmill.verbs.intake import TurnOptions

_PARTS = 'a text, or [Text("…"), …]'
_KEPT = "client.send keeps what is attached; anywhere else, client.attachments.put(…) does"


def new_turn(said: Said, options: TurnOptions, *, max_text_bytes: int) -> NewTurn:
    """Check a message; raises InvalidInput."""
    return NewTurn(
        id=TurnId(new_id()),
        messages=(Message("user", parts_of(said, max_text_bytes=max_text_bytes)),),
        **options,
    )


def parts_of(said: object, *, max_text_bytes: int) -> tuple[Part, ...]:
    """Return what a user says as parts: words, and files that are kept; raises InvalidInput.

    Raises UnsupportedPart for every kind that is not a user's to say.
    """
    if isinstance(said, Part):
        said = [said]
    if not isinstance(said, list | tuple):
        return (Text(check_text(said, max_bytes=max_text_bytes)),)
    parts = [_part(part, n) for n, part in enumerate(_listed(said))]
    texts = [part.text for part in parts if isinstance(part, Text)]
    files = len(parts) - len(texts)
    if files > MOST_ATTACHMENTS:
        raise InvalidInput(f"{files} files in one message", hint=f"{MOST_ATTACHMENTS} are the most")
    if texts or not files:
        check_text("".join(texts), max_bytes=max_text_bytes)
    return tuple(parts)


def _listed(said: list[Any] | tuple[Any, ...]) -> list[Any]:
    try:
        found = [*islice(said, MOST_PARTS + 1)]
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own kind of list.
        raise InvalidInput(f"parts cannot be read: {type(error).__name__}", hint=_PARTS) from None
    if len(found) > MOST_PARTS:
        raise InvalidInput(f"parts are more than {MOST_PARTS}", hint="send several messages")
    return found


def _part(part: object, n: int) -> Part:
    if not isinstance(part, Part):
        raise InvalidInput(f"part {n} is a {type(part).__name__}, no part", hint=_PARTS)
    if isinstance(part, Attached):
        if not part.sha256 or part.source is not None or part.url:
            raise UnsupportedPart(
                f"part {n} is of the kind {part.kind}, and its file is not kept yet", hint=_KEPT
            )
        # That a sound has words is what a worker says who has heard it.
        return replace(part, is_told=False) if isinstance(part, Audio) and part.is_told else part
    if not isinstance(part, Text):
        raise UnsupportedPart(f"part {n} is of the kind {part.kind}")
    if not isinstance(part.text, str):
        raise InvalidText(
            f"the text of part {n} must be a str, not {type(part.text).__name__}",
            hint='Text("Hello")',
        )
    return Text(str.__str__(part.text))

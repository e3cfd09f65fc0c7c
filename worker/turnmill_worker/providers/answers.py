"""From the bytes that a vendor answered to a reply of ours: the one way, for every API.

An answer that arrived was paid for. It is kept, or its turn fails with the vendor's words; that we
cannot read it is never a reason to ask again. Only a body that was cut short may have more to it.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected
from turnmill_worker.providers.failures import (
    DETAIL_MAX,
    error_object_of,
    error_of_inside,
    error_of_status,
    raise_error_inside,
    retry_after,
    status_in,
    words_of,
    words_of_body,
)
from turnmill_worker.providers.http import AT_ONCE, RawAnswer
from turnmill_worker.providers.port import Done
from turnmill_worker.providers.untrusted import Unreadable, count, mappings, name

T = TypeVar("T")
#: Says what an answer has used that is no reply; None where it does not tell.
Used = Callable[[Mapping[str, Any]], Done | None]

#: Of one answer's JSON. Each takes some 100 bytes when parsed, however short it is written.
VALUES_MAX = 2_000_000

#: Codes of errors inside a 2xx.
_NOT_THERE = frozenset({"http_404", "not_found", "not_found_error"})
#: What reading a value raises that is nothing like what it should be.
_MISREAD = (RecursionError, TypeError, ValueError)
_LONG_NUMBER = 300
_CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.IGNORECASE)


def _nothing(_: Mapping[str, Any]) -> None:
    return None


async def read(
    answer: RawAnswer,
    reply_of: Callable[[Mapping[str, Any]], T],
    *,
    request_id: str = "",
    used_in: Used = _nothing,
) -> T:
    """Return what `reply_of` makes of the payload of a 2xx; it raises Unreadable for no reply.

    `request_id` is the name of the header that holds it, and `used_in` says what was used for what
    is no reply. Raises Rejected when the answer holds no
    reply, the class of the error when it tells of one, and MaybeSent when it was cut short.
    """
    if len(answer.body) > AT_ONCE:
        # The loop goes on beside it, but for the single steps of the parser.
        found = await asyncio.to_thread(_read, answer, reply_of, used_in)
    else:
        found = _read(answer, reply_of, used_in)
    if not isinstance(found, ProviderError):
        return found
    found.request_id = found.request_id or id_in(answer, request_id)
    found.retry_after = found.retry_after or retry_after(answer.headers, now=datetime.now(UTC))
    raise found


def tokens_in(payload: Mapping[str, Any]) -> int:
    """Read what a vendor has counted; raises the error that it tells of, or Unreadable."""
    raise_error_inside(payload)
    found = count(payload.get("input_tokens"))
    if found is None:
        raise Unreadable
    return found


def listed_in(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a page lists. Raises the error that it tells of, or Unreadable for no page.

    Taken for an empty one, what is not on it would be begun again, or left at the vendor.
    """
    raise_error_inside(payload)
    if "data" not in payload:
        raise Unreadable
    return mappings(payload["data"])


def raise_untrue(answer: RawAnswer) -> None:
    """Raise what has kept the vendor from doing what its status says is done.

    That what was to be deleted is not there is no such thing.
    """
    payload = payload_of(answer) or {}
    try:
        raise_error_inside(payload)
    except Rejected as error:
        if error.error_code not in _NOT_THERE:
            raise
    if payload.get("deleted") is False:
        raise NotSent("not_deleted")


def id_in(answer: RawAnswer, header: str) -> str:
    """Return the vendor's id of the request, to quote to its support."""
    return name(answer.headers.get(header, "")) if header else ""


def refusal(answer: RawAnswer, *, request_id: str, codes: tuple[str, ...]) -> ProviderError:
    """Return what an answer other than 2xx means; `codes` are the paths to the vendor's codes."""
    error = error_object_of(answer.body)
    return error_of_status(
        answer.status,
        headers=answer.headers,
        codes=[_at(error, path) for path in codes],
        detail=words_of_body(answer.body),
        request_id=id_in(answer, request_id),
    )


def payload_of(answer: RawAnswer) -> dict[str, Any] | None:
    """Return the object that a body holds, or None when it holds none.

    What the official SDKs read is read: a byte order mark, lone surrogates, UTF-16, numbers of any
    size; and what stands behind the object is left out.
    """
    for parse in (_parsed, _parsed_leniently):
        try:
            payload = parse(answer)
        except (ValueError, RecursionError):
            continue
        return payload if isinstance(payload, dict) else None
    return None


def _read(
    answer: RawAnswer, reply_of: Callable[[Mapping[str, Any]], T], used_in: Used
) -> T | ProviderError:
    """Return the reply or the error, which is raised where no other is being handled."""
    body = answer.body
    if len(body) > AT_ONCE and sum(map(body.count, (b",", b"[", b"{"))) > VALUES_MAX:
        return Rejected("reply_too_large")
    payload = answer.payload
    if payload is None:
        payload = payload_of(answer)
    if payload is None:
        return _no_payload(answer)
    try:
        return reply_of(payload)
    except ProviderError as raised:
        error = raised
    except (Unreadable, *_MISREAD):
        error = _no_reply(answer, payload)
    with suppress(*_MISREAD):
        error.used = error.used or used_in(payload)  # it was counted, whatever came of it
    return error


def _no_payload(answer: RawAnswer) -> ProviderError:
    if not answer.framed:
        return MaybeSent("truncated")  # it ends where the connection did
    return Rejected("unreadable_reply", detail=_beginning(answer))


def _no_reply(answer: RawAnswer, payload: Mapping[str, Any]) -> ProviderError:
    if status_in(payload) is not None:
        return error_of_inside(payload)
    return Rejected("unreadable_reply", detail=words_of(payload) or _beginning(answer))


def _beginning(answer: RawAnswer) -> str:
    return answer.body[:DETAIL_MAX].decode(errors="replace").strip()


def _parsed(answer: RawAnswer) -> Any:
    return from_json(answer.body)


def _parsed_leniently(answer: RawAnswer) -> Any:
    return _DECODER.raw_decode(_decoded(answer).lstrip("\ufeff \t\r\n"))[0]


def _decoded(answer: RawAnswer) -> str:
    encoding = json.detect_encoding(answer.body)
    try:
        return answer.body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        charset = _CHARSET.search(answer.headers.get("content-type", ""))
    with suppress(LookupError):
        return answer.body.decode(charset[1] if charset else encoding, "replace")
    return answer.body.decode(encoding, "replace")


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONG_NUMBER else float("inf")


def _at(error: Mapping[str, Any], path: str) -> object:
    found: object = error
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


_DECODER = json.JSONDecoder(parse_int=_whole_number)

"""Files that a vendor keeps: uploaded in pieces, deleted, and found by the names we gave them."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from turnmill.domain.content import Attached
from turnmill.domain.errors import NotSent, ProviderError, Rejected, ThreadLost
from turnmill.domain.uploads import FILE_LOST, IN_FLIGHT, UPLOAD_WITHIN, begun_at, mark_in, name_in
from turnmill_worker.providers.answers import listed_in, raise_untrue, read
from turnmill_worker.providers.failures import error_object_of, raise_error_inside
from turnmill_worker.providers.filling import chunks_of
from turnmill_worker.providers.http import RawAnswer, Vendor
from turnmill_worker.providers.multipart import FormFile, form
from turnmill_worker.providers.port import Request, Uploaded
from turnmill_worker.providers.untrusted import CLOCKS_APART, Unreadable, mapping, moment, name

#: The vendor deletes a file by itself after this, should nobody else have done so.
KEPT_FOR = timedelta(days=30)

_PAGE, _MOST_PAGES = 1000, 100
_LOOK_AGAIN = timedelta(seconds=30)
#: Of a server that keeps no files.
_NO_SUCH_PATH = frozenset({404, 405, 501})
_GONE = frozenset({400, 404, 410})
_GONE_WORDS = re.compile(
    r"no such file|\bfiles?\b.{0,200}(not found|not exist|expired|deleted)|not found.{0,40}\bfile",
    re.IGNORECASE | re.DOTALL,
)
_ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "application/json": "json",
        "application/pdf": "pdf",
        "image/gif": "gif",
        "image/jpeg": "jpg",
        "image/png": "png",
        "image/webp": "webp",
        "text/csv": "csv",
        "text/markdown": "md",
    }
)

#: Codes of both vendors, where they have one for it.
LOST = frozenset({"file_expired", "file_not_found", "image_file_not_found"})

#: What a server says of an upload that it has no place for.
UNSUPPORTED = "uploads_unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesApi:
    """How one vendor's files are spoken of."""

    path: str = field(repr=False)
    begins: str = field(repr=False)  #: how its own names of files begin
    fields: Callable[[str], Mapping[str, str]]  #: of an upload, by its media type
    query: Mapping[str, str] = field(repr=False)  #: of a page
    next_page: Callable[[Mapping[str, Any]], Mapping[str, str]]  #: what is added for it; {}: none
    newest_first: bool
    sent_as: Callable[[str], str] = str  #: the type that an upload is sent as, by its own


class VendorFiles:
    """The files of one account."""

    def __init__(
        self, vendor: Vendor, api: FilesApi, *, refusal: Callable[[RawAnswer], ProviderError]
    ) -> None:
        self._vendor = vendor
        self._api = api
        self._refusal = refusal
        self.are_kept = True  #: False: the server has said that it keeps none

    def is_one(self, ref: str) -> bool:
        """Tell whether this is the name of a file, or of an upload."""
        return ref.startswith((IN_FLIGHT, self._api.begins))

    async def upload(self, request: Request, part: Attached, *, name: str) -> Uploaded:
        """Upload an attachment under a name of ours. Raises ProviderError."""
        media_type = self._api.sent_as(part.media_type)
        file = FormFile(
            name=f"{name}.{_ENDINGS.get(media_type, 'txt')}",
            media_type=media_type,
            size=part.size,
            chunks=partial(chunks_of, request, part),
        )
        body = form(self._api.fields(media_type), file=file)
        answer = await self._vendor.call("POST", self._api.path, body, within=UPLOAD_WITHIN)
        if answer.status in _NO_SUCH_PATH:
            self.are_kept = False
            raise Rejected(UNSUPPORTED)
        if not answer.accepted:
            raise self._refusal(answer)
        return await read(answer, _uploaded)

    async def close(self, ref: str) -> None:
        """Delete a file, or what an upload has left there, of which the name is all we know."""
        if not ref.startswith(IN_FLIGHT):
            await self._delete(ref)
            return
        given = ref.removeprefix(IN_FLIGHT)
        found = [one async for one in self._named(given)]
        for one in found:
            await self._delete(one)
        begun, now = begun_at(given), datetime.now(UTC)
        if not found and begun is not None and now < begun + UPLOAD_WITHIN:
            raise NotSent("upload_pending", retry_after=_LOOK_AGAIN)  # it may still arrive

    async def _delete(self, ref: str) -> None:
        answer = await self._vendor.call("DELETE", f"{self._api.path}/{quote(ref, safe='')}")
        if answer.accepted:
            raise_untrue(answer)
        elif answer.status not in _NO_SUCH_PATH | {410}:
            raise self._refusal(answer)

    async def files_of(self, mark: str) -> AsyncGenerator[Mapping[str, str]]:
        """Yield names of ours with this mark, by the vendor's own, in pages. See `ListsFiles`."""
        async with aclosing(self._pages()) as pages:
            async for listed in pages:
                yield {ref: name for ref, name in _ours(listed) if mark_in(name) == mark}

    async def _named(self, given: str) -> AsyncIterator[str]:
        """Yield the vendor's names of what was uploaded under a name of ours."""
        begun = begun_at(given)
        async with aclosing(self._pages()) as pages:
            async for listed in pages:
                for ref, name in _ours(listed):
                    if name == given:
                        yield ref
                if self._api.newest_first and _are_older(listed, begun):
                    return

    async def _pages(self) -> AsyncGenerator[list[Mapping[str, Any]]]:
        """Yield what the account has, in pages; raises NotSent where it has too many files."""
        further: Mapping[str, str] = {}
        for _ in range(_MOST_PAGES):
            query = urlencode({**self._api.query, "limit": _PAGE, **further})
            answer = await self._vendor.call("GET", f"{self._api.path}?{query}")
            if answer.status in _NO_SUCH_PATH:
                return
            if not answer.accepted:
                raise self._refusal(answer)
            page, listed = await read(answer, lambda payload: (payload, listed_in(payload)))
            yield listed
            further = self._api.next_page(page)
            if not further:
                return
        raise NotSent("files_too_many")  # nobody knows what else is there


def _ours(listed: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the vendor's name and ours of each file of a page that has one of ours."""
    for one in listed:
        ref, given = name(one.get("id")), name_in(one.get("filename"))
        if ref and given:
            yield ref, given


def lost_file(answer: RawAnswer, request: Request) -> bool:
    """Tell whether the vendor refuses for a file that it does not have any more."""
    if answer.status not in _GONE or not (request.uploaded or request.thread_ref):
        return False
    words = answer.body.decode(errors="replace")
    if any(ref in words for ref in request.uploaded.values()) or _GONE_WORDS.search(words):
        return True
    error = error_object_of(answer.body)
    codes = {name(error.get("code")), name(mapping(error.get("details")).get("error_code"))}
    return not LOST.isdisjoint(codes)


def without_file(error: ProviderError, request: Request) -> ProviderError:
    """Return the error for such a refusal: a file of the request's is lost, or else the thread.

    What the request has uploaded itself is uploaded again. A file that only its thread names is
    lost with that, and sent with the history; should another one be lost, that says so then.
    """
    is_named = any(ref in error.detail for ref in request.uploaded.values())
    if request.thread_ref and not is_named:
        return ThreadLost(FILE_LOST, detail=error.detail, request_id=error.request_id)
    if not request.uploaded:
        return error
    return NotSent(
        FILE_LOST, detail=error.detail, request_id=error.request_id, answered=error.answered
    )


def _uploaded(payload: Mapping[str, Any]) -> Uploaded:
    raise_error_inside(payload)
    ref = name(payload.get("id"))
    if not ref:
        raise Unreadable
    return Uploaded(ref=ref, expires_at=moment(payload.get("expires_at")))


def _are_older(listed: list[Mapping[str, Any]], begun: datetime | None) -> bool:
    """Tell whether a page, the newest first, has come to what was there before."""
    made = moment(listed[-1].get("created_at")) if listed else None
    return made is not None and begun is not None and made < begun - CLOCKS_APART

"""What vendors are asked about their batches alike: which there are, how far they are."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from turnmill.domain.errors import NotSent, ProviderError
from turnmill_worker.providers.answers import listed_in, raise_untrue, read
from turnmill_worker.providers.batch_lines import (
    RESULTS_BYTES_MAX,
    answered,
    earliest,
    reading,
)
from turnmill_worker.providers.batch_port import Answered, Take, VendorBatch
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.http import RawAnswer, Vendor
from turnmill_worker.providers.port import Done
from turnmill_worker.providers.untrusted import Unreadable, moment, name

T = TypeVar("T")

#: Of a call that says little, and is told little.
WITHIN = timedelta(minutes=1)
_READ_WITHIN = timedelta(hours=1)
_PAGE, _MOST_PAGES = 100, 50
#: What is over, or not there, is neither cancelled nor deleted once more.
_GONE = frozenset({400, 404, 409, 410})


@dataclass(frozen=True, slots=True)
class _Page(Generic[T]):
    """What a vendor lists at once."""

    found: list[T] = field(repr=False)
    oldest: datetime | None  #: all that follow are older; None: nobody knows
    last: str = field(repr=False)  #: what the next page begins behind; "": there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesApi:
    """How one vendor's batches are spoken of."""

    path: str = field(repr=False)
    request_id: str  #: the header that holds it
    next_page: str = field(repr=False)  #: the parameter that names the last one of the page before
    refusal: Callable[[RawAnswer], ProviderError]
    batch: Callable[[Mapping[str, Any]], VendorBatch]  #: raises Unreadable
    said: Callable[[Mapping[str, Any]], Awaitable[Done]]  #: by a line of results
    results: Callable[[VendorBatch], Sequence[str]]  #: the paths that they are read at
    kept: Callable[[VendorBatch | None, Sequence[str]], Sequence[str]]  #: the paths to delete


class BatchCalls:
    """The batches of one account, once they are there. See `batch_port.Batches`."""

    def __init__(self, vendor: Vendor, api: BatchesApi) -> None:
        self._vendor = vendor
        self._api = api

    async def look(self, ref: str) -> VendorBatch:
        answer = await self._vendor.call("GET", path_of(self._api.path, ref), within=WITHIN)
        return await self._read(answer, self._looked_at)

    async def read(self, batch: VendorBatch, take: Take) -> None:
        for path in self._api.results(batch):
            answer = await self._vendor.stream(
                path,
                None,
                reading(self._answered, take),
                within=_READ_WITHIN,
                method="GET",
                most=RESULTS_BYTES_MAX,
            )
            self._accepted(answer)

    async def cancel(self, ref: str) -> None:
        await self._end("POST", f"{path_of(self._api.path, ref)}/cancel")

    async def clear(self, batch: VendorBatch | None, *, stored: Sequence[str]) -> None:
        for path in dict.fromkeys(self._api.kept(batch, stored)):
            await self._end("DELETE", path)

    async def _end(self, method: str, path: str) -> None:
        answer = await self._vendor.call(method, path, within=WITHIN)
        if answer.status not in _GONE:
            raise_untrue(self._accepted(answer))

    async def _listed(
        self,
        path: str,
        query: Mapping[str, str],
        read_one: Callable[[Mapping[str, Any]], T],
        *,
        within: timedelta,
    ) -> tuple[list[T], datetime]:
        """Return what there is, the newest first, until it is older than that; and how old it is.

        Pages are read whole. Raises ProviderError for one of which something cannot be read: that
        may be what is looked for.
        """
        found: list[T] = []
        since: datetime | None = None
        further: Mapping[str, str] = {}
        for _ in range(_MOST_PAGES):
            asked = urlencode({**query, "limit": _PAGE, **further})
            answer = await self._vendor.call("GET", f"{path}?{asked}", within=WITHIN)
            page = await self._read(answer, lambda payload: _page_of(payload, read_one))
            since = since or earliest(answer, within)
            found += page.found
            if not page.last or (page.oldest is not None and page.oldest < since):
                return found, since
            further = {self._api.next_page: page.last}
        raise NotSent("batches_too_many")  # nobody knows whether it is there

    async def _read(self, answer: RawAnswer, of: Callable[[Mapping[str, Any]], T]) -> T:
        return await read(self._accepted(answer), of, request_id=self._api.request_id)

    def _accepted(self, answer: RawAnswer) -> RawAnswer:
        if not answer.accepted:
            raise self._api.refusal(answer)
        return answer

    def _looked_at(self, payload: Mapping[str, Any]) -> VendorBatch:
        raise_error_inside(payload)
        return self._api.batch(payload)

    async def _answered(self, payload: Mapping[str, Any]) -> Answered | None:
        return await answered(payload, self._api.said)


def path_of(path: str, ref: str) -> str:
    """Return where one of those is that stand at a path."""
    return f"{path}/{quote(ref, safe='')}"


def _page_of(payload: Mapping[str, Any], read_one: Callable[[Mapping[str, Any]], T]) -> _Page[T]:
    listed = listed_in(payload)
    has_more = payload.get("has_more") is True
    last = name(listed[-1].get("id")) if has_more and listed else ""
    if has_more and not last:
        raise Unreadable
    return _Page([read_one(one) for one in listed], _oldest_of(listed), last)


def _oldest_of(listed: Sequence[Mapping[str, Any]]) -> datetime | None:
    """Return since when the last one is there; None: newer ones may follow, as far as is told."""
    moments = [moment(one.get("created_at")) for one in listed]
    told = [one for one in moments if one is not None]
    if len(told) < len(moments) or told != sorted(told, reverse=True):
        return None
    return told[-1] if told and told[0] > told[-1] else None

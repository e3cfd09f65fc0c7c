"""Uploading: what a vendor keeps of a turn's attachments, for as long as the session needs it.

An upload is written down before it is made. Where a vendor has lost a file, or lets it expire, it
is uploaded again within the same attempt, and nobody sees that. Pictures are made smaller here,
where the session asks for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Never, Protocol

from turnmill.domain.content import Attached
from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    ProviderError,
    Rejected,
    StoreError,
    ThreadLost,
)
from turnmill.domain.uploads import FILE_LOST, UPLOAD_WITHIN, new_name
from turnmill.store.records import Claim
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer, Fault, error_of, provided
from turnmill_worker.providers.files import Files, attached_in, holds_attachments, standing
from turnmill_worker.providers.parameters import choice
from turnmill_worker.providers.port import (
    BoundsPictures,
    Failed,
    KeepsFiles,
    Provider,
    Uploaded,
)
from turnmill_worker.providers.scaling import Scaling
from turnmill_worker.providers.vendor_files import LOST, UNSUPPORTED


class UploadLedger(Protocol):
    """What uploading needs of the store."""

    async def mark(self) -> str:
        """Return what the names of this store's uploads bear."""
        ...

    async def uploaded(self, claim: Claim, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the vendor's names of those attachments that it keeps for this session."""
        ...

    async def begin_upload(self, claim: Claim, attachment_id: str, name: str) -> bool:
        """Note that an upload begins; False: the turn is no longer ours."""
        ...

    async def keep_upload(
        self, claim: Claim, attachment_id: str, name: str, done: Uploaded
    ) -> bool:
        """Note what it came to; False: nobody needs it any more."""
        ...

    async def drop_upload(self, claim: Claim, name: str) -> None:
        """Forget an upload that has certainly come to nothing."""
        ...

    async def lost_uploads(self, claim: Claim, refs: Sequence[str]) -> None:
        """Give up files that the vendor says it does not have."""
        ...


def uploading(find: Callable[[str], Provider], files: Files, ledger: UploadLedger | None) -> Layer:
    """Return the layer. It stands inside of all that may keep a call back, or change a history.

    A call without attachments passes it by, and has no `files`. Without a ledger, all go along.
    """
    scaling = Scaling()

    async def carrying(call: Call, go: Go) -> Answer:
        provider = provided(find, call.claim.provider)
        if isinstance(provider, ProviderError):
            return await go(call)  # whoever is to ask it says so
        call = await _in_size(await _carrying(call, files), provider, scaling)
        if ledger is None or not isinstance(provider, KeepsFiles):
            return await go(call)
        return await _asked(call, go, provider, ledger)

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        if not holds_attachments(call.request):
            return go(call)
        return carrying(call, go) if call.kind == "send" else _looked_up(call, go, ledger)

    return layer


async def _asked(call: Call, go: Go, provider: KeepsFiles, ledger: UploadLedger) -> Answer:
    """Ask with what is better named; what the vendor has lost of it is uploaded again, once each.

    It may name one of them at a time.
    """
    renewed: set[str] = set()
    while True:
        named = await _named(call, provider, ledger)
        try:
            return await go(named)
        except ThreadLost:
            raise  # what it has lost is none of these
        except ProviderError as error:
            lost = _lost(named.request.uploaded, error) if error.error_code == FILE_LOST else {}
            if not lost or lost.keys() <= renewed:
                raise
        renewed |= lost.keys()
        call.holding.sent = False  # the vendor has executed nothing
        await from_store(ledger.lost_uploads(call.claim, [*lost.values()]))


async def _looked_up(call: Call, go: Go, ledger: UploadLedger | None) -> Answer:
    """Look work up; where it has failed for a file that is lost, it is sent again with another."""
    answer = await go(call)
    if ledger is None or not isinstance(answer, Failed) or answer.error.error_code not in LOST:
        return answer
    parts = (part for one in call.request.messages for part in attached_in(one))
    known = await from_store(ledger.uploaded(call.claim, [one.id for one in parts]))
    lost = _lost(known, answer.error)
    if not lost:
        return answer  # it is one that only the thread names, or that went along
    await from_store(ledger.lost_uploads(call.claim, [*lost.values()]))
    error = NotSent(FILE_LOST, detail=answer.error.detail, request_id=answer.error.request_id)
    error.kept, error.used = answer.error.kept, answer.error.used
    return Failed(error=error)


async def _carrying(call: Call, files: Files) -> Call:
    """Return the call with its files, and words in the place of those that are gone."""
    try:
        request = await standing(replace(call.request, files=files))
    except StoreError as error:
        raise Fault(error.code) from None
    return replace(call, request=request)


async def _in_size(call: Call, provider: Provider, scaling: Scaling) -> Call:
    """Return the call with its pictures as small as the session wants them."""
    wanted = choice(call.request.settings, "pictures", among=("as_is", "fit"))
    if wanted == "as_is" or not isinstance(provider, BoundsPictures):
        return call
    bounds = provider.picture_bounds(call.request)
    return replace(call, request=await scaling.fitted(call.request, bounds))


async def _named(call: Call, provider: KeepsFiles, ledger: UploadLedger) -> Call:
    """Return the call with the vendor's names of all that is better uploaded."""
    wanted = [*provider.uploads(call.request)]
    if not wanted:
        return call
    known = dict(await from_store(ledger.uploaded(call.claim, [one.id for one in wanted])))
    for part in wanted:
        if part.id in known:
            continue
        try:
            known[part.id] = await _uploaded(call, provider, part, ledger)
        except Rejected as error:
            if error.error_code != UNSUPPORTED:
                raise
            break  # this server keeps no files: they go along
    return replace(call, request=replace(call.request, uploaded=known))


async def _uploaded(call: Call, provider: KeepsFiles, part: Attached, ledger: UploadLedger) -> str:
    """Upload one, and return the vendor's name of it; raises NotSent: the turn was not sent."""
    claim = call.claim
    name = new_name(datetime.now(UTC), mark=await from_store(ledger.mark()))
    if not call.holding.may_begin():
        raise asyncio.CancelledError
    if not await from_store(ledger.begin_upload(claim, part.id, name)):
        _is_lost(call)
    try:
        async with asyncio.timeout(UPLOAD_WITHIN.total_seconds()):
            done = await provider.upload(call.request, part, name=name)
    except Exception as raised:  # noqa: BLE001
        # The edge to a provider, which may be a user's own.
        error = MaybeSent("timeout") if isinstance(raised, TimeoutError) else error_of(raised)
    else:
        if not await from_store(ledger.keep_upload(claim, part.id, name, done)):
            _is_lost(call)
        return done.ref
    if isinstance(error, NotSent | Rejected):
        with suppress(StoreError):
            await ledger.drop_upload(claim, name)
        raise error
    raise NotSent(
        error.error_code,
        detail=error.detail,
        request_id=error.request_id,
        retry_after=error.retry_after,
    )


def _is_lost(call: Call) -> Never:
    """Stop: the turn is somebody else's by now, or its session has ended."""
    call.holding.stop = call.holding.stop or Stop.LEASE_LOST
    raise asyncio.CancelledError


def _lost(uploaded: Mapping[str, str], error: ProviderError) -> Mapping[str, str]:
    """Return which files are lost: those that the vendor names, or else all."""
    named = {one: ref for one, ref in uploaded.items() if ref in error.detail}
    return named or uploaded

"""The files of the stand-in for OpenAI: https://developers.openai.com/api/reference/resources/files."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from tests.doubles.openai_requests import authorised
from tests.doubles.vendor_double import Answer, Call, Refused, Response
from tests.doubles.vendor_files import Files, StoredFile, form_of

_PURPOSES = frozenset({"assistants", "batch", "evals", "fine-tune", "user_data", "vision"})
_FIELDS = {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
_SHORTEST, _LONGEST = 3600, 2_592_000

Through = Callable[[Answer], Callable[[web.Request], Awaitable[Response]]]


def routes_of(files: Files, through: Through) -> list[web.RouteDef]:
    """Return the paths of files, and what answers them."""

    async def create(call: Call) -> dict[str, Any]:
        authorised(call)
        form = form_of(call.raw, call.headers.get("Content-Type", ""))
        seconds = _checked(form)
        return _shown(files.add(form, seconds=seconds, purpose=form["purpose"]))

    async def listed(call: Call) -> dict[str, Any]:
        authorised(call)
        return _page(files, call.query)

    async def delete(call: Call) -> dict[str, Any]:
        authorised(call)
        ref = call.path.rpartition("/")[2]
        files.delete(ref)
        return {"id": ref, "object": "file", "deleted": True}

    return [
        web.post("/v1/files", through(create)),
        web.get("/v1/files", through(listed)),
        web.delete("/v1/files/{id}", through(delete)),
    ]


def _checked(form: Mapping[str, Any]) -> str | None:
    """Return after how many seconds the file is to go; raises Refused."""
    if set(form) - _FIELDS:
        raise Refused(400, "unknown_parameter", "Unknown parameter.")
    if form.get("purpose") not in _PURPOSES:
        raise Refused(400, "invalid_value", "Invalid value for 'purpose'.", param="purpose")
    seconds: str | None = form.get("expires_after[seconds]")
    if seconds is not None:
        if form.get("expires_after[anchor]") != "created_at":
            raise Refused(400, "invalid_value", "Invalid 'expires_after'.")
        if not seconds.isdecimal() or not _SHORTEST <= int(seconds) <= _LONGEST:
            raise Refused(400, "invalid_value", "Invalid 'expires_after.seconds'.")
    return seconds


def _page(files: Files, query: Mapping[str, str]) -> dict[str, Any]:
    limit = int(query.get("limit", 10_000))
    if not 1 <= limit <= 10_000:
        raise Refused(400, "invalid_value", "Invalid 'limit'.")
    found = sorted(files.kept.values(), key=lambda one: (one.created_at, one.id))
    if query.get("order", "desc") == "desc":
        found.reverse()
    if after := query.get("after"):
        found = found[[one.id for one in found].index(after) + 1 :]
    page = [_shown(one) for one in found[:limit]]
    return {"object": "list", "data": page, "has_more": len(found) > limit}


def _shown(one: StoredFile) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "file",
        "bytes": len(one.said),
        "created_at": int(one.created_at),
        "expires_at": None if one.expires_at is None else int(one.expires_at),
        "filename": one.filename,
        "purpose": one.purpose,
        "status": "processed",
    }

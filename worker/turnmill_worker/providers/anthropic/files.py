"""Files that Anthropic keeps: https://platform.claude.com/docs/en/build-with-claude/files."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnmill.domain.content import Attached
from turnmill_worker.providers.anthropic.sources import LARGE, terms_of
from turnmill_worker.providers.attached import is_text, uploads_of
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import mappings, name
from turnmill_worker.providers.vendor_files import KEPT_FOR, FilesApi


def named_in(request: Request) -> Sequence[Attached]:
    """Return what of a request is better uploaded: it is sent with every later turn, too."""
    terms = terms_of(request)
    return uploads_of(request, terms, least=terms.body_max if request.is_single else LARGE)


def _fields(media_type: str) -> Mapping[str, str]:
    return {"expires_in_seconds": str(int(KEPT_FOR.total_seconds()))}


def _next_page(page: Mapping[str, Any]) -> Mapping[str, str]:
    """Return where the next page begins, as the API says it, or as it did in its beta."""
    if further := name(page.get("next_page")):
        return {"page": further}
    listed = mappings(page.get("data"))
    last = name(listed[-1].get("id")) if listed else ""
    return {"after_id": last} if page.get("has_more") is True and last else {}


def _sent_as(media_type: str) -> str:
    """Return the one type of text that may be a document."""
    return "text/plain" if is_text(media_type) else media_type


API = FilesApi(
    path="v1/files",
    begins="file_",
    fields=_fields,
    query={},
    next_page=_next_page,
    newest_first=False,
    sent_as=_sent_as,
)

"""Files that OpenAI keeps: https://developers.openai.com/api/reference/resources/files."""

from collections.abc import Mapping, Sequence
from typing import Any

from turnmill.domain.content import Attached
from turnmill_worker.providers.attached import PICTURES, Terms, uploads_of
from turnmill_worker.providers.openai.inputs import CHAT, LARGE, RESPONSES
from turnmill_worker.providers.openai.keeping import CLIENT, api_of, kind_of
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import mappings, name
from turnmill_worker.providers.vendor_files import KEPT_FOR, FilesApi


def terms_of(request: Request) -> Terms:
    """Return what the API takes that is asked."""
    return CHAT if api_of(request) == "chat" else RESPONSES


def named_in(request: Request) -> Sequence[Attached]:
    """Return what of a request is better uploaded.

    Nothing by itself where the session wants nothing kept at the vendor.
    """
    keeps_nothing = api_of(request) == "chat" or kind_of(request) == CLIENT
    return uploads_of(request, terms_of(request), least=None if keeps_nothing else LARGE)


def _fields(media_type: str) -> Mapping[str, str]:
    return {
        "purpose": "vision" if media_type in PICTURES else "user_data",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": str(int(KEPT_FOR.total_seconds())),
    }


def _next_page(page: Mapping[str, Any]) -> Mapping[str, str]:
    listed = mappings(page.get("data"))
    last = name(listed[-1].get("id")) if listed else ""
    return {"after": last} if page.get("has_more") is True and last else {}


API = FilesApi(
    path="files",
    begins="file-",
    fields=_fields,
    query={"order": "desc"},
    next_page=_next_page,
    newest_first=True,
)

"""What it means where Anthropic refuses."""

from turnmill.domain.errors import ProviderError
from turnmill_worker.providers.answers import refusal
from turnmill_worker.providers.http import RawAnswer

#: The header that holds the vendor's id of a request.
REQUEST_ID = "request-id"
#: Where the vendor's codes are, the finest first.
_CODES = ("details.error_code", "type")


def refusal_of(answer: RawAnswer) -> ProviderError:
    """Return what a refusal means."""
    return refusal(answer, request_id=REQUEST_ID, codes=_CODES)

"""What it means where OpenAI refuses: of the thread that was named, or of what was said."""

from turnmill.domain.errors import ProviderError, ThreadLocked, ThreadLost
from turnmill_worker.providers.answers import refusal
from turnmill_worker.providers.failures import error_object_of
from turnmill_worker.providers.http import RawAnswer
from turnmill_worker.providers.openai.conversations import is_conversation
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import name
from turnmill_worker.providers.vendor_files import LOST, lost_file, without_file

#: The header that holds the vendor's id of a request.
REQUEST_ID = "x-request-id"
#: Where the vendor's codes are, the finest first.
_CODES = ("code", "type")

_LOST = "previous_response_not_found"
_CONVERSATION_LOST = "conversation_not_found"
_LOST_CODES = frozenset({_LOST, _CONVERSATION_LOST})
_OF_THREADS = frozenset({"conversation", "previous_response_id"})
#: Codes that say nothing by themselves.
_NO_CODE = frozenset({"", "invalid_request_error", "not_found"})


def refusal_of(answer: RawAnswer, *, thread_ref: str = "") -> ProviderError:
    """Return what a refusal means; of the thread that was named in the request, it may be lost."""
    error = refusal(answer, request_id=REQUEST_ID, codes=_CODES)
    if isinstance(error, ThreadLocked):
        return error
    if thread_ref and answer.status in (400, 404) and _is_about_thread(answer, thread_ref):
        return ThreadLost(
            _lost_code(error, thread_ref), detail=error.detail, request_id=error.request_id
        )
    return error


def refused(answer: RawAnswer, request: Request) -> ProviderError:
    """Return what a refusal of this request means: the thread may be lost, or a file."""
    error = refusal_of(answer, thread_ref=request.thread_ref)
    return without_file(error, request) if lost_file(answer, request) else error


def lost_in(error: ProviderError, request: Request) -> ProviderError | None:
    """Return the loss of the thread, or of a file, that an error inside an answer tells of."""
    if error.error_code in LOST:
        return without_file(error, request)
    if not request.thread_ref or error.error_code not in _LOST_CODES:
        return None
    return ThreadLost(error.error_code, detail=error.detail, request_id=error.request_id)


def _lost_code(error: ProviderError, thread_ref: str) -> str:
    if error.error_code in _LOST_CODES:
        return error.error_code
    return _CONVERSATION_LOST if is_conversation(thread_ref) else _LOST


def _is_about_thread(answer: RawAnswer, thread_ref: str) -> bool:
    """Tell whether the refusal is one of the thread rather than of what was said in this turn.

    Forgotten, of another vendor, or of a server that keeps no threads: each has its own code, but
    names the parameter. And a thread that cannot go on, since a call in it has no output, is told
    as a fault of `input` without a code: what the turn itself put there would have one.
    """
    error = error_object_of(answer.body)
    code, param = str(error.get("code") or ""), name(error.get("param"))
    if code in _LOST_CODES or param in _OF_THREADS:
        return True
    if code not in _NO_CODE:
        return False
    is_gone = answer.status == 404 and not param and is_conversation(thread_ref)
    return is_gone or param == "input"

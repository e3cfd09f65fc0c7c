"""Why a provider did not answer: come again, find out what happened, or give up."""

from collections.abc import Sequence
from datetime import timedelta

from turnmill.domain.errors.base import TurnmillError


class ProviderError(TurnmillError):
    """A provider could not answer.

    `error_code` is what the attempt row keeps; `detail` is the provider's own text: it may quote
    the user, so it is stored in the database and shown nowhere else. `kept` are the vendor's ids of
    what it stored all the same, to be deleted there. `answered`: the vendor itself has told of the
    error, and so charges nobody, unless a part of a reply had come. `of_account`: it refuses all
    that comes with this key, until somebody sets that right: a quota, a bill, a key. `used` is what
    the provider has counted of the call all the same: a `Done` of the worker's, for its usage.
    """

    code = "provider_error"

    def __init__(
        self,
        error_code: str = "",
        *,
        detail: str = "",
        retry_after: timedelta | None = None,
        request_id: str = "",
        kept: Sequence[str] = (),
        answered: bool = False,
        of_account: bool = False,
        used: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(error_code or self.code, hint=hint)
        self.kept = tuple(kept)
        self.answered = answered
        self.of_account = of_account
        self.used = used
        self.error_code = error_code or self.code
        self.detail = detail
        self.retry_after = retry_after
        self.request_id = request_id


class NotSent(ProviderError):
    """The provider did not execute the request."""

    code = "not_sent"


class Unreachable(NotSent):
    """No connection to the provider could be made."""

    code = "unreachable"


class RateLimited(NotSent):
    """The provider asks us to slow down."""

    code = "rate_limited"


class Overloaded(NotSent):
    """The provider has no capacity at the moment."""

    code = "overloaded"


class ThreadLocked(NotSent):
    """Another request works on the provider's thread."""

    code = "thread_locked"


class MaybeSent(ProviderError):
    """The request may have been executed."""

    code = "maybe_sent"


class ThreadLost(ProviderError):
    """The provider no longer has the thread that the session refers to."""

    code = "thread_lost"


class Rejected(ProviderError):
    """The provider refuses this request, now and later."""

    code = "rejected"


class ContextFull(Rejected):
    """The conversation is longer than the model takes, or the vendor in one request."""

    code = "context_full"
    hint = "set on_context_full of the session to truncate or summarise, or take a larger model"


class HistoryRefused(Rejected):
    """The provider does not take the conversation as it is built: it is asked again in plain words.

    Say, a call of a tool in it lacks its output.
    """

    code = "history_refused"


class ProviderUnknown(Rejected):
    """No installed provider has this name."""

    code = "provider_unknown"
    hint = "install the package that registers it under the entry point group turnmill.providers"


class KeyMissing(Rejected):
    """The worker has no API key for this provider."""

    code = "key_missing"
    hint = "set the provider's key in the environment of the worker"

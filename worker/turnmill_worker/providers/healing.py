"""Healing: which failures another target may heal, and how much of its vendor is left alone then.

What is the user's own, a refused setting or a message that a vendor does not take, is told to the
user: it is no reason to ask somebody else. What is about the vendor, is.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from turnmill.domain.errors import (
    ContextFull,
    HistoryRefused,
    KeyMissing,
    MaybeSent,
    NotSent,
    ProviderError,
    ProviderUnknown,
    Rejected,
    ThreadLocked,
    ThreadLost,
    Unreachable,
)
from turnmill_worker.providers.boundary import BadAnswer, Fault


class Bench(Enum):
    """What is left alone, and for how long."""

    TARGET = "target"  #: this one, until the others were asked
    PROVIDER = "provider"  #: all of its vendor, for as long
    TARGET_FOR_GOOD = "target for good"  #: this one, for the rest of the turn
    PROVIDER_FOR_GOOD = "provider for good"  #: all of its vendor, for the rest of the turn

    @property
    def lasts(self) -> bool:
        """Tell whether it is for the rest of the turn."""
        return self in (Bench.TARGET_FOR_GOOD, Bench.PROVIDER_FOR_GOOD)

    @property
    def is_wide(self) -> bool:
        """Tell whether it is for all of the vendor."""
        return self in (Bench.PROVIDER, Bench.PROVIDER_FOR_GOOD)


#: Nothing was put to the vendor, for a reason that is ours.
_OF_OURS = frozenset({"revoked", "turn_timeout"})

_ACCOUNT = (
    *("account_deactivated", "account_suspended", "authentication_error", "billing_error"),
    *("billing_hard_limit_reached", "billing_not_active", "contract_spend_limit_reached"),
    *("claude_code_key_creator_not_member", "cmek_key_disabled", "cmek_key_network_blocked"),
    *("organization_on_hold",),
    *("enforced_spend_limit_reached", "http_401", "http_402", "http_403", "incorrect_api_key"),
    *("insufficient_credits", "insufficient_permissions", "insufficient_quota"),
    *("invalid_api_key", "invalid_authentication", "invalid_organization", "invalid_url"),
    *("key_missing", "organization_deactivated", "permission_denied", "permission_error"),
    *("provider_ambiguous", "provider_broken", "provider_unknown", "quota_exceeded"),
    *("unauthorized", "unsupported_country_region_territory"),
)
_MODEL = (
    *("deployment_not_found", "deploymentnotfound", "http_404", "http_410", "model_deprecated"),
    *("model_not_available", "model_not_found", "model_not_supported", "not_found"),
    *("not_found_error", "notfounderror", "unsupported_model"),
)
#: The vendor has answered, and not with what a reply is.
_CONTENT = ("error_in_reply", "response_failed", "unreadable_reply")

#: Of what is refused for good: codes in lower case.
_BY_CODE: Mapping[str, Bench] = MappingProxyType(
    dict.fromkeys(_ACCOUNT, Bench.PROVIDER_FOR_GOOD)
    | dict.fromkeys(_MODEL, Bench.TARGET_FOR_GOOD)
    | dict.fromkeys(_CONTENT, Bench.TARGET)
)
#: Of refusals without a code, those that are about what was sent.
_ABOUT_THE_REQUEST = frozenset({"http_400", "http_413", "http_422"})
_TOO_LARGE = "reply_too_large"


def bench_of(error: ProviderError, *, is_own: bool) -> Bench | None:
    """Return what is left alone after this error; None where nobody else could do better.

    `is_own`: it came from the session's own provider, for which the session's settings were made.
    Whatever another target refuses says nothing of them.
    """
    if isinstance(error, Rejected):
        return _of_refusal(error, is_own=is_own)
    if isinstance(error, Unreachable):
        return Bench.PROVIDER
    if isinstance(error, Fault | ThreadLocked):
        return None
    if type(error) is NotSent and error.error_code in _OF_OURS:
        return None
    return Bench.TARGET if isinstance(error, NotSent | MaybeSent | ThreadLost) else None


def _of_refusal(error: Rejected, *, is_own: bool) -> Bench | None:
    if error.error_code == _TOO_LARGE:
        return None  # it was paid for, and the next one would be
    if error.of_account or isinstance(error, KeyMissing | ProviderUnknown):
        return Bench.PROVIDER_FOR_GOOD
    if isinstance(error, BadAnswer):
        return Bench.TARGET
    if isinstance(error, HistoryRefused):
        return Bench.TARGET_FOR_GOOD  # in plain words, too
    code = error.error_code.lower()
    if not isinstance(error, ContextFull) and (found := _BY_CODE.get(code)):
        return found
    is_about_us = code.startswith("http_") and code not in _ABOUT_THE_REQUEST
    return Bench.TARGET_FOR_GOOD if is_about_us or not is_own else None

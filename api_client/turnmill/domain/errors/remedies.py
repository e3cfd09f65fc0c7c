"""What to do about a turn that ended without a reply, by the code that it keeps.

In a line, as docs/troubleshooting.md has it in full; a test compares the two. Vendors have codes of
their own, which are not here.
"""

from collections.abc import Mapping
from types import MappingProxyType

_RETRY = "then `turnmill turns retry ID`"
_DETAIL = "`turnmill turns show ID --text` has the detail"
_FILES = "`turnmill files ls` lists what is kept"


def _each(*codes: str, hint: str) -> dict[str, str]:
    return dict.fromkeys(codes, hint)


#: By the error code of a turn that has failed, or of its last attempt.
REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        **_each(
            "key_missing",
            hint="set the provider's key (OPENAI_API_KEY, ANTHROPIC_API_KEY) for every worker and"
            f" restart them, {_RETRY}",
        ),
        **_each(
            *("provider_unknown", "provider_broken", "provider_ambiguous"),
            hint="if it is misspelt, `turnmill sessions move SESSION --provider NAME`; else install"
            f" its package for every worker, repair it, or remove one of two, {_RETRY}",
        ),
        **_each(
            *("model_not_found", "not_found_error"),
            hint="the vendor has no such model for this key: `turnmill sessions move SESSION"
            f" --model NAME`, {_RETRY}",
        ),
        **_each(
            "invalid_url",
            hint="the worker's OPENAI_BASE_URL or ANTHROPIC_BASE_URL is no address:"
            f" https://host/v1, or unset; {_RETRY}",
        ),
        **_each(
            *("invalid_api_key", "authentication_error", "permission_error"),
            hint="the vendor refuses the key: give workers another one, `turnmill accounts open"
            f" PROVIDER`, {_RETRY}",
        ),
        **_each(
            *("insufficient_quota", "insufficient_credits", "billing_error"),
            hint="settle the vendor's account, `turnmill accounts open PROVIDER`, " + _RETRY,
        ),
        **_each(
            *("rate_limited", "overloaded", "unreachable", "not_sent", "timeout", "disconnected"),
            hint="the vendor had no time, was not reached, or did not answer: `turnmill turns"
            " retry ID` later",
        ),
        **_each(
            *("thread_locked", "thread_lost", "thread_in_progress", "thread_kept_elsewhere"),
            *("thread_unavailable", "previous_response_not_found", "conversation_not_found"),
            "conversation_locked",
            hint="the vendor's thread cannot be used: `turnmill turns retry ID` builds another one",
        ),
        **_each(
            "thread_not_found",
            hint="the thread to adopt is not there for this key: create a session with another"
            " adopt=",
        ),
        **_each(
            *("maybe_sent", "ambiguous", "truncated"),
            hint=f"look whether the vendor has executed it, {_RETRY}: it may be paid twice",
        ),
        **_each(
            "attempts_exhausted",
            hint="`turnmill turns show ID` has the codes of its attempts; `turnmill turns retry ID`"
            " tries again",
        ),
        **_each("worker_lost", hint="workers died of it: look in their logs and the kernel's"),
        **_each(
            "background_timeout",
            hint=f"raise TURNMILL_BACKGROUND_TIMEOUT of the workers, {_RETRY}",
        ),
        **_each(
            *("picture_too_large", "attachments_too_large", "picture_unreadable"),
            "images_missing",
            hint=f"send another file, or less of it; {_DETAIL}",
        ),
        **_each(
            *("rejected", "provider_error", "setting_refused", "unsupported_part"),
            *("unsupported_role", "unencodable"),
            hint=f"change the message or the session's settings: {_DETAIL}",
        ),
        **_each(
            "context_full",
            hint="say less, or set on_context_full=truncate or summarise in the session's settings,"
            f" {_RETRY}",
        ),
        **_each(
            "history_refused",
            hint=f"the vendor refuses how the conversation is built: {_DETAIL}",
        ),
        **_each(
            "budget_exceeded",
            hint="`turnmill budget ls` shows what is spent: raise a limit, or wait for the next"
            f" period, {_RETRY}; what has a max_cost_usd of its own is sent anew, with more",
        ),
        **_each(
            "price_unknown",
            hint="name its model in TURNMILL_PRICES of every worker, or remove the budget,"
            f" {_RETRY}; what has a max_cost_usd of its own may be sent anew without",
        ),
        **_each(
            "unknown_tool",
            hint="name the tool in TURNMILL_TOOLS or TURNMILL_MCP of every worker, or leave it out"
            f" of the session's tools, {_RETRY}",
        ),
        **_each(
            "too_many_tool_rounds",
            hint=f"raise max_tool_rounds in the session's settings, {_RETRY}: it goes on",
        ),
        **_each(
            "output_invalid",
            hint="the reply has not the form of response_format, twice: `turnmill turns show ID"
            " --text` has what it said",
        ),
        **_each(
            *("audio_unsupported", "audio_too_large", "audio_too_long", "audio_unreadable"),
            hint="send the sound in another form, or in parts",
        ),
        **_each("nothing_heard", hint="there was no word in the sound: speak again"),
        **_each(
            "speech_too_long",
            hint=f"ask for shorter replies, or set another audio_model, {_RETRY}",
        ),
        **_each(
            "reply_refused",
            hint="the model does not answer this in the form that is asked for: say it otherwise",
        ),
        **_each(
            "pictures_unsupported",
            hint="the reply is a picture, which is not kept: take what paints out of the session's"
            " prompt, or name another model",
        ),
        **_each(
            "reply_cut_off",
            hint="the reply was cut off before it had the form of response_format: raise"
            f" max_output_tokens in the session's settings, or ask for less, {_RETRY}",
        ),
        **_each("unknown_layer", hint=f"name it in TURNMILL_LAYERS of every worker, {_RETRY}"),
        **_each(
            *("input_refused", "output_refused"),
            hint="moderation did not let it pass; `turnmill turns show ID --text` has the category",
        ),
        **_each("moderation_failed", hint=f"see to the service that judges what is said, {_RETRY}"),
        **_each(
            *("unreadable_reply", "reply_too_large", "reply_unstorable", "finish_reason_error"),
            hint=f"an answer came and is none: {_DETAIL}",
        ),
        **_each("unreadable_row", hint="`turnmill doctor` names the row"),
        **_each("seal_broken", hint=f"put back what stood in the row, {_RETRY}"),
        **_each(
            *("attachment_gone", "attachment_unknown", "attachment_changed"),
            "attachment_too_large",
            hint=f"a file that the turn needs is not there as it was: {_FILES}",
        ),
        **_each(
            *("bad_answer", "fault"),
            hint="a provider or layer of yours breaks the contract: the worker's log has a line",
        ),
    }
)

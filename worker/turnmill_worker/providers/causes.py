"""What a refusal is about, where no status tells: how long a conversation is, or how it is built.

One table for both vendors, and for the servers that speak their APIs. Where a code tells, it does;
else the beginning of the vendor's own words, which is no place for a user's. Whoever is mistaken
for one of these is asked a few times more, with less or with plainer words, and fails as before.
"""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from turnmill.domain.errors import ContextFull, HistoryRefused, Rejected

#: Codes and types of vendors, in lower case.
BY_CODE: Mapping[str, type[Rejected]] = MappingProxyType(
    {
        "context_length_exceeded": ContextFull,
        "context_window_exceeded": ContextFull,
        "exceed_context_size_error": ContextFull,  # llama.cpp
        "model_context_window_exceeded": ContextFull,
        "request_too_large": ContextFull,
        "invalid_encrypted_content": HistoryRefused,  # thinking of another account, or too old
    }
)

#: Codes with which vendors refuse all kinds of things: their words tell which one it is.
_SAYS_LITTLE = frozenset(
    {
        "",
        "array_above_max_length",
        "bad_request",
        "badrequest",
        "badrequesterror",
        "invalid_argument",
        "invalid_request",
        "invalid_request_error",
        "invalid_value",
        "rate_limit_error",
        "rate_limit_exceeded",  # also of one request that is larger than a minute's allowance
        "server_error",  # of templates of local models
        "string_above_max_length",
        "tokens",
        "unknown_error",
        "unknown_parameter",
    }
)

#: 429 and 500: what no waiting heals; 404: an item of the history is not found.
_STATUSES = frozenset({400, 404, 413, 422, 429, 500})
_LOOKED_AT = 400  # characters of what a vendor says

#: How vendors begin to say it, in lower case; ` and ' around names may be there or not.
_WORDS: Mapping[type[Rejected], tuple[str, ...]] = MappingProxyType(
    {
        ContextFull: (
            "prompt is too long",
            "input length and max_tokens exceed context limit",
            r"(this|the) (model|endpoint)s (maximum|max) (context|prompt) length",
            r"your (input|messages|prompt)s? exceeds? (the|this) (context|model)",
            "input tokens exceed the configured limit",
            r"(the )?(request|prompt|input) (size )?\(?[\d ]*(tokens)?\)? ?exceeds the",
            r"(the )?input \(\d+ tokens\) is longer than",
            "the input token count",
            "input is too long",
            "input length .{0,40}exceeds",
            r"prompt contains \d+ tokens",
            r"the (decoder )?prompt .{0,60}longer than the maximum",
            "request (is )?too large",
            "request entity too large",
            r"(prompt|messages): too many",
            r"invalid (input|messages)(\[\d+\])?[^:]{0,60}: (string|array) too long",
        ),
        HistoryRefused: (
            r"no tool (output|call) found for",
            r"item \S+ of type \S+ was provided without its required",
            # What only a newer server knows, or another one.
            r"unknown parameter: (input|messages)\[",
            "additional properties are not allowed",
            r"invalid input\[\d+\]\.(encrypted_content|id|status|summary)",
            "extra inputs are not permitted",  # of a field within a message
            r"input tag \S+ found",
            r"invalid value: compaction\b",
            r"(item with id|duplicate item found with id) \S+",
            r"(an )?assistant message with tool_calls must be followed",
            r"(invalid parameter: )?messages with role tool must be a response",
            r"tool_use ids (were found|must be unique)",
            r"unexpected tool_use_id",
            r"(each )?tool_(use|result) (block|must|blocks)",
            r"(after the optional system message, )?(conversation )?roles must alternate",
            "first message must use the",
            r"invalid (signature|data|encrypted_\w+) in \w*(compaction|result|text|thinking)",
            "the encrypted content",
            # The session's model thinks no more, or has begun to.
            "reasoning input (items can only be provided to|is not enabled)",
            "missing reasoning_content",
            "thinking is enabled but reasoning_content is missing",
            r"the \S+ in the thinking mode must be passed back",
            "when providing thinking or",
            r"\w+ tool use with id \S+ was found",
            r"thinking( or redacted_thinking)? blocks? ",
            r"expected (thinking|redacted_thinking|last role)",
            "text content blocks must",
            r"all messages must have non-?empty content",
            "final assistant content cannot end",
            "unexpected role",
            r"invalid consecutive \S+ message",
            "not the same number of function calls",
            r"(please ensure that (the )?)?(number of )?function (call|response)",
        ),
    }
)

#: How they begin to say that an account is closed, where their code is that of any bad request.
_OF_ACCOUNTS: Mapping[str, str] = MappingProxyType(
    {
        "this organization has been disabled": "organization_deactivated",
    }
)

#: Where it was found, which says nothing of what it is: "messages.3.content.0: ".
_PLACE = r"(jinja exception: |(messages|input)[\w.\[\]]*: )*"
_QUOTES = str.maketrans("", "", "`'\"*")


def cause_of(status: int, code: str, words: str) -> type[Rejected] | None:
    """Return ContextFull or HistoryRefused where it is about one of these, else None."""
    if status not in _STATUSES:
        return None
    code = code.lower()
    if found := BY_CODE.get(code):
        return found
    if code in _SAYS_LITTLE or code.isdecimal():
        said = words[:_LOOKED_AT].translate(_QUOTES).lower().lstrip()
        for kind, begins in _beginnings().items():
            if begins.match(said):
                return kind
    # The length of a body: said by a server in between, in whatever words.
    return ContextFull if status == 413 else None


def account_in(status: int, code: str, words: str) -> str:
    """Return the code for an account that is closed, where only words tell; else ""."""
    if status != 400 or code.lower() not in _SAYS_LITTLE:
        return ""
    said = words[:_LOOKED_AT].lower()
    return next((code for begins, code in _OF_ACCOUNTS.items() if said.startswith(begins)), "")


@cache
def _beginnings() -> Mapping[type[Rejected], re.Pattern[str]]:
    """Compile them when the first is needed, not at import."""
    return {
        kind: re.compile(_PLACE + "(" + "|".join(words) + ")") for kind, words in _WORDS.items()
    }

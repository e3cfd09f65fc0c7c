"""What the lines of a batch came to, as it is written into files and printed."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Protocol, cast

from turnmill.domain.errors import InvalidInput, MissingExtra
from turnmill.domain.replying import FinishReason
from turnmill.domain.states import TurnState
from turnmill.named_file import OURS, NamedFile
from turnmill.store.batch_records import BatchResult
from turnmill.store.codec import exported

JSON_LINES, CSV, PARQUET = "jsonl", "csv", "parquet"
FORMATS = (JSON_LINES, CSV, PARQUET)
OPENAI = "openai"
SHAPES = (OPENAI,)

#: Rows of a Parquet file that are kept together.
_ROW_GROUP = 5000
#: A line without a turn, until there is one.
_STAGED = "staged"
_HTTP = "http_"
#: What an error would have been over HTTP, where its code does not say so. Others are refusals.
_STATUS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("key_missing", "invalid_api_key", "authentication_error"), 401),
        **dict.fromkeys(("insufficient_credits", "billing_error", "budget_exceeded"), 402),
        **dict.fromkeys(("permission_error",), 403),
        **dict.fromkeys(("provider_unknown", "model_not_found", "not_found_error"), 404),
        **dict.fromkeys(("rate_limited", "insufficient_quota", "rate_limit_exceeded"), 429),
        **dict.fromkeys(("overloaded", "unreachable", "not_sent"), 503),
        **dict.fromkeys(("timeout", "background_timeout"), 504),
    }
)
_OF_OPENAI: Mapping[TurnState, tuple[str, str]] = MappingProxyType(
    {
        TurnState.CANCELLED: ("batch_cancelled", "This request was cancelled."),
        TurnState.EXPIRED: ("batch_expired", "This request could not be executed in time."),
    }
)
#: Why OpenAI would call a reply incomplete.
_CUT_SHORT: Mapping[str, str] = MappingProxyType(
    {
        FinishReason.LENGTH: "max_output_tokens",
        FinishReason.CONTEXT_FULL: "max_output_tokens",
        FinishReason.CONTENT_FILTER: "content_filter",
    }
)
#: Why a chat completion of OpenAI's ends, but for those that end since all was said.
_FINISH: Mapping[str, str] = MappingProxyType(
    {
        FinishReason.LENGTH: "length",
        FinishReason.CONTEXT_FULL: "length",
        FinishReason.CONTENT_FILTER: "content_filter",
        FinishReason.TOOL_CALLS: "tool_calls",
    }
)


def chosen_format(given: object, path: object) -> str:
    """Return in which format results are written: as its name ends, unless it was said."""
    if given is None:
        suffix = str(path).rpartition(".")[2].lower()
        return suffix if suffix in FORMATS else JSON_LINES
    if given not in FORMATS:
        raise InvalidInput(f"format must be one of {', '.join(FORMATS)}", hint='format="csv"')
    return str(given)


def chosen_shape(given: object, form: str) -> Callable[[BatchResult], dict[str, Any] | None]:
    """Return what makes a line of a result; None of one that has no line in this shape."""
    if given is None:
        return as_line
    if given not in SHAPES:
        raise InvalidInput(f"shape must be one of {', '.join(SHAPES)}", hint="or leave it out")
    if form != JSON_LINES:
        raise InvalidInput("a vendor's shape is one of JSON lines", hint="format='jsonl'")
    return as_openai


class ResultsFile:
    """A file of results: there with all its lines, or as it was before."""

    def __init__(self, path: Path, *, form: object = None, shape: object = None) -> None:
        """Raise InvalidInput, MissingExtra, or OSError with nothing changed."""
        chosen = chosen_format(form, path)
        made = chosen_shape(shape, chosen)
        if chosen == PARQUET:
            _parquet()
        self.lines = 0
        self._file = NamedFile(path)
        self._rows = _rows_into(self._file.stream, chosen, made)

    def write_results(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them."""
        self.lines += self._rows.add(results)

    def finish(self) -> None:
        """Put the file where it belongs."""
        self._rows.end()
        self._file.finish()

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        self._file.close()


class FollowedFile:
    """A file that grows as lines finish: begun anew, its owner's alone, and never replaced."""

    def __init__(self, path: Path, *, form: object = None, shape: object = None) -> None:
        """Raise InvalidInput or OSError."""
        chosen = chosen_format(form, path)
        if chosen == PARQUET:
            raise InvalidInput("a Parquet file is written whole", hint="format='jsonl', or 'csv'")
        made = chosen_shape(shape, chosen)
        self.lines = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OURS)
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._rows = _rows_into(self._stream, chosen, made)

    def write_results(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them, for whoever reads the file meanwhile."""
        self.lines += self._rows.add(results)
        self._stream.flush()

    def finish(self) -> None:
        """See that the file outlives a crash of the machine, where it is one on a disk."""
        self._rows.end()
        self._stream.flush()

    def close(self) -> None:
        """Close the file; what stands in it stays."""
        self._stream.close()


def written_to(
    path: Path, *, form: object, shape: object, follow: bool
) -> ResultsFile | FollowedFile:
    """Begin a file of results; raises as these do."""
    kind = FollowedFile if follow else ResultsFile
    return kind(path, form=form, shape=shape)


class _Rows(Protocol):
    def add(self, results: Iterable[BatchResult]) -> int: ...
    def end(self) -> None: ...


def _rows_into(
    stream: IO[str], form: str, made: Callable[[BatchResult], dict[str, Any] | None]
) -> _Rows:
    if form == CSV:
        return _Csv(stream)
    return _Parquet(stream) if form == PARQUET else _JsonLines(stream, made)


class _JsonLines:
    def __init__(
        self, stream: IO[str], made: Callable[[BatchResult], dict[str, Any] | None]
    ) -> None:
        self._stream = stream
        self._made = made

    def add(self, results: Iterable[BatchResult]) -> int:
        written = 0
        for result in results:
            if (line := self._made(result)) is not None:
                self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
        return written

    def end(self) -> None:
        pass


class _Csv:
    def __init__(self, stream: IO[str]) -> None:
        self._writer = csv.writer(stream, lineterminator="\r\n")
        self._writer.writerow(_COLUMNS)

    def add(self, results: Iterable[BatchResult]) -> int:
        rows = [[_cell(value) for value in as_row(one).values()] for one in results]
        self._writer.writerows(rows)
        return len(rows)

    def end(self) -> None:
        pass


class _Parquet:
    def __init__(self, stream: IO[str]) -> None:
        arrow, parquet = _parquet()
        kinds = {"usd": arrow.string(), "n": arrow.int64(), "yes": arrow.bool_()}
        fields = [(name, kinds.get(_KINDS.get(name, ""), arrow.string())) for name in _COLUMNS]
        self._schema = arrow.schema(fields)
        self._table = arrow.Table
        self._writer = parquet.ParquetWriter(cast("io.TextIOWrapper", stream).buffer, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, results: Iterable[BatchResult]) -> int:
        rows = [as_row(one) for one in results]
        self._waiting += rows
        if len(self._waiting) >= _ROW_GROUP:
            self._flush()
        return len(rows)

    def end(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []


def as_line(result: BatchResult) -> dict[str, Any]:
    """Return a result as it is written into files and printed."""
    return {
        "custom_id": result.custom_id,
        "turn_id": _text_of(result.turn_id),
        "session_id": _text_of(result.session_id),
        "state": _state(result),
        "status_code": status_of(result),
        **({"text": None} if result.parts is None else exported(result.parts)),
        "usage": {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "cached_tokens": result.cached_tokens,
            "cost_usd": None if result.cost_usd is None else format(result.cost_usd, "f"),
        },
        "attempts": result.attempts,
        "reused": result.reused,
        "finish_reason": result.finish_reason,
        "answered_by": result.answered_by,
        "answered_because": result.answered_because,
        "error": None if result.error_code is None else {"code": result.error_code},
    }


def as_row(result: BatchResult) -> dict[str, Any]:
    """Return a result as a row of a table."""
    line = as_line(result)
    return {
        "line": result.line,
        **{name: line[name] for name in ("custom_id", "turn_id", "session_id", "state")},
        "status_code": line["status_code"],
        "text": result.text,
        **line["usage"],
        "attempts": result.attempts,
        "reused": result.reused,
        **{name: line[name] for name in ("finish_reason", "answered_by", "answered_because")},
        "error_code": result.error_code,
    }


_COLUMNS = (
    *("line", "custom_id", "turn_id", "session_id", "state", "status_code", "text"),
    *("input_tokens", "output_tokens", "cached_tokens", "cost_usd", "attempts", "reused"),
    *("finish_reason", "answered_by", "answered_because", "error_code"),
)
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("line", "status_code", "attempts"), "n"),
        **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), "n"),
        "reused": "yes",
    }
)


def as_openai(result: BatchResult) -> dict[str, Any] | None:
    """Return a result as OpenAI writes it into output and error files; None while there is none."""
    if not result.is_final or result.state is None:
        return None
    named = str(result.turn_id or result.line)
    line: dict[str, Any] = {
        "id": f"batch_req_{named}",
        "custom_id": result.custom_id,
        "response": None,
        "error": None,
    }
    if result.state in _OF_OPENAI:
        code, message = _OF_OPENAI[result.state]
        return line | {"error": {"code": code, "message": message}}
    body = _body(result, named) if result.parts is not None else _refusal(result)
    said = {"status_code": status_of(result), "request_id": named, "body": body}
    return line | {"response": said}


def _body(result: BatchResult, named: str) -> dict[str, Any]:
    at = 0 if result.finished_at is None else int(result.finished_at.timestamp())
    made = _response if result.api == "responses" else _completion
    return {**made(result, named, at), "model": result.model or ""}


def _response(result: BatchResult, named: str, at: int) -> dict[str, Any]:
    """Return a reply as OpenAI's Responses have it, with all that its readers insist on."""
    refused = result.finish_reason == FinishReason.REFUSAL
    said = {"type": "output_text", "text": result.text, "annotations": []}
    content = {"type": "refusal", "refusal": result.text} if refused else said
    message = {"id": f"msg_{named}", "type": "message", "role": "assistant"}
    cut = _CUT_SHORT.get(result.finish_reason or "")
    usage = _usage(result, "input_tokens", "output_tokens")
    if usage is not None:
        usage["input_tokens_details"] = {
            "cached_tokens": result.cached_tokens or 0,
            "cache_write_tokens": 0,
        }
        usage["output_tokens_details"] = {"reasoning_tokens": 0}
    return {
        "id": f"resp_{named}",
        "object": "response",
        "created_at": at,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": cut} if cut else None,
        "error": None,
        "output": [{**message, "status": "completed", "content": [content]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def _completion(result: BatchResult, named: str, at: int) -> dict[str, Any]:
    refused = result.finish_reason == FinishReason.REFUSAL
    words = {"role": "assistant", "content": result.text, "refusal": None}
    if refused:
        words |= {"content": None, "refusal": result.text}
    finish = _FINISH.get(result.finish_reason or "", "stop")
    choice = {"index": 0, "message": words, "logprobs": None, "finish_reason": finish}
    return {
        "id": f"chatcmpl-{named}",
        "object": "chat.completion",
        "created": at,
        "choices": [choice],
        "usage": _usage(result, "prompt_tokens", "completion_tokens"),
    }


def _usage(result: BatchResult, asked: str, answered: str) -> dict[str, Any] | None:
    """Return what was used in the vendor's words; None where nobody knows."""
    told, said = result.input_tokens, result.output_tokens
    if told is None or said is None:
        return None
    return {asked: told, answered: said, "total_tokens": told + said}


def _refusal(result: BatchResult) -> dict[str, Any]:
    error = {"message": result.error_code, "type": "invalid_request_error", "param": None}
    return {"error": {**error, "code": result.error_code}}


def status_of(result: BatchResult) -> int | None:
    """Return what the answer to the line would be over HTTP; None where there was none."""
    if result.state is TurnState.SUCCEEDED:
        return 200
    if result.state not in (TurnState.FAILED, TurnState.DEAD):
        return None
    code = result.error_code or ""
    if code.startswith(_HTTP) and code.removeprefix(_HTTP).isdecimal():
        return int(code.removeprefix(_HTTP))
    return _STATUS.get(code, 400 if result.state is TurnState.FAILED else 500)


def _state(result: BatchResult) -> str:
    return _STAGED if result.state is None else result.state.value


def _text_of(one: object) -> str | None:
    return None if one is None else str(one)


def _cell(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _parquet() -> Sequence[Any]:
    try:
        import pyarrow  # noqa: PLC0415  of an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtra(
            "Parquet is read and written by pyarrow, which is not installed here",
            hint="pip install 'turnmill[parquet]'",
        ) from None
    return pyarrow, parquet

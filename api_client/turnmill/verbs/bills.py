"""Bills: what vendors export of usage and costs, as CSV, read into lines by day, model and tier."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from turnmill.domain.errors import InvalidBill

if TYPE_CHECKING:
    from _csv import Reader

T = TypeVar("T")

#: Of a file, and of its lines. A year by the minute, model and key is smaller.
MOST_BYTES = 100_000_000
_MOST_PROBLEMS = 20
_MOST_NUMBER = Decimal(10) ** 15
_MOST_DIGITS = 1000  #: behind the point

#: What a column is about, by the names that it goes by; the first that a file has counts.
_NAMES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "day": (
            *("usage_date_utc", "start_time_iso", "start_time", "starting_at", "start_date"),
            *("usage_date", "date", "day"),
        ),
        "provider": ("provider", "vendor"),
        "model": ("model", "model_version", "model_name", "model_id"),
        "item": ("line_item",),
        "tier": ("service_tier", "usage_type", "tier"),
        "batch": ("batch", "is_batch"),
        "speed": ("speed",),
        "geo": ("inference_geo",),
        "calls": ("num_model_requests", "num_requests", "requests"),
        "cost": ("cost_usd", "amount_value", "amount_usd", "total_cost_usd", "cost", "amount"),
        "currency": ("amount_currency", "currency"),
        "input": ("input_tokens", "prompt_tokens"),
        "fresh": ("usage_input_tokens_no_cache", "uncached_input_tokens"),
        "output": ("usage_output_tokens", "output_tokens", "completion_tokens"),
        "cached": ("input_cached_tokens", "cached_tokens", "cached_input_tokens"),
        "read": ("usage_input_tokens_cache_read", "cache_read_input_tokens"),
        "write_5m": (
            *("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write"),
            *("cache_creation_input_tokens", "cache_write_5m_input_tokens"),
        ),
        "write_1h": ("usage_input_tokens_cache_write_1h", "cache_write_1h_input_tokens"),
    }
)
#: Columns that one vendor's files have, and no other's.
_OF_VENDOR: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "anthropic": ("usage_date_utc", "usage_input_tokens_no_cache", "model_version"),
        "openai": ("amount_value", "num_model_requests", "input_cached_tokens", "start_time_iso"),
    }
)
#: How the names of their models begin.
_OF_MODELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"anthropic": ("claude",), "openai": ("gpt-", "chatgpt-", "o1", "o3", "o4", "ft:gpt-")}
)
_FIGURES = ("calls", "cost", "input", "fresh", "output", "cached", "read", "write_5m", "write_1h")
_STANDARD = frozenset({"", "default", "standard", "message", "on_demand", "not_available", "none"})
_ANYWHERE = frozenset({"", "global", "not_available", "none"})
_TIER_IN_ITEM = re.compile(r"\b(batch|flex|priority|scale|ultrafast)\b")
# What begins with 0 has no thousands.
_THOUSANDS = re.compile(r"[-+]?\$?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")
#: Where fields have `;` between them, this may be thousands as well as a fraction.
_EITHER = re.compile(r"[-+]?\$?[0-9]+,[0-9]{3}")
#: Of what is whole this may be thousands, as many write them, or what a program has made of 12.0.
_POINTED = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")
_SIGNED_DOLLARS = re.compile(r"^([-+]?)\$")
_TRUE = frozenset({"true", "1", "yes", "t"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """A line of a bill; None is what it does not say."""

    day: date
    model: str | None
    tier: str | None  #: "": the standard one
    calls: int | None
    input_tokens: int | None  #: with those read from a cache, and put there
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    rounding: Decimal = Decimal(0)  #: so much the cost may have been rounded by


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A vendor's file."""

    provider: str
    lines: Sequence[BillLine] = field(repr=False)
    by_model: bool  #: it tells models from one another
    by_tier: bool


def read_bill(path: Path, *, provider: str | None) -> Bill:
    """Read the file; raises InvalidBill. `provider` is whose it is, where it does not show."""
    text = _text_of(path)
    delimiter = _delimiter(text)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns, names = _columns(rows)
    if "day" not in columns or not ({"cost", "input", "fresh", "output"} & columns.keys()):
        raise InvalidBill(
            "the file has no column of days, or none of costs or tokens",
            hint=f"days: {', '.join(_NAMES['day'])}; costs: {', '.join(_NAMES['cost'])}; tokens:"
            f" {', '.join((*_NAMES['input'], *_NAMES['fresh']))}",
        )
    vendor = provider or _vendor(names)
    read = list(_lines(rows, columns, width=len(names), delimiter=delimiter))
    if provider is None and "provider" in columns:
        vendor = _only_provider(read)
    vendor = vendor or _by_models(read)
    if not vendor:
        raise InvalidBill("the file does not show whose bill it is", hint="name the provider")
    lines = [one.line for one in read if one.provider in ("", vendor)]
    if not lines:
        raise InvalidBill("the file has no lines with figures", hint="export days that were used")
    by_model = any(one.model for one in lines)
    return Bill(
        provider=vendor,
        lines=lines,
        by_model=by_model,
        by_tier=any(one.tier for one in lines) or ("tier" in columns and _says_tiers(read)),
    )


class _Read(NamedTuple):
    line: BillLine
    provider: str
    says_tier: bool


class _Row:
    """The fields of a line, by what they are about."""

    def __init__(
        self, fields: Sequence[str], columns: Mapping[str, int], *, delimiter: str
    ) -> None:
        self._fields = fields
        self._columns = columns
        self._delimiter = delimiter

    def text(self, name: str) -> str:
        """Return a field as it is, "" where there is none."""
        return self._fields[self._columns[name]].strip() if name in self._columns else ""

    def word(self, name: str) -> str:
        """Return a field as a word that means the same in any case."""
        return self.text(name).lower()

    def number(self, name: str) -> Decimal | None:
        """Return a number; None where nothing is said. Raises InvalidBill."""
        said = self.text(name)
        if not said:
            return None
        if self._delimiter != "," and _EITHER.fullmatch(said):
            raise InvalidBill(f"{name} may be thousands, or behind the comma: write a point")
        if _THOUSANDS.fullmatch(said):
            said = said.replace(",", "")
        try:
            found = Decimal(_SIGNED_DOLLARS.sub(r"\1", said, count=1))
        except InvalidOperation:
            raise InvalidBill(f"{name} is no number") from None
        # By what is no arithmetic: of 1E9999999, or of 0E-9999999, that fails by itself.
        exponent = found.as_tuple().exponent
        fits = isinstance(exponent, int) and -exponent <= _MOST_DIGITS
        if not fits or found.copy_abs() > _MOST_NUMBER:
            raise InvalidBill(f"{name} is no number that can be")
        return found

    def tokens(self, name: str) -> int | None:
        """Return a whole number from 0. Raises InvalidBill."""
        if _POINTED.fullmatch(self.text(name)):
            raise InvalidBill(f"{name} may be thousands, or behind the point: write no point")
        found = self.number(name)
        if found is not None and (found < 0 or found != found.to_integral_value()):
            raise InvalidBill(f"{name} is no whole number from 0")
        return None if found is None else int(found)

    @property
    def is_blank(self) -> bool:
        """Tell whether it says nothing: of an hour in which nothing was used, say."""
        return not any(self.text(name) for name in _FIGURES)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidBill(f"cannot read the file: {error.strerror}") from None
    except ValueError:
        raise InvalidBill("cannot read the file: no file has such a name") from None
    if len(content) > MOST_BYTES:
        raise InvalidBill(f"the file is larger than {MOST_BYTES} bytes", hint="export fewer days")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidBill(f"the file is no UTF-8 at byte {error.start}") from None
    if "\0" in text:
        raise InvalidBill("the file is no text")
    return text


def _delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return max((",", "\t", ";"), key=header.count)


def _columns(rows: "Reader") -> tuple[dict[str, int], list[str]]:
    """Return where each thing stands, and the names of all columns. Raises InvalidBill."""
    header: list[str] = []
    try:
        header = next((row for row in rows if any(map(str.strip, row))), [])
    except csv.Error as error:
        raise InvalidBill(f"the header is no CSV: {error}") from None
    if not header:
        raise InvalidBill("the file is empty")
    names = [name.strip().lower().replace(" ", "_") for name in header]
    if len(set(filter(None, names))) < len(list(filter(None, names))):
        raise InvalidBill("two columns have one name")
    found = {}
    for what, known in _NAMES.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[what] = place
    return found, names


def _vendor(names: Sequence[str]) -> str:
    return next((who for who, known in _OF_VENDOR.items() if any(n in names for n in known)), "")


def _only_provider(read: Sequence[_Read]) -> str:
    found = sorted({one.provider for one in read if one.provider})
    if len(found) > 1:
        raise InvalidBill("the file is of several providers", hint=f"name one: {found[0]}")
    return found[0] if found else ""


def _by_models(read: Sequence[_Read]) -> str:
    """Return whose models these are, as far as their names show it, "" where they do not."""
    names = [(one.line.model or "").lower() for one in read]
    for who, begins in _OF_MODELS.items():
        if names and all(name.startswith(begins) for name in names):
            return who
    return ""


def _says_tiers(read: Sequence[_Read]) -> bool:
    """Tell whether the file tells tiers apart, though all of it is of the standard one."""
    return all(one.says_tier for one in read)


def _lines(
    rows: "Reader", columns: Mapping[str, int], *, width: int, delimiter: str
) -> Iterator[_Read]:
    """Yield all lines that say something; raises InvalidBill with all that was wrong."""
    problems: list[tuple[int, str]] = []
    for number, fields in _numbered(rows):
        try:
            if isinstance(fields, csv.Error):
                raise InvalidBill(f"no CSV: {fields}")
            if len(fields) != width:
                raise InvalidBill(f"has {len(fields)} fields, the header has {width}")
            row = _Row(fields, columns, delimiter=delimiter)
            if not row.is_blank:
                yield _read(row, columns)
        except InvalidBill as error:
            problems.append((number, str(error)))
        if len(problems) == _MOST_PROBLEMS:
            break
    _refuse(problems)


def _refuse(problems: Sequence[tuple[int, str]]) -> None:
    if problems:
        shown = "; ".join(f"line {number}: {what}" for number, what in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InvalidBill(shown + more, problems=problems)


def _numbered(rows: "Reader") -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Yield each line that is not blank with its number, or what is wrong with it.

    The number is that in the file, of where it begins: a field may have lines of its own.
    """
    while True:
        number = rows.line_num + 1
        try:
            fields = next(rows, None)
        except csv.Error as error:
            yield number, error
            continue
        if fields is None:
            return
        if any(map(str.strip, fields)):
            yield number, fields


def _read(row: _Row, columns: Mapping[str, int]) -> _Read:
    currency = row.word("currency")
    if currency not in ("", "usd"):
        raise InvalidBill("the currency is not usd", hint="costs here are US dollars")
    cost = row.number("cost")
    model, item_tier = _item(row.word("item"))
    line = BillLine(
        day=_day(row.text("day")),
        model=row.text("model") or model or None,
        tier=_tier(row) or item_tier,
        calls=row.tokens("calls"),
        input_tokens=_input(row, columns),
        cached_tokens=_either(row.tokens, "read", "cached"),
        output_tokens=row.tokens("output"),
        cost_usd=cost,
        rounding=Decimal(0) if cost is None else _rounding(cost),
    )
    return _Read(line, row.word("provider"), bool(row.word("tier")))


def _item(said: str) -> tuple[str, str]:
    """Return the model and tier of `gpt-4o-mini-2024-07-18 batch, cached input`."""
    found = _TIER_IN_ITEM.search(said)
    first = re.split(r"[,(|]", said, maxsplit=1)[0]
    return _TIER_IN_ITEM.sub("", first).strip(" -"), found[1] if found else ""


def _tier(row: _Row) -> str:
    """Return what the line is of, as an answer would have named it."""
    named = ["batch"] if row.word("batch") in _TRUE else []
    named += [tier for tier in (row.word("tier"),) if tier not in _STANDARD and tier not in named]
    named += [speed for speed in (row.word("speed"),) if speed not in _STANDARD]
    named += [geo for geo in (row.word("geo"),) if geo not in _ANYWHERE]
    return ".".join(named)


def _input(row: _Row, columns: Mapping[str, int]) -> int | None:
    """Return all input: where a file tells what was kept from what was not, the sum."""
    apart = ("read", "write_5m", "write_1h")
    fresh = _either(row.tokens, "fresh", "input")
    if fresh is None or not ("fresh" in columns or any(name in columns for name in apart)):
        return fresh
    return fresh + sum(row.tokens(name) or 0 for name in apart)


def _either(read: Callable[[str], T | None], *names: str) -> T | None:
    return next((found for name in names if (found := read(name)) is not None), None)


def _rounding(cost: Decimal) -> Decimal:
    """Return half of the last digit, and half a cent at the most."""
    exponent = cost.as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return Decimal(5).scaleb(-max(digits, 2) - 1)


def _day(said: str) -> date:
    """Return the UTC day of a date, a moment, or of seconds since 1970. Raises InvalidBill."""
    try:
        if re.fullmatch(r"\d{9,11}(\.\d+)?", said):
            return datetime.fromtimestamp(float(said), tz=UTC).date()
        found = datetime.fromisoformat(said.replace("/", "-"))
        return found.date() if found.tzinfo is None else found.astimezone(UTC).date()
    except (ValueError, OverflowError, OSError):
        raise InvalidBill("its day is none", hint="2026-11-26") from None

"""Personal data in a text: where it stands, and of what kind it is."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import NamedTuple


class Found(NamedTuple):
    """A piece of a text that says something of a person."""

    start: int
    end: int
    kind: str  #: upper-case letters, digits and _: what stands in its place


#: Finds pieces of a text, in any order; they may overlap. It is called in any thread.
Redactor = Callable[[str], Iterable[Found]]

# Each of them looks at a bounded stretch from where it may begin: a long text costs no more than
# its length, whatever somebody has written into it.
_EMAIL = re.compile(r"(?<![\w.%+-])\w[\w.%+'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,63}")
_INTERNATIONAL = re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ()./-]{0,3}\d){6,16}(?!\d)")
_AMERICAN = re.compile(r"(?<![\w(])\(?[2-9]\d\d\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?!\w)")
_NATIONAL = re.compile(r"(?<!\w)\(?0[1-9]\d{1,4}\)?[ /-]{0,2}\d{3,9}(?:[ -]\d{1,6}){0,3}(?!\w)")
_FEWEST_DIGITS = 9  # of a number with neither a country's code nor its country's way of writing it
_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d\d(?: ?[A-Za-z0-9]){11,40}")
_DIGITS = re.compile(r"(?<!\w)\d{3,}(?:[ -]\d{3,})*(?!\w)")
_IP_4 = re.compile(r"(?<![\w.:])\d{1,3}(?:\.\d{1,3}){3}(?![\w:]|\.\d)")
_IP_6 = re.compile(r"(?<![\w.:])[0-9A-Fa-f:]{3,39}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])")

#: How long an IBAN of a country is.
_IBANS = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO",
            16: "BE BI",
            18: "DK FK FO FI GL NL SD",
            19: "MK SI",
            20: "AT BA EE KZ LT LU XK",
            21: "CH HR LI LV",
            22: "BG BH CR DE GB GE IE ME RS VA",
            23: "AE GI IL IQ OM SO TL",
            24: "AD CZ ES MD PK RO SA SE SK TN VG",
            25: "LY PT ST",
            26: "IS TR",
            27: "BY DJ FR GR IT MC MR SM",
            28: "AL AZ CY DO GT HN HU LB NI PL SV",
            29: "BR EG PS QA UA",
            30: "JO KW MU YE",
            31: "MT SC",
            32: "LC",
            33: "RU",
        }.items()
        for country in countries.split()
    }
)
#: How many digits a card has, the usual ones first.
_CARDS = (16, 15, 14, 19, 13, 18, 17)


def emails(text: str) -> Iterator[Found]:
    """Find addresses of electronic mail."""
    return _matches(_EMAIL, text, "EMAIL")


def phones(text: str) -> Iterator[Found]:
    """Find numbers of telephones: with a country's code, or parted as people write them."""
    for pattern in (_INTERNATIONAL, _AMERICAN):
        yield from _matches(pattern, text, "PHONE")
    for match in _NATIONAL.finditer(text):
        if sum(map(str.isdigit, match[0])) >= _FEWEST_DIGITS:
            yield Found(*match.span(), "PHONE")


def ibans(text: str) -> Iterator[Found]:
    """Find numbers of bank accounts whose check digits are right."""
    at = 0
    while match := _IBAN.search(text, at):
        end = match.start() + _iban_in(match[0])
        if end > match.start():
            yield Found(match.start(), end, "IBAN")
        at = max(end, match.start() + 1)


def cards(text: str) -> Iterator[Found]:
    """Find numbers of payment cards whose check digit is right."""
    for match in _DIGITS.finditer(text):
        places = [n for n, one in enumerate(match[0]) if one.isdigit()]
        first = 0
        while first < len(places):
            length = _card_at(match[0], places, first)
            if not length:
                first += 1
                continue
            last = places[first + length - 1]
            yield Found(match.start() + places[first], match.start() + last + 1, "CARD")
            first += length


def addresses(text: str) -> Iterator[Found]:
    """Find addresses of the internet protocol."""
    for pattern in (_IP_4, _IP_6):
        for match in pattern.finditer(text):
            if _is_address(match[0]):
                yield Found(*match.span(), "IP")


def pattern(name: str, expression: str) -> Redactor:
    """Return what finds a pattern of an operator's; raises re.error."""
    compiled = re.compile(expression)
    kind = re.sub(r"[^A-Z0-9]", "_", name.upper())
    return lambda text: (one for one in _matches(compiled, text, kind) if one.end > one.start)


#: What there is without anything else installed, by the name that an operator lists it by.
BUILT_IN: Mapping[str, Redactor] = MappingProxyType(
    {"email": emails, "phone": phones, "iban": ibans, "card": cards, "ip": addresses}
)


def _matches(pattern: re.Pattern[str], text: str, kind: str) -> Iterator[Found]:
    return (Found(*match.span(), kind) for match in pattern.finditer(text))


def _card_at(text: str, places: list[int], first: int) -> int:
    """Return how many digits a card has that begins with this one, alone or after a gap; or 0."""
    here = places[first]
    if text[here] not in "23456" or (first and places[first - 1] == here - 1):
        return 0
    for length in _CARDS:
        end = first + length
        whole = end == len(places) or (end < len(places) and places[end] > places[end - 1] + 1)
        if whole and _is_card([int(text[n]) for n in places[first:end]]):
            return length
    return 0


def _is_card(digits: list[int]) -> bool:
    """Tell whether the check digit is right (ISO/IEC 7812: Luhn)."""
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban_in(text: str) -> int:
    """Return where the IBAN ends that the text begins with; 0 where it is none."""
    length = _IBANS.get(text[:2].upper(), 0)
    places = [n for n, one in enumerate(text) if one != " "]
    if not 0 < length <= len(places):
        return 0
    end = places[length - 1] + 1
    return end if _is_iban(text[:end].replace(" ", "").upper()) else 0


def _is_iban(iban: str) -> bool:
    """Tell whether the check digits are right (ISO 13616: 97)."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97 == 1


def _is_address(text: str) -> bool:
    if (text.count(":") < 2 and "." not in text) or not any(map(str.isdigit, text)):
        return False  # `a::b` is of a program, more often
    try:
        return int(ip_address(text)) > 0
    except ValueError:
        return False

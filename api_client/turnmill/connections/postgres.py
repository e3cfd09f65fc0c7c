"""What the URL of a Postgres means, whoever dials it: libpq's keywords, read in one place."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from turnmill.domain.errors import InvalidSetting

#: `name:5433`, `[::1]:5433`, or either without a port.
_A_PLACE = r"(?:\[[^\[\]@/?#]*\]|[^@/?#,:\[\]]*)(?::\d*)?"
#: A password that nobody has encoded may hold `@ : / ? #`. Each part is as short as the rest
#: allows, so an `@` in a parameter is not taken for the end of a password.
_URL = (
    r"postgres(?:ql)?(?:\+\w+)?://"
    r"(?:(?P<user>[^:/?]*?)(?::(?P<password>.*?))?@)?"
    rf"(?P<places>{_A_PLACE}(?:,{_A_PLACE})*)"
    r"(?:/(?P<database>[^@/?]*))?"
    r"(?:\?(?P<query>(?:\w+=[^&?]*(?:&+\w+=[^&?]*)*&*)?))?"
)
_PLACE = r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?"
_SOCKETS = ("/", "@")  #: what the name of a folder of sockets begins with

_THRESHOLD = "prepare_threshold"
#: What no server is: libpq reads everything, says so, and dials nobody.
_NOBODY = {"target_session_attrs": "nobody"}

_NUMBERS = (
    *("connect_timeout", "tcp_user_timeout", "keepalives"),
    *("keepalives_idle", "keepalives_interval", "keepalives_count"),
)

_FORM = "postgresql://user:password@host:5432/name; encode odd characters of a password: @ is %40"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads, and how to go there."""

    keywords: Mapping[str, str] = field(repr=False)  #: libpq's; one of them is a password
    #: what psycopg itself is told
    driver: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read(url: str) -> Address:
    """Return what the URL says. Raises InvalidSetting, quoting nothing of it."""
    found = re.fullmatch(_URL, url, re.DOTALL)  # compiled when it is needed, and kept
    if found is None:
        raise InvalidSetting("the database URL cannot be understood", hint=_FORM)
    keywords = dict(_places(found["places"].split(",")))
    for name, part in (("user", "user"), ("password", "password"), ("dbname", "database")):
        if found[part]:
            keywords[name] = unquote(found[part])
    parameters = _parameters(found["query"] or "")
    driver = _driver(parameters)
    _refuse_unknown(parameters)
    return Address({**keywords, **parameters}, driver)


def effective(address: Address) -> Mapping[str, str]:
    """Return all that libpq would go by: with its environment, service file and defaults.

    Nothing is dialled. Raises InvalidSetting for values that libpq does not take.
    """
    from psycopg import pq  # noqa: PLC0415  whoever connects to nothing needs no driver
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    reader = pq.PGconn.connect_start(make_conninfo(**{**address.keywords, **_NOBODY}).encode())
    try:
        if b"target_session_attrs" not in reader.error_message:
            raise _refused(reader.error_message.decode(errors="replace"))
        given = {one.keyword.decode(): one.val for one in reader.info if one.val}
    finally:
        reader.finish()
    for name in _NUMBERS:  # it reads them when it dials, and the driver before it
        if not re.fullmatch(rb"\s*[+-]?\d{1,9}\s*", given.get(name, b"0")):
            raise _not_taken(name)
    attributes = address.keywords.get("target_session_attrs", "any")
    return {name: value.decode() for name, value in given.items()} | {
        "target_session_attrs": attributes
    }


def _not_taken(name: str) -> InvalidSetting:
    return InvalidSetting(
        f"libpq does not take what is set for {name}",
        hint=f"{name}= in the database URL, in its service, or as a PG* variable",
    )


def _refused(words: str) -> InvalidSetting:
    # libpq quotes the value, and that may be a part of a password: only what it is for is told.
    named = re.match(r"invalid (\w+) value", words)
    if named:
        return _not_taken(named[1])
    if "service" in words:
        return InvalidSetting(
            "the service of the database URL is not defined, or cannot be read",
            hint="PGSERVICEFILE, ~/.pg_service.conf",
        )
    return InvalidSetting(
        "libpq does not take the database URL, or the PG* variables beside it", hint=_FORM
    )


def _places(places: list[str]) -> Iterator[tuple[str, str]]:
    """Yield libpq's lists of hosts and ports."""
    read_places = [re.fullmatch(_PLACE, place) for place in places]
    hosts, ports = [], []
    for found in read_places:
        if found is None or not _is_name(unquote(found["name"] or "")):
            raise InvalidSetting("a host in the database URL cannot be understood", hint=_FORM)
        hosts.append(unquote(found["v6"] or found["name"] or ""))
        ports.append(found["port"] or "")
    if any(hosts):
        yield "host", ",".join(hosts)
    if any(ports):
        yield "port", ",".join(ports)


def _is_name(host: str) -> bool:
    """Tell whether Python's resolver takes it: it has errors of its own for what is no name."""
    try:
        host.encode("idna")
    except UnicodeError:
        return host.startswith(_SOCKETS)
    return True


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for one in filter(None, query.split("&")):
        name, _, value = one.partition("=")
        found.setdefault(unquote(name), []).append(unquote(value))
    hosts = found.pop("host", [])
    places = [place for host in hosts for place in host.split(",")]
    is_names = any(place.startswith(_SOCKETS) or place.count(":") > 1 for place in places)
    read_places = (
        {"host": ",".join(places)} if is_names else dict(_places(places)) if places else {}
    )
    joined = {name: (" " if name == "options" else ",").join(found[name]) for name in found}
    return {**read_places, **joined}


def _driver(parameters: dict[str, str]) -> dict[str, Any]:
    """Take out what psycopg reads and libpq does not know."""
    given = parameters.pop(_THRESHOLD, None)
    if given is None:
        return {}
    if given.lower() == "none":
        return {_THRESHOLD: None}
    if not given.isascii() or not given.isdigit():
        raise InvalidSetting(f"{_THRESHOLD} is no number", hint=f"{_THRESHOLD}=5, or none")
    return {_THRESHOLD: int(given)}


def _refuse_unknown(parameters: Mapping[str, str]) -> None:
    if not parameters:
        return
    from psycopg import pq  # noqa: PLC0415

    known = {one.keyword.decode() for one in pq.Conninfo.get_defaults()} | {_THRESHOLD}
    for name in parameters.keys() - known:
        from difflib import get_close_matches  # noqa: PLC0415  only for a slip

        alike = get_close_matches(name, known, n=1)
        # Not its name: behind a password with a `?` it may be a part of the password.
        raise InvalidSetting(
            "the database URL has a parameter that libpq does not know",
            hint=f"is {alike[0]} meant?" if alike else _FORM,
        )

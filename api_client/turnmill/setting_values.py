"""Single values of the environment, each read and held to its bounds."""

from collections.abc import Mapping
from datetime import timedelta

from turnmill.domain.errors import InvalidSetting

#: A keyring may stand in it: lines, of which the last one ends, too.
_OF_LINES = "TURNMILL_ENCRYPTION_KEYS"


def with_unix_line_ends(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment; raises InvalidSetting where a value has a line end of Windows.

    It comes of a file that was written there. Nobody sees it, and a folder, a password or a
    database would be called so.
    """
    for name, value in env.items():
        if name.startswith("TURNMILL_") and name != _OF_LINES and value.endswith(("\r", "\r\n")):
            raise InvalidSetting(
                f"{name} ends with a carriage return, as lines do in a file with Windows line ends",
                hint="give the file the line ends of Unix: sed -i 's/\\r$//' FILE",
            )
    return env


def seconds(
    env: Mapping[str, str], name: str, *, default: float, least: float, most: float = 86_400
) -> timedelta:
    """Return a length of time that is said in seconds."""
    try:
        length = float(env.get(name) or default)
    except ValueError:
        raise InvalidSetting(f"{name} is not a number", hint="seconds, such as 15") from None
    if not least <= length <= most:
        raise InvalidSetting(f"{name} is out of range", hint=f"{least} to {most} seconds")
    return timedelta(seconds=length)


def count(env: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    """Return a whole number from 1 to `most`."""
    number = bound(env, name, default)
    if number is None or number > most:
        raise InvalidSetting(f"{name} is out of range", hint=f"a whole number from 1 to {most}")
    return number


def port(env: Mapping[str, str], name: str) -> int | None:
    """Return a port, where one is named."""
    return count(env, name, 1, most=65_535) if env.get(name) else None


def bound(env: Mapping[str, str], name: str, default: int | None) -> int | None:
    """Return a whole number from 1, or None where the value is `none`."""
    value = env.get(name)
    if not value:
        return default
    if value.lower() == "none":
        return None
    try:
        number = int(value)
    except ValueError:
        raise InvalidSetting(f"{name} is not a whole number", hint="from 1, or none") from None
    if number < 1:
        raise InvalidSetting(f"{name} is out of range", hint="a whole number from 1, or none")
    return number


def days(env: Mapping[str, str], name: str) -> timedelta | None:
    """Return a length of time that is said in days, where it is said."""
    return timedelta(days=count(env, name, 1, most=36_500)) if env.get(name) else None


def networks(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return networks that are listed with commas between them."""
    names = tuple(filter(None, map(str.strip, env.get(name, "").split(","))))
    if not names:
        return ()
    from turnmill.net.public_address import Reach  # noqa: PLC0415  few name any

    try:
        Reach.of(names)
    except ValueError:
        raise InvalidSetting(
            f"{name} names what is no network", hint="such as 10.1.0.0/16,10.2.3.4"
        ) from None
    return names

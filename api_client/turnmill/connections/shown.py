"""How a URL is shown: where it leads, and nothing of who may go there."""


def shown(url: str) -> str:
    """Return a URL without user, password and parameters, for terminals, logs and errors.

    Read from the right, since a password that nobody has encoded may hold any of `@ : / ? #`:
    of what cannot be told apart from a password, nothing is shown.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return "(not a URL)"
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"

"""Providers that a caller may mean: installed here, or asked for by some session."""

from importlib.metadata import entry_points

from turnmill.domain.errors import InvalidInput
from turnmill.store.upkeep.vitals import is_asked_for, providers_in_use
from turnmill.verbs.verb import Connection

#: Packages register their providers under it.
PROVIDERS = "turnmill.providers"


def refuse_unknown_provider(conn: Connection, provider: str) -> None:
    """Raise InvalidInput for a provider that is neither of the two: most likely a slip."""
    if is_asked_for(conn, provider):
        return
    if provider in {one.name for one in entry_points(group=PROVIDERS)}:
        return
    in_use = ", ".join(sorted(providers_in_use(conn))) or "none"
    raise InvalidInput(
        "provider is neither installed here nor asked for by any session",
        hint=f"in use: {in_use}; force=True for one that is to come",
    )

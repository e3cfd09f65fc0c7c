"""URLs of the roles beside the one that clients and workers run as; few commands read them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from turnmill.settings import Profile, Settings

ADMIN = "TURNMILL_SUPERUSER_URL"
OWNER = "TURNMILL_OWNER_URL"
VIEWER = "TURNMILL_VIEWER_URL"
PRODUCER = "TURNMILL_PRODUCER_URL"
AUDITOR = "TURNMILL_AUDITOR_URL"
ANALYST = "TURNMILL_ANALYST_URL"

#: What nobody else is given.
VARIABLES = (ADMIN, OWNER, VIEWER, PRODUCER, AUDITOR, ANALYST)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleUrls:
    """As they are set; empty where they are not."""

    admin: str = field(default="", repr=False)  #: may make roles: `turnmill roles`
    owner: str = field(default="", repr=False)  #: owns the tables: `turnmill migrate`
    viewer: str = field(default="", repr=False)  #: reads no content
    producer: str = field(default="", repr=False)  #: sends, and reads what was said in turns
    auditor: str = field(default="", repr=False)  #: reads the audit log: `turnmill audit`
    analyst: str = field(default="", repr=False)  #: reads views of figures

    @classmethod
    def from_env(cls, settings: Settings, environ: Mapping[str, str] | None = None) -> Self:
        """Read them; raises UnsafeSetting where the production profile forbids one."""
        env = os.environ if environ is None else environ
        urls = [env.get(variable, "") for variable in VARIABLES]
        if settings.profile is Profile.PRODUCTION:
            from turnmill.connections import rules  # noqa: PLC0415  as `Settings.check` does

            for variable, url in zip(VARIABLES, urls, strict=True):
                rules.refuse_unsafe(rules.of_database(variable, url, env))
        names = ("admin", "owner", "viewer", "producer", "auditor", "analyst")
        return cls(**dict(zip(names, urls, strict=True)))

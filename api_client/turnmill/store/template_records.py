"""What passes between clients and the store of templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from turnmill.domain.templates import TemplateChange


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRecord:
    """One version of a template; it never changes."""

    name: str
    version: int
    is_current: bool  #: it is meant where no version is named
    #: what it says of a session: provider, model, system_prompt, settings, opening, variables, …
    definition: Mapping[str, Any] = field(repr=False)
    note: str | None = field(repr=False)  #: what its author said of the change
    created_at: datetime

    @property
    def ref(self) -> str:
        """Return how `template=` names exactly this version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDiff:
    """What differs between two versions of a template."""

    name: str
    before: int
    after: int
    changes: Sequence[TemplateChange]  #: by where they stand
    text: str = field(repr=False)  #: the same to be read: lines that begin with + and -


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTemplate:
    """What a template is to say from now on."""

    name: str
    definition: Mapping[str, Any] = field(repr=False)
    note: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutTemplate:
    """What became of a template that was put."""

    record: TemplateRecord
    is_new: bool  #: False: the current version says just that already


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSync:
    """What became of a folder of templates."""

    put: Sequence[PutTemplate]  #: one for each file, by name
    only_in_store: Sequence[str]  #: that no file speaks of; they stay as they are

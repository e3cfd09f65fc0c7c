"""Whether the keys of metadata that budgets and figures go by are named here, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Finding, Findings, note, ok, wrong

if TYPE_CHECKING:
    from turnmill.store.database import Database

#: Keys of budgets that are named in a line.
_SHOWN = 8


def check_tags(examination: Examination) -> Findings:
    """Compare TURNMILL_TAGS and TURNMILL_ANALYTICS_TAG with what budgets and figures go by.

    Wrong where metadata is encrypted, since what is not named here then escapes from both for
    good. Otherwise worth knowing: only workers, and beat, read the settings.
    """
    database = examination.database
    if database is None:
        return
    found = [*_of_budgets(examination, database), *_of_figures(examination, database)]
    yield from found
    if not found and (examination.settings.tags or examination.settings.analytics_tag):
        yield ok("keys that budgets and figures go by are named here")


def _of_budgets(examination: Examination, database: Database) -> Findings:
    from turnmill.store.nouns.budgets import tag_keys

    keys = database.run_single(tag_keys)
    missing = [key for key in keys if key not in examination.settings.tags]
    if missing:
        said = ", ".join(missing[:_SHOWN]) + ", …" * (len(missing) > _SHOWN)
        what = f"there are budgets of {said}, which is not named here: turns run from here pass by"
        fix = f"TURNMILL_TAGS={','.join([*examination.settings.tags, *missing][:_SHOWN])}"
        yield _say(examination, what, fix, code="tag_of_budgets")


def _of_figures(examination: Examination, database: Database) -> Findings:
    from turnmill.store.rules.figures import kept_tag

    kept, named = database.run_single(kept_tag), examination.settings.analytics_tag
    if kept == named:
        return
    if not kept:
        what = f"figures are not told apart by {named}: beat has not folded by it"
        yield note(what, "the same setting for beat and its worker", code="tag_of_figures")
    elif named or examination.settings.encrypt_metadata:
        what = f"figures are told apart by {kept}, and {named or 'no key'} is named here"
        yield _say(examination, what, f"TURNMILL_ANALYTICS_TAG={kept}", code="tag_of_figures")


def _say(examination: Examination, what: str, fix: str, *, code: str) -> Finding:
    settings = examination.settings
    is_sealed = settings.is_encrypted and settings.encrypt_metadata
    fix = f"{fix}, at all clients, workers and beat"
    return (wrong if is_sealed else note)(what, fix, code=code)

"""Whether what is encrypted can be read here, and whether its keys stand where they should."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Findings, note, ok, wrong
from turnmill.show.wording import count

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys
    from turnmill.crypto.key_store import WrappedKey

#: Keys that are looked at: one that each master key wraps is tried.
_MOST = 10_000
_FIX = "put it back: TURNMILL_ENCRYPTION_KEYS, TURNMILL_KMS, TURNMILL_KEY_STORE"


def check_encryption(examination: Examination) -> Findings:
    """Whether every master key that wraps data keys is there, and how far content is sealed."""
    from turnmill.store.encryption import keys_for
    from turnmill.store.key_rows import has_keys

    keys = keys_for(examination.settings)
    database = examination.database
    if keys is None:
        if database is not None and database.run(has_keys):
            what = "content is encrypted, and this environment names no keys"
            yield wrong(what, _FIX, code="data_key_missing")
        if chosen := [name for name, is_on in _choices(examination).items() if is_on]:
            what = f"{' and '.join(chosen)}: on, and nothing is encrypted here"
            yield wrong(what, "TURNMILL_ENCRYPTION_KEYS, or leave them off", code="chosen_in_vain")
        return
    yield from _wrapping(keys)
    if not keys.store.apart:
        what = "data keys are dumped along with what they encrypt"
        yield note(what, "TURNMILL_KEY_STORE: another database, or a folder", code="keys_not_apart")
    if database is not None:
        yield from _sealed(examination)


def _choices(examination: Examination) -> dict[str, bool]:
    """Return what is encrypted by choice, by the setting that says so."""
    settings = examination.settings
    return {
        "TURNMILL_ENCRYPT_METADATA": settings.encrypt_metadata,
        "TURNMILL_ENCRYPT_SETTINGS": settings.encrypt_settings,
    }


def _wrapping(keys: DataKeys) -> Findings:
    from turnmill.domain.errors import DataKeyMissing

    found: dict[str, WrappedKey] = {}
    try:
        current = keys.kms.current()
        for one in islice(keys.store.ls(), _MOST):
            found.setdefault(one.wrapped_by, one)
    except DataKeyMissing as error:
        yield wrong(str(error), _FIX, code=error.code)
        return
    for name, key in sorted(found.items()):
        try:
            keys.rewrappable(key)
        except DataKeyMissing as error:
            yield wrong(str(error), _FIX, code=error.code)
        else:
            yield ok(f"{name} opens what it wraps{'; it wraps new keys' * (name == current)}")


def _sealed(examination: Examination) -> Findings:
    from turnmill.store.upkeep.resealing import progress

    assert examination.database is not None
    columns = examination.database.run(progress)
    for name, is_on in _choices(examination).items():
        column = f"sessions.{name.rpartition('_')[2].lower()}"
        if not is_on and column in [one.name for one in columns]:
            what = f"{column} is encrypted elsewhere, and plain in what is written from here"
            fix = f"{name}=on, at all clients and workers; or off, and `encryption reseal --again`"
            yield note(what, fix, code="not_chosen_here")
    left = [one for one in columns if not one.is_done]
    if left:
        what = f"{count(len(left), 'column')} may still hold what is plain, or sealed by old keys"
        yield note(what, "turnmill encryption reseal", code="not_sealed_yet")

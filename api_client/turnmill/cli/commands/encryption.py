"""`turnmill encryption`: master keys, data keys, and what is sealed by them."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli.ages import Age
from turnmill.cli.context import advise, confirm, json_option, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.domain.auditing import Action
from turnmill.domain.errors import DataKeyMissing, InvalidInput, UserNotFound
from turnmill.show.tables import print_json
from turnmill.show.wording import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnmill.crypto.data_keys import DataKeys
    from turnmill.store.database import Database

#: Between two chunks for so many times as long as one took: turns come first.
_RESTS = 1.0
_SAYS_EVERY = 10.0


@click.group("encryption", cls=CommandGroup)
def command() -> None:
    """Look after the keys of what is encrypted where it is stored; see docs/encryption.md."""


@command.command("init")
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file, for its owner only.",
)
def init(*, out: Path) -> None:
    """Write a keyring with a fresh master key. Keep a copy where no database is kept."""
    from turnmill.crypto.keyring import new_key, write_keyring

    if out.exists():
        raise InvalidInput(f"{out} is there already", hint="`turnmill encryption rotate --master`")
    write_keyring(out, [new_key("1")])
    say(f"{out} holds master key 1: TURNMILL_ENCRYPTION_KEYS={out} on clients and workers")
    say("without it nobody reads what is encrypted: keep a copy apart from databases and backups")


@command.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """List the keys that wrap data keys, how many each, and how far content is sealed."""
    from turnmill.store.upkeep.resealing import progress

    with closing(_opened()) as database:
        keys = _keys(database)
        wraps = Counter(one.wrapped_by for one in keys.store.ls())
        current = keys.kms.current()
        columns = database.run(progress)
    if as_json:
        print_json(
            {
                "current": current,
                "data_keys": dict(wraps),
                "apart": keys.store.apart,
                "columns": [one._asdict() for one in columns],
            }
        )
        return
    for name in sorted({current, *wraps}):
        mark = "  wraps new ones" if name == current else ""
        say(f"{name}: {count(wraps[name], 'data key')}{mark}")
    if not keys.store.apart:
        say("they stand in the database that is dumped: to forget one forgets no dump")
    for one in columns:
        done = "all" if one.is_done else f"{one.looked_at} so far"
        say(f"{one.name}: {done} looked at, {one.sealed} sealed anew")


@command.command("rotate")
@click.option("--master", is_flag=True, help="Add a master key to the keyring's file instead.")
@click.option("--user", metavar="ID", help="Of this user alone.")
def rotate(*, master: bool, user: str | None) -> None:
    """Seal with new data keys from now on, and seal anew what was sealed before.

    Turns go on meanwhile. It may be ended at any point: `turnmill encryption reseal`, or upkeep,
    goes on from there. What the old keys have sealed stays readable throughout.
    """
    if master and user is not None:
        raise click.UsageError("a master key is everybody's: leave out --user")
    if master:
        _add_master()
        return
    from turnmill.crypto.data_keys import HELD_SECONDS
    from turnmill.crypto.wanted import Owner
    from turnmill.store.upkeep.resealing import begin_anew

    with closing(_opened()) as database:
        keys = _keys(database)
        owners = {Owner(one.user, one.scope) for one in keys.store.ls()}
        chosen = [one for one in sorted(owners) if user is None or one.user == user]
        if user is not None and not chosen:
            raise UserNotFound("no data key is of such a user", hint="`turnmill encryption ls`")
        _write_down(database, Action.KEYS_ROTATED, user_id=user, keys=len(chosen))
        for owner in chosen:
            keys.rotate(owner)
        database.run(begin_anew)
        say(
            f"{count(len(chosen), 'data key')} made; other processes have heard of it in"
            f" {HELD_SECONDS:.0f} s"
        )
        time.sleep(HELD_SECONDS)
        _reseal(database)


@command.command("rewrap")
def rewrap() -> None:
    """Wrap every data key by the newest master key; older ones may be taken away then."""
    with closing(_opened()) as database:
        keys = _keys(database)
        known = list(keys.store.ls())
        _write_down(database, Action.KEYS_REWRAPPED, keys=len(known))
        done = sum(keys.rewrap(one) for one in known)
        left = {one.wrapped_by for one in keys.store.ls() if not one.scope} - {keys.kms.current()}
    say(f"{count(done, 'data key')} wrapped by {keys.kms.current()}")
    if left:
        raise DataKeyMissing(f"some are still wrapped by {', '.join(sorted(left))}")


@command.command("reseal")
@click.option("--again", is_flag=True, help="Look at everything from the beginning.")
def reseal(*, again: bool) -> None:
    """Seal what is plain, or sealed by a key of before; upkeep does so, too, hour by hour."""
    from turnmill.store.upkeep.resealing import begin_anew

    with closing(_opened()) as database:
        _keys(database)
        _write_down(database, Action.CONTENT_RESEALED, again=again)
        if again:
            database.run(begin_anew)
        _reseal(database)


@command.command("drop-old")
@click.option(
    "--older",
    type=Age(),
    default=timedelta(days=1),
    help="Those that newer ones have taken the place of for so long; a day at the least.",
)
@yes_option
@json_option
def drop_old(*, older: timedelta, yes: bool, as_json: bool) -> None:
    """Drop data keys that seal no more, and by which nothing that is stored is sealed.

    Every row and file is looked at. Backups of before they were rotated cannot be read then; with
    TURNMILL_KEEP_BACKUPS_DAYS, upkeep drops them by itself when no backup of that time is left.
    """
    from turnmill.actor import actor_of
    from turnmill.running_home import settings_of_home
    from turnmill.verbs.old_keys import OldKeys

    settings = settings_of_home()
    with closing(_opened()) as database:
        old = OldKeys(database, settings)
        if known := old.count():
            confirm(f"Drop up to {count(known, 'data key')}? Old backups need them.", yes=yes)
        done = old.drop(actor=actor_of(settings), older_than=older)
    if as_json:
        print_json({"dropped": done.dropped, "used": done.used, "young": done.young})
        return
    say(f"{count(done.dropped, 'data key')} dropped")
    if done.used:
        say(f"{count(done.used, 'data key')} kept: something is sealed by them; see `reseal`")
    if done.young:
        say(f"{count(done.young, 'data key')} kept: newer ones took their place too lately")


def _add_master() -> None:
    from turnmill.crypto.keyring import Keyring, new_key, write_keyring
    from turnmill.running_home import settings_of_home

    source = settings_of_home().encryption_keys
    path = Path(source)
    if not source or not path.is_file():
        raise InvalidInput(
            "no file of keys is named", hint="TURNMILL_ENCRYPTION_KEYS as the path of a file"
        )
    name = str(int(Keyring(source).current()) + 1)
    lines = path.read_text(encoding="utf-8").splitlines()
    with closing(_opened()) as database:
        _write_down(database, Action.KEYS_CREATED, keys=1)
    write_keyring(path, [*lines, new_key(name)])
    say(f"{path} holds master key {name}, which wraps new data keys from now on")
    advise("give the file to all clients and workers, then: turnmill encryption rewrap")


def _reseal(database: Database) -> None:
    from turnmill.running_home import settings_of_home
    from turnmill.store.upkeep.resealing import progress, reseal
    from turnmill.verbs.sealing_files import FilesToSeal

    files = FilesToSeal(database, settings_of_home())
    said = time.monotonic()
    steps: tuple[Callable[[], int], ...] = (partial(database.run, reseal), files.seal_next)
    for step in steps:
        while True:
            began = time.monotonic()
            if not step():
                break
            if time.monotonic() - said > _SAYS_EVERY:
                said = time.monotonic()
                say(f"{sum(one.looked_at for one in database.run(progress))} values looked at")
            time.sleep(_RESTS * (time.monotonic() - began))
    found = database.run(progress)
    say(
        f"{count(sum(one.looked_at for one in found), 'value')} looked at,"
        f" {sum(one.sealed for one in found)} sealed anew"
    )


def _write_down(
    database: Database, action: Action, *, user_id: str | None = None, **figures: int
) -> None:
    """Put into the audit log what is about to be done to keys, which stand elsewhere."""
    from turnmill.actor import actor_of
    from turnmill.running_home import settings_of_home
    from turnmill.store.nouns.audit import audited

    actor = actor_of(settings_of_home())
    database.run(audited, action, actor=actor, user_id=user_id, figures=figures)


def _keys(database: Database) -> DataKeys:
    if database.keys is None:
        raise InvalidInput(
            "nothing is encrypted here",
            hint="TURNMILL_ENCRYPTION_KEYS: `turnmill encryption init --out FILE` writes some",
        )
    return database.keys


def _opened() -> Database:
    """Return the store itself, which has to be of this version."""
    from turnmill.running_home import settings_of_home
    from turnmill.store.database import Database
    from turnmill.store.encryption import keys_for
    from turnmill.store.schema.revision import require_current

    settings = settings_of_home()
    settings.check()
    url, keys = settings.database_url, keys_for(settings)
    database = Database(url, schema=settings.schema, pool_size=2, keys=keys)
    with database.begin() as conn:
        require_current(conn, schema=database.schema)
    return database

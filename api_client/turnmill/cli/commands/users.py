"""`turnmill users`: whatever is kept of one person, exported, erased, held, looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import click

from turnmill.cli.context import confirm, json_option, open_client, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.cli.streams import typed
from turnmill.domain.errors import InvalidText, UserNotFound
from turnmill.show.deletion_view import print_deletion
from turnmill.show.listing import print_listing
from turnmill.show.tables import print_outcome
from turnmill.show.user_view import (
    ERASURES,
    HOLDS,
    print_check,
    print_export,
    print_replayed,
    progress_on_stderr,
)

T = TypeVar("T")

OK, FAILED = 0, 1  #: as the command line's exit codes are
MOST = 1000  #: of a page
_MOST_TYPED = 100_000  #: characters that are looked for

user_argument = click.argument("user", metavar="USER")


@click.group("users", cls=CommandGroup)
def command() -> None:
    """Export, erase and hold users. USER is the id that their sessions were created with."""


@command.command("export")
@user_argument
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--quiet", is_flag=True, help="Tell nothing while it is being written.")
@json_option
def export(*, user: str, path: str, quiet: bool, as_json: bool) -> None:
    """Write everything about a user into a zip file: rows, files, and what they mean."""
    with open_client() as client:
        progress = None if quiet or as_json else progress_on_stderr()
        print_export(client.users.export(user, path, progress=progress), as_json=as_json)


@command.command("erase")
@user_argument
@click.option("--reason", default="", metavar="TEXT", help="Is kept. Let it name nobody.")
@click.option(
    "--grace-days",
    type=click.FloatRange(0),
    default=0.0,
    metavar="DAYS",
    help="Nothing happens before, and `withdraw` takes it back.",
)
@yes_option
@json_option
def erase(*, user: str, reason: str, grace_days: float, yes: bool, as_json: bool) -> None:
    """Erase a user with all that is his, for good; figures stay, without the person."""
    with open_client() as client:
        confirm(f"Erase {user} with all sessions and files for good?", yes=yes)
        grace = timedelta(days=grace_days)
        print_deletion(client.users.erase(user, reason=reason, grace=grace), as_json=as_json)


@command.command("erasure")
@user_argument
@json_option
def erasure(*, user: str, as_json: bool) -> None:
    """Show what has become of a user who was erased, or is to be."""
    with open_client() as client:
        print_deletion(client.users.erasure(user), as_json=as_json)


@command.command("erasures")
@listing_options
def erasures(*, as_json: bool) -> None:
    """List all erasures, by what stands for the users; `replay-erasures` reads them as --json."""
    with open_client() as client:
        found = list(_all(client.users.erasures, lambda last: last.user_hash))
    print_listing(found, ERASURES, as_json=as_json)
    if not found:
        say("nobody was erased")


@command.command("withdraw")
@user_argument
@json_option
def withdraw(*, user: str, as_json: bool) -> None:
    """Take back an erasure whose time has not come."""
    with open_client() as client:
        done = client.users.withdraw(user)
    _refuse_unless(done, "no erasure of this id waits for its time", see="erasures")
    _tell_done("taken back", as_json=as_json)


@command.command("admit")
@user_argument
@json_option
def admit(*, user: str, as_json: bool) -> None:
    """Let somebody of this id in again who was erased."""
    with open_client() as client:
        done = client.users.admit(user)
    _refuse_unless(done, "nobody of this id was erased", see="erasures")
    _tell_done("welcome again", as_json=as_json)


@command.command("hold")
@user_argument
@click.option("--reason", required=True, metavar="TEXT", help="Why nothing may be deleted.")
@json_option
def hold(*, user: str, reason: str, as_json: bool) -> None:
    """Let nothing of a user be deleted, by nobody, until `release`: a legal hold."""
    with open_client() as client:
        print_listing([client.users.hold(user, reason=reason)], HOLDS, as_json=as_json)


@command.command("release")
@user_argument
@json_option
def release(*, user: str, as_json: bool) -> None:
    """End a hold."""
    with open_client() as client:
        done = client.users.release(user)
    _refuse_unless(done, "there is no such hold", see="holds")
    _tell_done("released", as_json=as_json)


@command.command("holds")
@listing_options
def holds(*, as_json: bool) -> None:
    """List all holds."""
    with open_client() as client:
        found = list(_all(client.users.holds, lambda last: last.user_id))
    print_listing(found, HOLDS, as_json=as_json)
    if not found:
        say("nobody is on hold")


@command.command("verify-erasure")
@user_argument
@click.option(
    "--word",
    "words",
    multiple=True,
    metavar="TEXT",
    help="That nobody else says: it is looked for in texts, too; - reads stdin, a word a line.",
)
@json_option
def verify_erasure(*, user: str, words: tuple[str, ...], as_json: bool) -> int:
    """Look for a user in all tables, files and the Redis, and tell where something is."""
    wanted = [one for word in words for one in (_typed() if word == "-" else [word])]
    with open_client() as client:
        found = client.users.verify_erasure(user, words=wanted)
    print_check(found, as_json=as_json)
    return OK if found.clean else FAILED


@command.command("replay-erasures")
@click.option(
    "--from",
    "path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Erasures as `erasures --json` has written them before.",
)
@json_option
def replay_erasures(*, path: str | None, as_json: bool) -> None:
    """Erase again, after a backup was restored, who was erased after it was made."""
    with open_client() as client:
        print_replayed(client.users.replay_erasures(path), as_json=as_json)


def _typed() -> list[str]:
    said = typed("what is looked for", most=_MOST_TYPED)
    if len(said) > _MOST_TYPED:
        raise InvalidText("too much to be looked for", hint="fewer words, and shorter ones")
    return [line for line in said.splitlines() if line]


def _all(read: Callable[..., Sequence[T]], last_of: Callable[[T], str]) -> Iterator[T]:
    page = read(limit=MOST)
    while page:
        yield from page
        page = read(after=last_of(page[-1]), limit=MOST)


def _refuse_unless(done: bool, why: str, *, see: str) -> None:
    """Raise for a command that found nothing to end: the client's verb returns False."""
    if not done:
        raise UserNotFound(why, hint=f"`turnmill users {see}` lists them")


def _tell_done(what: str, *, as_json: bool) -> None:
    print_outcome(what, {"done": True}, as_json=as_json)

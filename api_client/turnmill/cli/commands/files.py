"""`turnmill files`: what users gave beside their words, listed, looked at, fetched and deleted."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from turnmill.cli.context import confirm, json_option, open_client, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import Listed, page_options, print_page
from turnmill.domain.errors import InvalidInput
from turnmill.named_file import OURS
from turnmill.show.files_view import FILES, print_file, print_removed_file

if TYPE_CHECKING:
    from turnmill.sync.client import Client

file_argument = click.argument("file", metavar="FILE")


@click.group("files", cls=CommandGroup)
def command() -> None:
    """List, show, get and delete files that users gave. FILE is an id."""


@command.command("ls")
@click.option("--user", metavar="USER", help="Of this user only.")
@page_options("file")
def ls(*, user: str | None, limit: int, after: str | None, as_json: bool) -> None:
    """List files, newest first."""
    with open_client() as client:
        print_page(
            partial(client.attachments.list, user_id=user),
            FILES,
            find=partial(_found, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing='no such files; `turnmill send "What is this?" --attach cat.png` keeps one',
        )


@command.command("show")
@file_argument
@json_option
def show(*, file: str, as_json: bool) -> None:
    """Show what is known of a file."""
    with open_client() as client:
        print_file(client.attachments.get(file), as_json=as_json)


@command.command("get")
@file_argument
@click.option("--to", metavar="PATH", help="Write it there; a file that exists is left alone.")
def get(*, file: str, to: str | None) -> None:
    """Write a file's bytes to stdout, or to a new file."""
    with open_client() as client:
        if to is None:
            if sys.stdout.isatty():  # which would obey what is in it
                raise InvalidInput("a terminal does not show files", hint="--to PATH, or a pipe")
            _write(client, file, sys.stdout.buffer)
            return
        path = Path(to)
        try:
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OURS)
        except OSError as error:
            raise InvalidInput(
                f"cannot write there: {os.strerror(error.errno or 0)}",
                hint="name a file that is not there",
            ) from None
        try:
            with os.fdopen(made, "wb") as target:
                size = _write(client, file, target)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        say(f"{size} bytes")


@command.command("rm")
@file_argument
@yes_option
@json_option
def rm(*, file: str, yes: bool, as_json: bool) -> None:
    """Delete a file; conversations that hold it go on, and say that it is kept no longer."""
    with open_client() as client:
        found = client.attachments.get(file)
        confirm(f"Delete file {found.id} of {found.user_id} for good?", yes=yes)
        client.attachments.delete(found)
    print_removed_file(found, as_json=as_json)


def _found(client: Client, typed: str) -> Listed:
    return cast("Listed", client.attachments.get(typed))


def _write(client: Client, file: str, target: Any) -> int:
    size = 0
    for piece in client.attachments.open(file):
        target.write(piece)
        size += len(piece)
    target.flush()
    return size

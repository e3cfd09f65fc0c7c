"""The commands of the command line, as a user types them."""

from collections.abc import Iterator

import click


def leaves(command: click.Command, *path: str) -> Iterator[str]:
    """Yield the whole name of each command that does something; `path` is what stands before."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, *path, name)

"""Commands of commands, which list what each of them does in a whole sentence."""

from __future__ import annotations

import click

_LONGEST = 1_000  #: letters: more than any sentence has


class CommandGroup(click.Group):
    """Lists its commands as click does, which cuts what does not fit into one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its first sentence."""
        found = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        rows = [
            (one.name or "", one.get_short_help_str(_LONGEST))
            for one in found
            if one is not None and not one.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

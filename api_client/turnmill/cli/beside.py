"""Options that say nothing beside others: a command refuses them, and ignores none."""

from __future__ import annotations

import click
from click.core import ParameterSource


def refuse_beside(option: str, *others: str, why: str) -> None:
    """Raise UsageError where one of `others`, by their names as parameters, was typed beside it.

    What has a default, or comes from the environment, was not.
    """
    typed = [_as_typed(name) for name in others if is_typed(name)]
    if typed:
        raise click.UsageError(f"{' and '.join(typed)} cannot stand beside {option}: {why}")


def is_typed(name: str) -> bool:
    """Tell whether a parameter of the command was typed."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _as_typed(name: str) -> str:
    of = next(one for one in click.get_current_context().command.params if one.name == name)
    if of.secondary_opts and not click.get_current_context().params[name]:
        return of.secondary_opts[-1]
    return of.opts[-1]

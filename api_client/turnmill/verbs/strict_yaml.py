"""YAML without what surprises: no tags, no aliases, and no key twice. Needs PyYAML."""

from typing import Any

import yaml


class Malformed(ValueError):
    """It is no YAML that means one thing; the message says where, and quotes nothing."""


class _Strict(yaml.SafeLoader):
    """Refuses what expands into more than was written, and what hides what was written."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: a few lines of them can stand for gigabytes."""
        if self.check_event(yaml.events.AliasEvent):
            raise Malformed(f"an alias at {_where(_next_mark(self))}: write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that stands there twice: the first one would be lost."""
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                what = "a key twice" if isinstance(name, str) else "a key that is no text"
                raise Malformed(f"{what} at {_where(key.start_mark)}")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


# A date is a text here: JSON has none.
_Strict.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(content: bytes) -> Any:
    """Return what one document says; raises Malformed."""
    try:
        return yaml.load(content.decode(), Loader=_Strict)
    except UnicodeDecodeError as error:
        raise Malformed(f"no UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Malformed(f"no YAML at {_where(mark)}" if mark else "no YAML") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise error if isinstance(error, Malformed) else Malformed("no YAML") from None


def _next_mark(loader: Any) -> Any:
    return loader.peek_event().start_mark


def _where(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"

"""Templates in files: a folder of YAML, one template a file, so that they live in git."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from turnmill.domain.bounds import MOST_TEMPLATE_FILES, TEMPLATE_FILE_BYTES
from turnmill.domain.errors import InvalidInput, MissingExtra
from turnmill.store.template_records import NewTemplate
from turnmill.verbs.batch_files.sources import path_of
from turnmill.verbs.templates import OPTIONS, SPANS, new_template

_SUFFIXES = frozenset({".yaml", ".yml"})
_MOST_PROBLEMS = 20
_HINT = "nothing was put; each file is a mapping of what `templates.put` takes"


def templates_in(folder: object, *, max_text_bytes: int) -> list[NewTemplate]:
    """Return what the files of a folder say, by name. Raises InvalidInput for all that is wrong.

    A file is named as its template. Others than `.yaml` and `.yml` are left alone, as are hidden
    ones.
    """
    found: dict[str, NewTemplate] = {}
    problems: list[str] = []
    for path in _files(folder):
        try:
            one = _read(path, max_text_bytes=max_text_bytes)
            if one.name in found:
                raise InvalidInput("another file has the same name", hint=_HINT)
            found[one.name] = one
        except InvalidInput as error:
            problems.append(f"{_shown(path)}: {error}")
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        shown = "; ".join(problems[:_MOST_PROBLEMS])
        raise InvalidInput(f"{shown}; and {more} more" if more > 0 else shown, hint=_HINT)
    return list(found.values())


def _files(folder: object) -> list[Path]:
    if not isinstance(folder, str | Path):
        raise InvalidInput("folder must be a path", hint="or set TURNMILL_TEMPLATES")
    try:
        paths = sorted(one for one in path_of(folder).iterdir() if _is_wanted(one))
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        raise InvalidInput(what, hint="the path of a folder with .yaml files") from None
    except ValueError:
        raise InvalidInput("no folder has such a name", hint="or set TURNMILL_TEMPLATES") from None
    if len(paths) > MOST_TEMPLATE_FILES:
        raise InvalidInput(f"the folder has more than {MOST_TEMPLATE_FILES} files", hint="too many")
    return paths


def _is_wanted(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.name.startswith(".")


def _read(path: Path, *, max_text_bytes: int) -> NewTemplate:
    said = _loaded(path)
    if not isinstance(said, Mapping) or not all(isinstance(name, str) for name in said):
        raise InvalidInput("no mapping of names to what they stand for", hint=_HINT)
    if unknown := sorted(set(said) - OPTIONS):
        raise InvalidInput(
            f"there is no {', '.join(unknown)[:100]}; known: {', '.join(sorted(OPTIONS))}",
            hint=_HINT,
        )
    given = dict(said)
    for span in SPANS:
        if isinstance(seconds := given.get(span), int) and not isinstance(seconds, bool):
            given[span] = _seconds(seconds, name=span)
    return new_template(path.stem, max_text_bytes=max_text_bytes, **given)


def _seconds(value: int, *, name: str) -> timedelta:
    try:
        return timedelta(seconds=value)
    except OverflowError:
        raise InvalidInput(f"{name} is longer than anybody waits", hint=_HINT) from None


def _loaded(path: Path) -> Any:
    try:
        from turnmill.verbs.strict_yaml import Malformed, load  # noqa: PLC0415  an extra
    except ImportError:
        raise MissingExtra(
            "templates in files need PyYAML", hint="pip install 'turnmill[templates]'"
        ) from None
    try:
        with path.open("rb") as file:
            content = file.read(TEMPLATE_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", hint=_HINT) from None
    if len(content) > TEMPLATE_FILE_BYTES:
        raise InvalidInput(f"longer than {TEMPLATE_FILE_BYTES} bytes", hint=_HINT)
    try:
        return load(content)
    except Malformed as error:
        raise InvalidInput(str(error), hint=_HINT) from None


def _shown(path: Path) -> str:
    """Return the name of the file as it may be printed: names of files are bytes."""
    return "".join(c if c.isprintable() else "_" for c in path.name)[:100]

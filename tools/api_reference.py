"""Write docs/api.md from the docstrings: `python tools/api_reference.py`, or --check it.

griffe reads the source, and what is said after `#:`; here it is put in order and set as Markdown.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path

import griffe

import turnmill
from turnmill import TurnmillError

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "api.md"

_INTRO = """\
# API reference

Everything that an application may rely on, made from the docstrings by `make docs`. All names of
the first sections are imported from `turnmill`. What `Client` does for threads, `AsyncClient` does
on an event loop, with the same verbs, options and errors: each call is awaited, iterators are
asynchronous. A session is named by its record, its id, or its key (`SessionRef`); ids are UUIDs."""
_CLIENT = (
    "Client",
    "Sessions",
    "Turns",
    "Turn",
    "Batches",
    "Batch",
    "Events",
    "Lanes",
    "Analytics",
)
_SETTINGS = ("Settings", "Profile")
_PORT = "turnmill_worker.providers.port"

Section = tuple[str, list[griffe.Object]]


def sections() -> list[Section]:
    """Return every public thing, in the order in which it is read."""
    loader = griffe.GriffeLoader(
        search_paths=[ROOT / "api_client", ROOT / "worker"],
        extensions=griffe.load_extensions("griffe_sphinx"),
    )
    client, worker = loader.load("turnmill"), loader.load("turnmill_worker")
    loader.resolve_aliases()
    public = {name: _target(client[name]) for name in turnmill.__all__}
    twins = [f"Async{name}" for name in _CLIENT]
    every = {name: getattr(turnmill, name) for name in public}
    classes = {name: one for name, one in every.items() if isinstance(one, type)}
    content_path = "turnmill.domain.content"
    errors = [name for name, one in classes.items() if issubclass(one, TurnmillError)]
    words = [name for name, one in classes.items() if issubclass(one, Enum)]
    content = [name for name in public if public[name].module.path == content_path]
    named = {*_CLIENT, *twins, *_SETTINGS, *errors, *words, *content}
    groups: list[tuple[str, Iterable[str]]] = [
        ("The client", _CLIENT),
        ("The client for asyncio", twins),
        ("What verbs return", [name for name in public if name not in named]),
        ("Content: what is said", content),
        ("Words", [name for name in words if name not in _SETTINGS]),
        ("Settings", _SETTINGS),
        ("Errors", errors),
    ]
    found: list[Section] = [(title, [public[name] for name in names]) for title, names in groups]
    found.append(("Testing an application: `turnmill.testing`", _own(client["testing"])))
    port = _target(worker[_PORT.partition(".")[2]])
    found.append((f"Writing a provider: `{_PORT}`", _own(port)))
    observer = _target(worker["observers.port"])
    found.append(("Writing an observer: `turnmill_worker.observers`", _own(observer)))
    contract = _target(client["testing.provider_contract.ProviderContract"])
    rig = [one for one in _own(client["testing.provider_rig"]) if not one.is_attribute]
    title = "Testing a provider: `turnmill.testing.provider_contract` and `provider_rig`"
    found.append((title, [contract, *rig]))
    return found


def _target(one: griffe.Object | griffe.Alias) -> griffe.Object:
    return one.final_target if isinstance(one, griffe.Alias) else one


def _own(of: griffe.Object | griffe.Alias) -> list[griffe.Object]:
    """Return what a module or class defines for others to use, a class's parts included."""
    inherited = of.inherited_members if isinstance(of, griffe.Class) and _is_in_parts(of) else {}
    return [
        one
        for name, one in [*of.members.items(), *((n, _target(one)) for n, one in inherited.items())]
        if isinstance(one, griffe.Object)
        and not name.startswith(("_", "test_"))
        and not one.is_module
        and _is_said(one)
    ]


def _is_in_parts(one: griffe.Class) -> bool:
    """Tell whether it is a client's class: what it is made of stands in modules beside it."""
    return one.module.path.startswith(("turnmill.aio.", "turnmill.sync."))


def _is_said(one: griffe.Object) -> bool:
    """Tell whether it is for readers: what `__init__` sets is, where it says so."""
    if not isinstance(one, griffe.Attribute):
        return True
    in_module = one.parent is not None and one.parent.is_module
    return bool(one.docstring or one.annotation or in_module)


def page() -> str:
    """Return the whole page."""
    found = sections()
    contents = "\n".join(f"- [{_plain(title)}](#{_anchor(title)})" for title, _ in found)
    parts = [_INTRO, contents]
    for title, objects in found:
        parts.append(f"## {title}")
        entry = _error if title == "Errors" else _twin if "asyncio" in title else _entry
        parts.extend(line for one in objects for line in entry(one) if line)
    return _with_signatures("\n\n".join(parts) + "\n")


def _plain(title: str) -> str:
    return title.replace("`", "")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _entry(one: griffe.Object) -> Iterator[str]:
    yield f"### {one.name}"
    if not one.is_class:
        yield _signature(one)
        yield _text(one)
        return
    made = one.members.get("__init__")
    if made is not None and made.docstring:  # by users: handles come from a client
        yield _signature(made, name=one.name)
        yield _text(one)
        yield _text(made)
    else:
        yield _text(one)
    every = {name: _target(each) for name, each in one.all_members.items() if name[0] != "_"}
    fields = [each for each in every.values() if each.is_attribute and _is_said(each)]
    if fields:
        yield "\n".join(map(_field, fields))
    for each in _own(one):
        if not each.is_attribute:
            yield f"#### {one.name}.{each.name}"
            yield _signature(each)
            yield _text(each)


def _field(one: griffe.Object) -> str:
    assert isinstance(one, griffe.Attribute)
    kind = "" if one.annotation is None else f": {one.annotation}"
    value = re.sub(r"field\(default_factory=(\w+)\)", r"\1()", str(one.value))
    told = one.value is not None and "class-attribute" in one.labels  # not what `__init__` does
    said = " ".join(_text(one).split())
    return f"- `{one.name}{kind}{f' = {value}' if told else ''}`" + (f" · {said}" if said else "")


def _twin(one: griffe.Object) -> Iterator[str]:
    """Yield what differs from the class for threads: what is awaited."""
    name = one.name.removeprefix("Async")
    yield f"### {one.name}"
    yield f"[`{name}`](#{name.lower()}) for asyncio."
    yield from (_signature(each) for each in _own(one) if not each.is_attribute)


def _error(one: griffe.Object) -> Iterator[str]:
    each = getattr(turnmill, one.name)
    bases = ", ".join(f"`{base.__name__}`" for base in each.__bases__)
    yield f"### {one.name}"
    yield f"`{each.code}`, a kind of {bases}. {_text(one)}"


def _text(one: griffe.Object | griffe.Alias) -> str:
    return "" if one.docstring is None else one.docstring.value.strip()


def _signature(one: griffe.Object | griffe.Alias, *, name: str = "") -> str:
    """Return a block that `_with_signatures` sets."""
    if isinstance(one, griffe.Attribute):  # an alias of a type
        return f"```python\n{one.name} = {one.value}\n```"
    assert isinstance(one, griffe.Function)
    head = "async def" if "async" in one.labels else "def"
    given = [each for each in one.parameters if each.name not in ("self", "cls")]
    shown, bare = [], True
    for each in given:
        if each.kind is griffe.ParameterKind.keyword_only and bare:
            shown.append("*")
            bare = False
        shown.append(_parameter(each))
    returned = "" if name or one.returns is None else f" -> {one.returns}"
    return f"```python\n{head} {name or one.name}({', '.join(shown)}){returned}: ...\n```"


def _parameter(one: griffe.Parameter) -> str:
    annotation = "" if one.annotation is None else f": {one.annotation}"
    if one.kind is griffe.ParameterKind.var_keyword:
        return f"**{one.name}{annotation}"
    return f"{one.name}{annotation}{'' if one.default is None else f' = {one.default}'}"


def _with_signatures(text: str) -> str:
    """Let ruff set the signatures: an option on each line where they are long."""
    blocks = re.findall(r"^```python\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    mark = "\n# <- a block ends here\n"
    command = [sys.executable, "-m", "ruff", "format", "--line-length=96", "--stdin-filename=a.py"]
    done = subprocess.run(
        [*command, "-"],
        input=mark.join(blocks),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    finished = iter(done.stdout.split(mark.strip()))
    return re.sub(
        r"^```python\n.*?\n```$",
        lambda _: f"```python\n{_as_stub(next(finished))}\n```",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


def _as_stub(block: str) -> str:
    return re.sub(r": \.\.\.$", "", block.strip())


def main() -> int:
    """Write the page; with --check, only tell whether it is up to date, and return 1 if not."""
    wanted = page()
    if "--check" not in sys.argv:
        TARGET.write_text(wanted, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{TARGET.relative_to(ROOT)} is not what `make docs` makes of the docstrings")
    return 1


if __name__ == "__main__":
    sys.exit(main())

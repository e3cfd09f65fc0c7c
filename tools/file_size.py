"""Hold the project to the bounds in pyproject.toml: on a file's length, and on a function's."""

import ast
import sys
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("api_client", "worker", "tests", "tools", "benchmarks", "examples")
PRODUCT = ("api_client", "worker")


def too_long(bound: int, *, longer: Collection[str]) -> list[str]:
    """Return one line for each file of more than `bound` lines, but for those that may be."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            name = path.relative_to(ROOT).as_posix()
            if lines > bound and name not in longer:
                found.append(f"{name}: {lines} lines, {bound} allowed")
    return found


def long_functions(bound: int) -> list[str]:
    """Return one line for each function of the product whose body has more than `bound` lines.

    Its parameters and its docstring are what its readers need to call it, and are not counted.
    Nor are migrations, which say what tables were then.
    """
    found = []
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                name = path.relative_to(ROOT).as_posix()
                found += [
                    f"{name}: {function} has {lines} lines, {bound} allowed"
                    for function, lines in _bodies(path.read_text(encoding="utf-8"))
                    if lines > bound
                ]
    return found


def _bodies(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield node.name, (node.end_lineno or 0) - body[0].lineno + 1


def main() -> int:
    """Print what is too long; 1 when there is any."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        rules = tomllib.load(file)["tool"]["turnmill"]
    found = too_long(rules["max-lines"], longer=rules["longer"])
    found += long_functions(rules["max-function-lines"])
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

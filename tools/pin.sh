#!/usr/bin/env bash
# Write constraints/*.txt: every package at one version, with the hashes of all files of its release,
# for CPython 3.11 to 3.14 on Linux and macOS. Usage: tools/pin.sh PYTHON [--upgrade]
set -euo pipefail

python=$1
shift
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" -m venv "$folder"
    "$folder/bin/pip" --disable-pip-version-check --quiet install uv
    uv=$folder/bin/uv
fi

pin() {
    target=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --output-file "$target" "$@"
    echo "$target: $(grep -c '==' "$target") packages"
}

# The larger set first; the smaller ones are parts of it, at the same versions.
pin constraints/dev.txt pyproject.toml --all-extras --group dev "$@"
pin constraints/worker.txt pyproject.toml --extra worker --constraint constraints/dev.txt
pin constraints/build.txt --group build --constraint constraints/dev.txt

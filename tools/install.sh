#!/usr/bin/env bash
# Make a virtual environment that holds Turnmill and all that it needs, at pinned versions.
# Usage: tools/install.sh PYTHON FOLDER
set -euo pipefail

python=$1
venv=$2

"$python" - <<'CHECK'
import sys
if sys.version_info < (3, 11):
    sys.exit(
        "Turnmill needs Python 3.11 or newer, and %s is %d.%d: make PYTHON=python3.11 ..."
        % ((sys.executable,) + sys.version_info[:2])
    )
CHECK

# One that works is brought up to date; an unfinished or broken one is made anew.
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    fresh=false
else
    fresh=true
fi

if command -v uv >/dev/null; then
    echo "Installing into $venv with uv" >&2
    $fresh && uv venv --quiet --clear --python "$python" "$venv"
    install=(uv pip install --quiet --python "$venv/bin/python")
else
    echo "Installing into $venv with pip: half a minute the first time" >&2
    $fresh && "$python" -m venv --clear "$venv"
    # Byte code is made below, by all cores at once.
    install=("$venv/bin/python" -m pip --disable-pip-version-check --quiet --quiet install --no-compile)
    # A newer pip first: it reads the pages of large projects in half the time.
    "${install[@]}" --no-deps --require-hashes --requirement constraints/build.txt
fi

"${install[@]}" --no-deps --require-hashes --requirement constraints/dev.txt
# Turnmill itself comes from this folder and has no hash. Its build needs nothing but the pinned
# setuptools, so nothing else is fetched for it.
"${install[@]}" --no-deps --no-build-isolation --editable .
# Each of the system's processes would compile what it imports for itself: seconds at every start,
# and at every one of them where PYTHONDONTWRITEBYTECODE is set. Large tools that no process of the
# system imports are left out.
"$venv/bin/python" -m compileall -q -j 0 -x '/(debugpy|docker|hypothesis|mypy|pip|setuptools)/' \
    "$venv"/lib/python3*/site-packages api_client worker >/dev/null || true

"""A pytest plugin that runs any test on a broken protocol.

TURNMILL_MUTANT=no_fence python -m pytest -p tests.mutants.plugin tests/integration/…
"""

import os
from collections.abc import Iterator

import pytest

from tests.mutants.table import MUTANTS


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Leave the rule out for the whole run."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[os.environ["TURNMILL_MUTANT"]].breaks(patch)
        return (yield)

"""The benchmark of a cache of sessions compares what it says."""

from benchmarks.session_cache import WITHOUT
from turnmill.store.postgres import claiming


def test_the_claim_without_prompt_and_settings_differs_by_these_alone() -> None:
    whole = claiming._CLAIM_BY_IDS[False]
    assert "session.system_prompt" in whole
    assert "session.system_prompt" not in WITHOUT
    assert "session.settings," not in WITHOUT
    assert len(whole.splitlines()) == len(WITHOUT.splitlines())

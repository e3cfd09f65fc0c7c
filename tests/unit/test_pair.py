"""Two versions in one run: what is compared, and what cannot be."""

import pytest

from benchmarks import pair


def test_a_ratio_is_that_of_a_round__and_a_version_stands_beside_itself() -> None:
    rounds = [
        {"base": {"CPU": base}, "this": {"CPU": this}, "again": {"CPU": again}}
        for base, this, again in ((1.0, 1.2, 1.1), (2.0, 2.2, 1.8), (4.0, 4.4, 4.0))
    ]
    (figures,) = pair.compared(rounds).values()
    assert figures == {
        "base": 2.0,
        "this": 2.2,
        "ratio": {"median": 1.1, "least": 1.1, "most": 1.2},
        "itself": {"median": 1.0, "least": 0.9, "most": 1.1},
    }
    assert "1.10 [1.10 … 1.20] !" in pair.table("abc", pair.compared(rounds))


@pytest.mark.parametrize("name", ["", "nothing-of-this-name", "HEAD-dirty", "--help"])
def test_a_base_that_is_no_commit_ends_with_words(name: str) -> None:
    with pytest.raises(SystemExit, match="no commit of this repository"):
        pair.commit_of(name)


def test_a_commit_has_many_names() -> None:
    assert pair.commit_of("HEAD") == pair.commit_of(pair.commit_of("HEAD")[:12])

"""For how long an account is left alone that has said later, or never."""

from datetime import timedelta

#: Without a word of the vendor's: longer with each time in a row.
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=2)
#: Of what somebody has to set right: a quota, a bill, a key.
FIRST_LOOK = timedelta(minutes=1)
LATEST_LOOK = timedelta(hours=1)
#: Of a model that hangs, or has failed many times in a row.
FIRST_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(minutes=2)
#: The longest wait that a vendor may ask for.
OBEYED = timedelta(days=1)

#: Between an account's digits and a tier of service, where that alone is closed.
TIER = "/"

_DOUBLINGS = 20


def tier_in(account: str) -> str:
    """Return the tier that an account is closed for, as its row names it; "": all of them."""
    return account.partition(TIER)[2]


def wait_for(retry_after: timedelta | None, *, times: int, permanent: bool) -> timedelta:
    """Return how long nobody is to call, the `times`-th time in a row that it was refused."""
    grown = (
        _grown(FIRST_LOOK, LATEST_LOOK, times=times)
        if permanent
        else _grown(FIRST_WAIT, LONGEST_WAIT, times=times)
    )
    if retry_after is None:
        return grown
    asked = min(max(retry_after, timedelta(0)), OBEYED)
    return max(asked, grown) if permanent else asked


def rest(times: int) -> timedelta:
    """Return how long a breaker stays open, the `times`-th time in a row."""
    return _grown(FIRST_REST, LONGEST_REST, times=times)


def _grown(first: timedelta, longest: timedelta, *, times: int) -> timedelta:
    doubled: timedelta = first * 2 ** min(max(times - 1, 0), _DOUBLINGS)
    return min(doubled, longest)

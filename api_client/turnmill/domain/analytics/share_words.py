"""How a share is told: what is more than nothing, or less than all, never reads as these."""

_MOST_DIGITS = 6


def share_words(share: float, *, digits: int = 1) -> str:
    """Return `1.8 %`, with more `digits` where it would read as 0 % or 100 % and is not that."""
    said = f"{share * 100:.{digits}f}"
    while digits < _MOST_DIGITS and share not in (0, 1) and abs(float(said)) in (0, 100):
        digits += 1
        said = f"{share * 100:.{digits}f}"
    return f"{said} %"

"""What holds connections stays in its process, and is one however often what holds it is copied."""

from typing import Any, Never, Self

from turnmill.domain.errors import InvalidInput


class Staying:
    """Is shared by copies of what holds it, and is not handed to other processes."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this one: a copy of a handle goes on with the same client."""
        return self

    def __reduce__(self) -> Never:
        """Raise InvalidInput, where a pickle would say which of our parts it cannot take."""
        raise InvalidInput(
            "a client is not pickled, nor is a turn or batch that was got from it",
            hint="hand on its id, and make a client in the other process",
        )

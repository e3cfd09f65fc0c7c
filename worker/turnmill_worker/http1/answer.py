"""What came back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple


class Headers(Mapping[str, str]):
    """Header fields as they came; asked for in any case, and decoded only then."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """`fields` have names in lower case, in the order in which they came."""
        self._fields = fields

    def all_of(self, name: str) -> list[str]:
        """Return every value of a field that may come several times."""
        wanted = name.lower().encode()
        return [_decoded(value) for field, value in self._fields if field == wanted]

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode()
        for field, value in self._fields:
            if field == wanted:
                return _decoded(value)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(_decoded(field) for field, _ in self._fields))

    def __len__(self) -> int:
        return len({field for field, _ in self._fields})


class Answer(NamedTuple):
    """One answer, read to its end; a refusal perhaps only as far as was wanted."""

    status: int
    headers: Headers
    body: bytes  #: as it came, packed or not
    framed: bool  #: False: the server hung up, and only that said that this is the end

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, <{len(self.body)} bytes>)"  # never what was said


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")

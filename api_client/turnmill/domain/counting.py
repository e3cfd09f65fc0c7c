"""How many tokens words are at the most, whoever counts them."""

from collections.abc import Callable, Iterable, Sequence

from turnmill.domain.content import Attached, Message, strings_of

#: Tokens that vendors put around a message, around a tool or a form, and before all of these.
OF_MESSAGE, OF_TOOL, OF_TOOLS = 16, 32, 1024

#: Returns how many tokens an attachment is at the most; None where nobody knows beforehand.
Counted = Callable[[Attached], int | None]


class TokenCount(int):
    """A number of tokens; `exact` where the vendor has counted them, else there are no more."""

    exact: bool

    def __new__(cls, tokens: int, *, exact: bool) -> "TokenCount":
        """Return the number, and how it was found."""
        made = super().__new__(cls, tokens)
        made.exact = exact
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, bool]]:
        """Tell what a copy of it is made of, in this process or in another."""
        return (int(self),), {"exact": self.exact}


def most_tokens(
    messages: Sequence[Message],
    *,
    others: Iterable[str] = (),
    tools: int = 0,
    counted: Counted | None = None,
) -> int | None:
    """Return how many tokens these are at the most; None where there is what nobody can count.

    One for each byte of UTF-8: no tokeniser of bytes makes more. `others` are texts that are sent
    beside the messages, those of so many `tools` included; `counted` knows what is attached. For
    English prose it is four to five times as many as there are, for other scripts two to three.
    """
    parts = [part for message in messages for part in message.parts]
    size = bytes_of("".join(others))
    for part in parts:
        if isinstance(part, Attached):
            seen = None if counted is None else counted(part)
            if seen is None:
                return None
            size += seen + bytes_of(getattr(part, "name", ""))
        else:
            size += sum(map(bytes_of, strings_of(part)))
    around = OF_MESSAGE * (len(messages) + len(parts) + 1)
    return size + around + (OF_TOOLS + OF_TOOL * tools if tools else 0)


def bytes_of(text: str) -> int:
    """Return how many bytes of UTF-8 a text is."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))

"""How many tokens words are at the most, whoever counts them."""

from collections.abc import Iterable, Sequence

from turnmill.domain.content import Audio, File, Image, Message, strings_of

#: Tokens that vendors put around a message, around a tool or a form, and before all of these.
OF_MESSAGE, OF_TOOL, OF_TOOLS = 16, 32, 1024

#: Nobody knows beforehand what they take.
_UNSEEN = (Image, File, Audio)


class TokenCount(int):
    """A number of tokens; `exact` where the vendor has counted them, else there are no more."""

    exact: bool

    def __new__(cls, tokens: int, *, exact: bool) -> "TokenCount":
        """Return the number, and how it was found."""
        made = super().__new__(cls, tokens)
        made.exact = exact
        return made


def most_tokens(
    messages: Sequence[Message], *, others: Iterable[str] = (), tools: int = 0
) -> int | None:
    """Return how many tokens these are at the most; None where there is what nobody can count.

    One for each byte of UTF-8: no tokeniser of bytes makes more. `others` are texts that are sent
    beside the messages, those of so many `tools` included. For English prose it is four to five
    times as many as there are, for other scripts two to three times.
    """
    parts = [part for message in messages for part in message.parts]
    if any(isinstance(part, _UNSEEN) for part in parts):
        return None
    size = sum(bytes_of(text) for part in parts for text in strings_of(part))
    size += sum(map(bytes_of, others))
    around = OF_MESSAGE * (len(messages) + len(parts) + 1)
    return size + around + (OF_TOOLS + OF_TOOL * tools if tools else 0)


def bytes_of(text: str) -> int:
    """Return how many bytes of UTF-8 a text is."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))

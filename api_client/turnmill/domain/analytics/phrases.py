"""What people say who thank, correct, give up or are delighted: a few words of some languages."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from unicodedata import normalize


class Sign(StrEnum):
    """What a message is a sign of; it may be of several, or of none."""

    THANKS = "thanks"
    CORRECTION = "correction"  #: what was answered is not what was meant
    GIVING_UP = "giving_up"
    DELIGHT = "delight"
    QUESTION = "question"


# Of English alone it is measured what they are worth. The others are translations.
_PHRASES: Mapping[Sign, str] = MappingProxyType(
    {
        Sign.THANKS: """
            thanks|thank you|thank u|thx|ty|cheers|appreciate|much obliged|helpful
            danke|vielen dank|merci|gracias|grazie|obrigad[oa]|bedankt|dank je
            dziękuję|dzięki|tack|спасибо|teşekkürler|شكرا|धन्यवाद
        """,
        Sign.CORRECTION: """
            i meant|i mean|that'?s not|that is not|not what i|wrong|incorrect|makes? no sense
            what do you mean|i (already )?(said|told you)|try again|not true
            ich meinte?|das ist falsch|stimmt nicht|nicht das|je voulais dire|c'est faux
            ce n'est pas|quise decir|no es eso|incorrecto|volevo dire|sbagliato|quis dizer
            errado|ik bedoel|klopt niet|fout|nieprawda|неправильно|я имел в виду
        """,
        Sign.GIVING_UP: """
            never ?mind|forget it|forget about it|whatever|useless|give up|waste of time|boring
            are you (even )?(still )?(there|here)|anybody there|anyone there|hello\\?
            vergiss es|egal|sinnlos|laisse tomber|peu importe|inutile|olvídalo|da igual|inútil
            lascia stare|esquece|laat maar|zostaw|неважно|забудь
        """,
        Sign.DELIGHT: """
            ha(?:ha)+h?|he(?:he)+|lo+l|lmao|rofl|awesome|great|cool|nice|love|wow|amazing
            wonderful|perfect|excellent|funny|exactly|haha
            super|toll|genial|wunderbar|génial|parfait|perfecto|genial|increíble|perfetto
            ótimo|perfeito|geweldig|świetnie|отлично|супер|j(?:aj)+a?|kk+k
        """,
    }
)
#: In scripts that leave no room between words.
_JOINED: Mapping[Sign, str] = MappingProxyType(
    {
        Sign.THANKS: "谢谢|謝謝|感谢|ありがと|감사|고마워",
        Sign.CORRECTION: "不对|不對|错了|錯了|我的意思|違う|違います|そうじゃな|아니요|틀렸",
        Sign.GIVING_UP: "算了|没用|もういい|諦め|됐어",
        Sign.DELIGHT: "太好了|哈哈|棒|すごい|笑|最高|좋아|ㅋㅋ|!|！",
        Sign.QUESTION: r"\?|？|؟|;(?=\s*$)",
    }
)
#: What is read of one message: whoever sends a book says in it what he says in its beginning.
READ = 4_000


def _pattern(sign: Sign) -> re.Pattern[str]:
    spoken = "|".join(line.strip() for line in _PHRASES.get(sign, "").split("\n") if line.strip())
    words = rf"(?<!\w)(?:{spoken})(?!\w)" if spoken else ""
    return re.compile("|".join(filter(None, (words, _JOINED[sign]))), re.IGNORECASE)


_PATTERNS: Mapping[Sign, re.Pattern[str]] = MappingProxyType(
    {sign: _pattern(sign) for sign in Sign}
)
_WORD = re.compile(r"\w+")
#: Scripts without spaces: about two characters are a word of theirs.
_UNSPACED = re.compile(
    "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def signs_in(text: str) -> frozenset[Sign]:
    """Return what the message is a sign of."""
    beginning = _as_written(text)
    return frozenset(sign for sign, pattern in _PATTERNS.items() if pattern.search(beginning))


def _as_written(text: str) -> str:
    """Return its beginning as phrases are written.

    Phones set other apostrophes, and some systems write a letter and its accent apart.
    """
    return normalize("NFC", text[:READ]).replace("\u2019", "'")


def words_in(text: str) -> list[str]:
    """Return the words of a message, folded; in scripts without spaces, pairs of signs."""
    beginning = _as_written(text).casefold()
    found: list[str] = []
    for word in _WORD.findall(beginning):
        if _UNSPACED.search(word):
            found += [word[at : at + 2] for at in range(0, len(word), 2)]
        else:
            found.append(word)
    return found

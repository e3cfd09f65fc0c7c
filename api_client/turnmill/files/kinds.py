"""What a file is, by its bytes: those kinds that are taken, and a name for all others."""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from turnmill.domain.errors import AttachmentRefused
from turnmill.files.pictures import Size, gif_ends_at, gif_size, jpeg_size, png_size, webp_size
from turnmill.files.tracks import TrackCheck, shows_pictures, sounds

#: So much of a file is looked at before a byte of it is kept: all headers of pictures are in it.
HEAD = 512 * 1024
#: So much of its end.
TAIL = 66 * 1024

#: Of a picture: no decoder is to be handed more.
MOST_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that is taken."""

    media_type: str
    is_it: Callable[[bytes], bool]  #: by its first bytes
    size: Callable[[bytes], Size | None] | None = None  #: of a picture, by its header
    #: by its first and last bytes, and how many there are: whether it is whole, and nothing else
    is_whole: Callable[[bytes, bytes, int], bool] = lambda *_: True


def _begins(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _riff_is_whole(head: bytes, _: bytes, size: int) -> bool:
    told = int.from_bytes(head[4:8], "little") + 8
    # A writer that did not know the length yet leaves 0 or the largest number there.
    return size in (told, told + 1) or told in (8, 0xFFFFFFFF + 8)


def _webp_is_whole(head: bytes, _: bytes, size: int) -> bool:
    told = int.from_bytes(head[4:8], "little") + 8
    return size in (told, told + 1)


def _gif_is_whole(head: bytes, tail: bytes, size: int) -> bool:
    if size > len(head):
        return tail.rstrip(b"\0")[-1:] == b";"
    end = gif_ends_at(head)
    return end > 0 and not head[end:].strip(b"\0")


def _is_ogg(head: bytes) -> bool:
    return head[:5] == b"OggS\0" and b"\x80theora" not in head[:4096]


def _is_mp3(head: bytes) -> bool:
    if head[:3] == b"ID3":  # a version that exists, and a length in bytes of seven bits
        return len(head) >= 10 and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80
    # A frame: eleven bits, a version and a layer that exist, a rate and a frequency that are known.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return (
        head[1] & 0x18 != 0x08
        and head[1] & 0x06 == 0x02
        and head[2] >> 4 not in (0, 15)
        and head[2] & 0x0C != 0x0C
    )


def _is_webm_audio(head: bytes) -> bool:
    is_webm = head[:4] == b"\x1a\x45\xdf\xa3" and b"webm" in head[:64]
    return is_webm and b"A_" in head and b"V_" not in head


#: How those begin that are sound alone.
_SOUND_ALONE = (b"M4A ", b"M4B ")
#: How phones and browsers begin what may be a video, or sound alone.
_EITHER = (b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"dash", b"3gp4", b"3gp5")


def _is_m4a(head: bytes) -> bool:
    if head[4:8] != b"ftyp" or shows_pictures(head):
        return False
    # Of one that is longer, the rest tells: `track_check`.
    return _says_sound(head) or (head[8:12] in _EITHER and (len(head) >= HEAD or sounds(head)))


def _says_sound(head: bytes) -> bool:
    """Tell whether an MP4 that begins so calls itself sound alone."""
    return head[8:12] in _SOUND_ALONE


def track_check(kind: Kind, head: bytes) -> TrackCheck | None:
    """Return what an MP4 is held to while it passes; None of any other kind."""
    if kind.media_type != "audio/mp4":
        return None
    return TrackCheck(says_sound=_says_sound(head))


#: What is taken. Pictures end where they say they end: whatever comes behind is somebody's trick.
KINDS: tuple[Kind, ...] = (
    Kind(
        "image/png",
        _begins(b"\x89PNG\r\n\x1a\n"),
        png_size,
        lambda head, tail, size: tail[-12:-4] == b"\0\0\0\0IEND",
    ),
    Kind(
        "image/jpeg", _begins(b"\xff\xd8\xff"), jpeg_size, lambda _, tail, __: b"\xff\xd9" in tail
    ),
    Kind(
        "image/gif",
        _begins(b"GIF87a", b"GIF89a"),
        gif_size,
        _gif_is_whole,
    ),
    Kind("image/webp", _riff(b"WEBP"), webp_size, _webp_is_whole),
    Kind(
        "application/pdf",
        lambda head: re.match(rb"%PDF-[12]\.\d", head) is not None,
        None,
        lambda _, tail, __: b"%%EOF" in tail[-2048:],
    ),
    Kind("audio/wav", _riff(b"WAVE"), None, _riff_is_whole),
    Kind("audio/flac", lambda head: re.match(rb"fLaC[\0\x80]\0\0\x22", head) is not None),
    Kind("audio/ogg", _is_ogg),
    Kind("audio/mp4", _is_m4a),
    Kind("audio/webm", _is_webm_audio),
    Kind("audio/mpeg", _is_mp3),
)

#: Of a text, as its giver says: nothing in its bytes tells one from the other.
TEXTS = ("text/plain", "text/markdown", "text/csv", "application/json")

#: What else people call a type.
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "image/jpg": "image/jpeg",
        "image/pjpeg": "image/jpeg",
        "application/x-pdf": "application/pdf",
        "audio/x-wav": "audio/wav",
        "audio/wave": "audio/wav",
        "audio/vnd.wave": "audio/wav",
        "audio/mp3": "audio/mpeg",
        "audio/x-flac": "audio/flac",
        "application/ogg": "audio/ogg",
        "audio/opus": "audio/ogg",
        "audio/m4a": "audio/mp4",
        "audio/x-m4a": "audio/mp4",
        "text/x-markdown": "text/markdown",
        "text/json": "application/json",
    }
)
#: What says nothing.
_ANYTHING = ("", "application/octet-stream", "binary/octet-stream", "*/*")

_BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {
        ".png": "image/png",
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".gif": "image/gif",
        ".webp": "image/webp",
        ".pdf": "application/pdf",
        ".wav": "audio/wav",
        ".mp3": "audio/mpeg",
        ".flac": "audio/flac",
        ".ogg": "audio/ogg",
        ".oga": "audio/ogg",
        ".opus": "audio/ogg",
        ".m4a": "audio/mp4",
        ".weba": "audio/webm",
        ".md": "text/markdown",
        ".markdown": "text/markdown",
        ".csv": "text/csv",
        ".json": "application/json",
        ".txt": "text/plain",
        ".log": "text/plain",
    }
)
#: A name that ends so is no text, whatever its bytes read as.
_NO_TEXT = re.compile(
    r"\.(html?|xhtml|svgz?|xml|js|mjs|vbs|ps1|bat|cmd|com|exe|dll|sh|hta|lnk|docx?|xlsx?|pptx?)$"
)

#: What may stand before markup. Once taken, a piece is not looked at in another way: two ways for
#: each of a hundred comments would never come to an end.
_BEFORE = re.compile(rb"(?>\s+|<!--(?!-?>).*?-->)*+", re.DOTALL)
#: Markup that programs run, where a file begins with it. A comment there has no end in sight, or
#: one that XML does not know.
_MARKUP = re.compile(
    rb"<(?:!--|!doctype|!entity|!element|html|head|body|script|iframe|frameset|svg|math|\?[\w=]"
    rb"|(?:style|link|meta|object|embed)[\s>/]|[\w.-]+:svg)",
    re.IGNORECASE,
)
#: The same within another file, which it makes two at once.
_HIDDEN = re.compile(rb"<(?:!doctype\s+html|html|script|iframe|svg|\?php)[\s>/]", re.IGNORECASE)
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_END_OF_ZIP = re.compile(rb"PK\x05\x06(?=.{16}(..))", re.DOTALL)
#: Archives that are found wherever in a file they begin.
_ARCHIVES = re.compile(rb"Rar!\x1a\x07[\0\x01]|7z\xbc\xaf\x27\x1c")
_PDF_IN_TEXT = re.compile(rb"^[ \t]*%PDF-\d", re.MULTILINE)

#: What is refused, by name.
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive, or an Office file, which is one"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xce\xfa\xed\xfe", "a program"),
    (b"\0asm", "a program"),
    (b"#!", "a script"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript program"),
    (b"%PDF-", "a PDF of a version that is not known"),
    (b"SQLite format 3\0", "a database"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"\0\0\1\0", "an icon"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"FLV", "a video"),
    (b"\xff\xfe", "a text in UTF-16: convert it to UTF-8"),
    (b"\xfe\xff", "a text in UTF-16: convert it to UTF-8"),
)


def kind_of(head: bytes) -> Kind | None:
    """Return which kind of picture, document or sound a file is that begins so; None: a text.

    Raises AttachmentRefused for what is none of these, naming it.
    """
    if not head:
        raise AttachmentRefused("the file is empty", hint="give one that holds something")
    for kind in KINDS:
        if kind.is_it(head):
            _refuse_hidden(kind, head)
            return kind
    if refused := _refused(head):
        raise AttachmentRefused(f"the file is {refused}")
    refuse_markup(head)
    if _PDF_IN_TEXT.search(head[:1024]):
        raise AttachmentRefused("the file is two at once: a PDF stands in it")
    if _CONTROLS.search(head):
        raise AttachmentRefused(f"the file is {_named(head)}")
    return None


def _refused(head: bytes) -> str:
    for magic, name in _REFUSED:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "a tar archive"
    is_mp4 = head[4:8] == b"ftyp"
    return "a video, or a picture as cameras write them" if is_mp4 else ""


def refuse_markup(head: bytes) -> None:
    """Raise AttachmentRefused where a text begins as SVG, HTML or XML does."""
    begin = head.removeprefix(codecs.BOM_UTF8)
    before = _BEFORE.match(begin)
    at = before.end() if before else 0
    if at == len(begin) and len(head) >= HEAD:
        raise AttachmentRefused("the file begins with nothing but blanks and comments")
    if not _MARKUP.match(begin, at):
        return
    found = begin[at : at + 4096].lower()
    name = "an SVG picture" if b"<svg" in found or b":svg" in found else "HTML or XML"
    raise AttachmentRefused(f"the file is {name}, which programs run")


def _refuse_hidden(kind: Kind, head: bytes) -> None:
    """Refuse a file that is two at once: whoever reads it later may see the other one."""
    is_pdf = kind.media_type == "application/pdf"
    if not is_pdf and b"%PDF-" in head[:1024]:
        raise AttachmentRefused("the file is two at once: a PDF stands in it")
    if not is_pdf and _HIDDEN.search(head[: 64 * 1024]):
        raise AttachmentRefused("the file is two at once: markup stands in it")
    if _ARCHIVES.search(head):
        raise AttachmentRefused("the file is two at once: an archive stands in it")


def refuse_end(kind: Kind, head: bytes, tail: bytes, size: int) -> None:
    """Refuse a file of this kind that is cut off, or goes on as something else."""
    if _ends_as_zip(tail):
        raise AttachmentRefused("the file is two at once: a ZIP archive stands behind it")
    if _ARCHIVES.search(tail):
        raise AttachmentRefused("the file is two at once: an archive stands behind it")
    if kind.media_type != "application/pdf" and _HIDDEN.search(tail):
        raise AttachmentRefused("the file is two at once: markup stands in it")
    if not kind.is_whole(head, tail, size):
        raise AttachmentRefused(f"the {kind.media_type} is cut off, or something stands behind it")


def _ends_as_zip(tail: bytes) -> bool:
    """Tell whether the directory of an archive stands at the end, with nothing but its comment."""
    return any(
        found.start() + 22 + int.from_bytes(found[1], "little") <= len(tail)
        for found in _END_OF_ZIP.finditer(tail)
    )


def media_type_of(kind: Kind | None, *, claimed: str, name: str) -> str:
    """Return the type of a file; raises AttachmentRefused where something else was claimed."""
    claim = claimed.partition(";")[0].strip().lower()
    claim = _ALIASES.get(claim, claim)
    if kind is None:
        return _text_type(claim, name)
    if claim not in (*_ANYTHING, kind.media_type):
        raise AttachmentRefused(f"the file is {kind.media_type}, and claims to be another type")
    suffix = PurePosixPath(name.lower()).suffix
    called = _BY_SUFFIX.get(suffix)
    if (called and _family(called) != _family(kind.media_type)) or _NO_TEXT.search(name.lower()):
        raise AttachmentRefused(f"the file is {kind.media_type}, and its name ends in {suffix}")
    return kind.media_type


def _text_type(claim: str, name: str) -> str:
    suffix = PurePosixPath(name.lower()).suffix
    called = _BY_SUFFIX.get(suffix, "text/plain")
    if claim not in (*_ANYTHING, *TEXTS):
        raise AttachmentRefused("the file is a text, and claims to be another type")
    if called not in TEXTS or _NO_TEXT.search(name.lower()):
        raise AttachmentRefused(f"the file is a text, and its name ends in {suffix}")
    return called if claim in _ANYTHING or claim == "text/plain" else claim


def _family(media_type: str) -> str:
    return media_type.partition("/")[0]


def _named(head: bytes) -> str:
    """Return what an unknown file is, as a library of signatures has it."""
    import puremagic  # noqa: PLC0415  of what is refused alone

    try:
        name = str(puremagic.magic_string(head[:4096])[0].name)
    except (puremagic.PureError, ValueError, IndexError):
        name = ""
    return f"of a kind that is not taken ({name[:60]})" if name else "of a kind that is not known"

"""Files that somebody means harm with: each with what it is."""

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple


class Hostile(NamedTuple):
    """What is handed in, and how."""

    what: str
    content: bytes
    name: str | None = None
    media_type: str | None = None


def png(width: int = 1, height: int = 1, *, behind: bytes = b"", within: bytes = b"") -> bytes:
    """Return a picture; with other bytes behind it, or in a chunk of words."""
    words = _chunk(b"tEXt", b"Comment\0" + within) if within else b""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    dots = zlib.compress(b"\0" * (height * (width + 1) if height * width < 10_000 else 2))
    chunks = _chunk(b"IHDR", header) + words + _chunk(b"IDAT", dots) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks + behind


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(width: int = 1, height: int = 1, *, comment: bytes = b"", behind: bytes = b"") -> bytes:
    """Return what reads as a picture up to its frame, and ends as one."""
    said = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment if comment else b""
    frame = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + said + frame + b"\xff\xda\x00\x02\x00\x00\xff\xd9" + behind


def gif(width: int = 1, height: int = 1, *, behind: bytes = b"") -> bytes:
    """Return a picture of one dot."""
    screen = struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + screen + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;" + behind


def webp(width: int = 1, height: int = 1, *, behind: bytes = b"") -> bytes:
    """Return the header of a picture without loss."""
    bits = (width - 1) | (height - 1) << 14
    data = b"VP8L" + struct.pack("<I", 5) + b"\x2f" + struct.pack("<I", bits) + b"\0"
    return b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data + behind


def framed_gif(*, frame: int, behind: bytes = b"") -> bytes:
    """Return a picture of one dot whose frame is larger than its screen."""
    frame_of = b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0)
    return gif()[:19] + frame_of + b"\2\2D\1\0;" + behind


def framed_png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a picture of one dot, with these chunks behind its header."""
    plain = png()
    return plain[:33] + b"".join(_chunk(*one) for one in chunks) + plain[33:]


def framed_webp(*chunks: tuple[bytes, bytes], told: int | None = None) -> bytes:
    """Return a canvas of one dot, and what is drawn on it."""
    form = (b"VP8X", b"\2\0\0\0" + bytes(6)), *chunks
    data = b"WEBP" + b"".join(
        name + struct.pack("<I", len(held)) + held + bytes(len(held) % 2) for name, held in form
    )
    return b"RIFF" + struct.pack("<I", len(data) if told is None else told) + data


def pdf(body: bytes = b"1 0 obj<<>>endobj") -> bytes:
    """Return the least of a document."""
    return b"%PDF-1.4\n" + body + b"\ntrailer<<>>\n%%EOF\n"


def wav(*, behind: bytes = b"") -> bytes:
    """Return a moment of silence."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    data = b"data" + struct.pack("<I", 8) + b"\x80" * 8
    return b"RIFF" + struct.pack("<I", len(form) + len(data) + 4) + b"WAVE" + form + data + behind


def recorded(brand: bytes, *handlers: bytes) -> bytes:
    """Return what a phone or a browser begins a recording with: its tracks, by their handlers."""
    tracks = b"".join(b"\0\0\0\x20hdlr" + bytes(8) + one + bytes(12) for one in handlers)
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\2\0isommp42" + tracks + bytes(40)


def ended_by_its_index(brand: bytes, *handlers: bytes, before: int = 600_000) -> bytes:
    """Return a recording as it was written while it came: its tracks are told of at its end."""
    begin = b"\0\0\0\x18ftyp" + brand + b"\0\0\2\0isommp42"
    said = b"\x5a" * (before - len(begin) - 16)
    tracks = b"".join(b"\0\0\0\x20hdlr" + bytes(8) + one + bytes(12) for one in handlers)
    sized = [struct.pack(">I", len(one) + 8) for one in (said, tracks)]
    return begin + sized[0] + b"mdat" + said + sized[1] + b"moov" + tracks


def zipped(**files: bytes) -> bytes:
    """Return an archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return target.getvalue()


BOMB = zipped(zeros=b"\0" * 5_000_000)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
SCRIPT = b"<script>alert(1)</script>"

#: A true one of each kind that is taken.
TAKEN = {
    "image/png": png(),
    "image/jpeg": jpeg(),
    "image/gif": gif(),
    "image/webp": webp(),
    "application/pdf": pdf(),
    "audio/wav": wav(),
    "audio/flac": b"fLaC\0\0\0\x22" + bytes(34),
    "audio/ogg": b"OggS\0\2" + bytes(40),
    "audio/mpeg": b"ID3\4\0\0\0\0\0\0\xff\xfb\x90\0" + bytes(400),
    "audio/mp4": b"\0\0\0\x18ftypM4A \0\0\2\0isomiso2" + bytes(40),
    "audio/webm": b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + b"\x86\x86A_OPUS" + bytes(40),
    "text/plain": "Grüße\n".encode(),
}


def archives() -> Iterator[Hostile]:
    yield Hostile("zip bomb", BOMB)
    yield Hostile("zip in a zip", zipped(inner=BOMB))
    yield Hostile("zip bomb as a picture", BOMB, "cat.png", "image/png")
    yield Hostile("zip bomb as a PDF", BOMB, "a.pdf", "application/pdf")
    yield Hostile("empty zip", b"PK\x05\x06" + bytes(18))
    yield Hostile("Word", zipped(**{"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}))
    yield Hostile("jar", zipped(**{"META-INF/MANIFEST.MF": b"x"}), "a.jar")
    yield Hostile("zip with paths", zipped(**{"../../etc/passwd": b"root"}), "a.zip")
    yield Hostile("gzip bomb", gzip.compress(b"\0" * 5_000_000))
    yield Hostile("gzip as a text", gzip.compress(b"hello"), "a.txt", "text/plain")
    yield Hostile("xz", lzma.compress(b"\0" * 100_000))
    yield Hostile("bzip2", b"BZh91AY&SY" + bytes(20))
    yield Hostile("zstd", b"\x28\xb5\x2f\xfd" + bytes(20))
    yield Hostile("7z", b"7z\xbc\xaf\x27\x1c" + bytes(20))
    yield Hostile("rar", b"Rar!\x1a\x07\x01\0" + bytes(20))
    yield Hostile("tar", _tar())
    yield Hostile("cab", b"MSCF\0\0\0\0" + bytes(20))
    yield Hostile("old Office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))


def programs() -> Iterator[Hostile]:
    for name, magic in (
        ("ELF", b"\x7fELF\2\1\1"),
        ("Windows", b"MZ\x90\0"),
        ("Mach-O", b"\xcf\xfa\xed\xfe"),
        ("Mach-O 32", b"\xce\xfa\xed\xfe"),
        ("fat or Java", b"\xca\xfe\xba\xbe\0\0\0\x34"),
        ("wasm", b"\0asm\1\0\0\0"),
        ("shell", b"#!/bin/sh\nrm -rf /\n"),
        ("Python", b"#!/usr/bin/env python\n"),
        ("PostScript", b"%!PS-Adobe-3.0\n"),
        ("RTF", b"{\\rtf1 hello}"),
        ("SQLite", b"SQLite format 3\0"),
        ("pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0"),
        ("shortcut", b"L\0\0\0\x01\x14\x02\0"),
        ("class", b"\xca\xfe\xba\xbe\0\0\0\x41"),
        ("dex", b"dex\n035\0"),
        ("NUL", b"hello\0world"),
    ):
        yield Hostile(f"program: {name}", magic + bytes(20))
    for name in ("a.sh", "a.exe", "a.bat", "a.js", "a.ps1", "a.vbs", "a.hta", "a.docx", "a.svg"):
        yield Hostile(f"a text called {name}", b"hello", name)
    yield Hostile("javascript, as it says", b"alert(1)", None, "text/javascript")
    yield Hostile("html, as it says", b"hello", None, "text/html")
    yield Hostile("svg, as it says", b"hello", None, "image/svg+xml")


def markup() -> Iterator[Hostile]:
    for name, content in {
        "svg": SVG,
        "SVG in capitals": SVG.upper(),
        "svg behind blanks": b" \n\t " + SVG,
        "svg behind a mark": b"\xef\xbb\xbf" + SVG,
        "svg behind a comment": b"<!-- hello --> <!-- --> " + SVG,
        "svg behind xml": b'<?xml version="1.0"?>' + SVG,
        "svg behind a doctype": b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x">' + SVG,
        "svg of a namespace": b'<s:svg xmlns:s="http://www.w3.org/2000/svg"/>',
        "entities without end": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "&b;&b;">]>',
        "html": b"<!doctype html><p>hello",
        "html, bare": b"<html><body onload=alert(1)>",
        "script": SCRIPT,
        "iframe": b"<iframe src=//evil></iframe>",
        "head": b"<head><meta http-equiv=refresh content=0>",
        "body": b"<BODY ONLOAD=alert(1)>",
        "php": b"<?php system($_GET['c']);",
        "math": b"<math><mtext></mtext></math>",
        "svg behind many blanks": b" " * 5_000 + SVG,
        "svg behind a long comment": b"<!--" + b"x" * 9_000 + b"-->" + SVG,
        "svg behind many comments": b"<!--a-->" * 1_000 + SVG,
        "svg behind an instruction": b"<?go on?>" + SVG,
        "svg behind a comment that HTML ends at once": b"<!-->" + SVG + b"<!-- -->",
        "svg of a namespace with a dash": b'<s-1:svg xmlns:s-1="http://www.w3.org/2000/svg"/>',
        "a comment without end": b"<!-- " + b"x" * 600_000,
        "entities alone": b'<!ENTITY a "&b;&b;&b;">',
        "style": b"<style>@import 'http://10.0.0.1/'</style>",
    }.items():
        yield Hostile(f"markup: {name}", content)
        yield Hostile(f"markup as a text: {name}", content, "a.txt", "text/plain")
        yield Hostile(f"markup as a picture: {name}", content, "a.png", "image/png")
    yield Hostile("svg in UTF-16", b"\xff\xfe" + SVG.decode().encode("utf-16-le"))
    yield Hostile("svg in UTF-16, the other way", b"\xfe\xff" + SVG.decode().encode("utf-16-be"))
    yield Hostile("svg packed", gzip.compress(SVG), "a.svgz")


def pictures() -> Iterator[Hostile]:
    for make in (png, jpeg, gif, webp):
        kind = make.__name__
        sides = ((16_383, 16_383),) if make is webp else ((65_535, 65_535), (65_000, 2_000))
        for width, height in sides:
            yield Hostile(f"{kind} of {width}x{height}", make(width, height))
        yield Hostile(f"{kind} cut off", make()[:20])
    for width, height in ((2**31 - 1, 2**31 - 1), (0, 0), (0, 5), (10**9, 1), (10_001, 10_000)):
        yield Hostile(f"png of {width}x{height}", png(width, height))
    yield Hostile("gif of no size", gif(0, 0))
    yield Hostile("jpeg without a frame", b"\xff\xd8\xff\xd9")
    yield Hostile("jpeg whose segments loop", b"\xff\xd8" + b"\xff\xe0\0\0" * 100 + b"\xff\xd9")
    yield Hostile("png without a header", b"\x89PNG\r\n\x1a\n" + _chunk(b"IEND", b""))
    yield Hostile("webp of another form", b"RIFF\x10\0\0\0WEBPXXXX" + bytes(8))
    yield Hostile("tiff", b"II*\0" + bytes(50))
    yield Hostile("tiff, the other way", b"MM\0*" + bytes(50))
    yield Hostile("icon", b"\0\0\1\0\1\0" + bytes(50))
    yield Hostile("bitmap", b"BM" + bytes(60))
    yield Hostile("photoshop", b"8BPS\0\1" + bytes(50))
    yield Hostile("heic", b"\0\0\0\x18ftypheic" + bytes(50))
    yield Hostile("video", b"\0\0\0\x18ftypisom" + bytes(50))
    yield Hostile("matroska", b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska" + bytes(50))
    yield Hostile("webm video", b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webmV_VP9A_OPUS" + bytes(50))
    yield Hostile("avi", b"RIFF\x10\0\0\0AVI " + bytes(8))


def recordings() -> Iterator[Hostile]:
    for brand in (b"mp42", b"isom", b"iso5", b"3gp4", b"M4A "):
        both = recorded(brand, b"soun", b"vide")
        yield Hostile(f"video beside its sound, {brand!r}", both, "a.m4a", "audio/mp4")
        late = ended_by_its_index(brand, b"soun", b"vide")
        yield Hostile(f"video that says so at its end, {brand!r}", late, "a.m4a", "audio/mp4")
    yield Hostile("a recording that was cut off", ended_by_its_index(b"isom"), "a.m4a")
    yield Hostile("late pictures beside a sound", ended_by_its_index(b"isom", b"pict", b"soun"))
    yield Hostile("avif with a sound", recorded(b"avif", b"soun"))
    yield Hostile("a picture beside a sound", recorded(b"isom", b"pict", b"soun"))
    yield Hostile("a text as a sound", b"ID3 tags, told in words", "a.mp3", "audio/mpeg")
    yield Hostile("a text as another sound", b"fLaC, told in words", "a.flac", "audio/flac")


def larger_than_they_say() -> Iterator[Hostile]:
    yield Hostile("gif whose frame is larger", framed_gif(frame=65_535))
    yield Hostile("gif without a frame", gif()[:19] + b";")
    yield Hostile("gif that ends in a frame", gif()[:-2])
    vast = struct.pack(">II", 60_000, 60_000)
    yield Hostile("png with a second header", framed_png((b"IHDR", vast + b"\x08\0\0\0\0")))
    yield Hostile(
        "png whose frame is larger",
        framed_png((b"acTL", struct.pack(">II", 1, 0)), (b"fcTL", bytes(4) + vast + bytes(14))),
    )
    frames = jpeg()[2:15], jpeg(60_000, 60_000)[2:]
    yield Hostile("jpeg with a second frame", b"\xff\xd8" + b"".join(frames))
    still = webp(16_383, 16_383)[20:25]
    yield Hostile("webp whose picture is larger", framed_webp((b"VP8L", still)))
    frame = bytes(6) + b"\xff\xff\xff" * 2 + bytes(4)
    yield Hostile("webp whose frame is larger", framed_webp((b"ANMF", frame)))
    within = b"VP8L" + struct.pack("<I", 5) + still + b"\0"
    yield Hostile("webp whose frame holds a larger one", framed_webp((b"ANMF", bytes(16) + within)))
    yield Hostile("webp without a picture", framed_webp())


def two_at_once() -> Iterator[Hostile]:
    small = zipped(a=b"x")
    for make in (png, jpeg, gif, webp, wav):
        kind = make.__name__
        yield Hostile(f"{kind} and zip", make(behind=small))
        yield Hostile(f"{kind} and html", make(behind=b"<html>" + SCRIPT))
        yield Hostile(f"{kind} and svg", make(behind=SVG))
        yield Hostile(f"{kind} and php", make(behind=b"<?php system('id'); ?>"))
    yield Hostile("pdf and zip", pdf() + small)
    yield Hostile("zip and pdf", small + pdf())
    yield Hostile("pdf behind a line", b"hello\n" + pdf(b"\x80\x81\0"), "a.pdf")
    yield Hostile("png and pdf", png(within=pdf()))
    yield Hostile("png and script", png(within=SCRIPT))
    yield Hostile("jpeg and pdf", jpeg(comment=pdf()))
    yield Hostile("jpeg and script", jpeg(comment=SCRIPT))
    yield Hostile("jpeg and php in a comment", jpeg(comment=b"<?php system('id'); ?>"))
    yield Hostile("gif and javascript", b"GIF89a/*" + bytes(5) + b"*/=1;alert(1)//")
    yield Hostile("gif that is html", b"GIF89a<html><script>alert(1)</script>")
    yield Hostile("bitmap and javascript", b"BM/*" + bytes(60) + b"*/=1;alert(1)")
    yield Hostile("png and program", png(behind=b"MZ" + bytes(100)))
    yield Hostile("webp and more", webp(behind=bytes(100)))


def and_something_behind() -> Iterator[Hostile]:
    small = zipped(a=b"x")
    endless = webp()[:4] + bytes(4) + webp()[8:]
    yield Hostile("webp that does not say where it ends", endless + b"alert(1);")
    yield Hostile("gif and javascript that ends as one", gif(behind=b"*/=1;alert(1);"))
    for make in (png, jpeg, wav):
        yield Hostile(f"{make.__name__} and rar", make(behind=b"Rar!\x1a\x07\1\0" + bytes(20)))
    yield Hostile("pdf and rar", pdf(b"Rar!\x1a\x07\0" + bytes(20)))
    yield Hostile("pdf and 7z", pdf() + b"7z\xbc\xaf\x27\x1c" + bytes(20))
    crafty = small[:-2] + b"\4\0PK\5\6"
    yield Hostile("pdf and a zip whose comment is an end", pdf() + crafty)
    yield Hostile("mp3 and a zip whose comment is an end", TAKEN["audio/mpeg"] + crafty)
    yield Hostile("text and pdf", b"hello\n%PDF-1.7\n1 0 obj<<>>endobj\n%%EOF\n")
    yield Hostile("pdf behind a blank", b" " + pdf(), "a.txt", "text/plain")


def liars() -> Iterator[Hostile]:
    yield Hostile("video in ogg", b"OggS\0\2" + bytes(22) + b"\x80theora" + bytes(40))
    movie = TAKEN["audio/mp4"] + b"\0\0\0\x21hdlr" + bytes(8) + b"vide" + bytes(13)
    yield Hostile("video that calls itself m4a", movie)
    for told, content in TAKEN.items():
        for claimed in ("image/png", "application/pdf", "audio/wav", "text/plain"):
            if claimed != told:
                yield Hostile(f"{told} as {claimed}", content, None, claimed)
    for told, content in TAKEN.items():
        for name in ("a.png", "a.pdf", "a.wav", "a.txt"):
            family = {"a.png": "image", "a.pdf": "application", "a.wav": "audio", "a.txt": "text"}
            if not told.startswith(family[name]):
                yield Hostile(f"{told} called {name}", content, name)
        yield Hostile(f"{told} called a.exe", content, "a.exe")
        yield Hostile(f"{told} called a.html", content, "a.html")


def names() -> Iterator[Hostile]:
    for name in (
        *("../../etc/passwd", "/etc/passwd", "a/b.png", "..\\..\\boot.ini", "C:\\a.png", "a\\b"),
        *("..", ".", "/", "a\0.png", "a\n.png", "a\r\nX: y.png", "\x1b[2J.png", "a\u202egnp.exe"),
        *(" a.png", "a" * 201, "\ud800.png", "~/../a.png", "....//a", "a.png/"),
    ):
        yield Hostile(f"the name {name!a}", png(), name)


def odd() -> Iterator[Hostile]:
    yield Hostile("nothing", b"")
    yield Hostile("a NUL", b"\0")
    yield Hostile("noise", bytes(range(256)) * 4)
    yield Hostile("half a character", b"hello \xe2\x82")
    yield Hostile("latin-1", "Grüße".encode("latin-1"))
    yield Hostile("a bell", b"hello \x07")
    yield Hostile("a pdf that is cut off", pdf()[:20])
    yield Hostile("a pdf of version 9", pdf().replace(b"1.4", b"9.9"))
    yield Hostile("a wav that is cut off", wav()[:-5])
    yield Hostile("noise behind a long text", b"hello\n" * 200_000 + b"\xff\xfe\0")
    yield Hostile("a frame that is none", b"\xff\xff\xff\xff" + bytes(40))


HOSTILE = [
    *archives(), *programs(), *markup(), *pictures(), *two_at_once(), *liars(), *names(), *odd(),
    *recordings(), *larger_than_they_say(), *and_something_behind(),
]  # fmt: skip

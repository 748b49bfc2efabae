"""Seeded damage to bytes, texts and archives: what disks, links, editors and strangers do."""

import gzip
import io
import random
import struct
import zipfile
from pathlib import Path

_EXTREME = (0, 1, 2**7 - 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    *(b"", b"\0", b"-1", b"1e999", b"nan", b"9" * 30, b"1099511627776", b"null", b"{}", b"[]"),
    *(b'""', b"\xff\xfe", "é∞".encode(), b"../../etc", b"\n", b",", b"\t", b'"', b"true", b"1.5"),
)


def mutant(content: bytes, draw: random.Random) -> bytes:
    """The content with some damage; archives also with damage to what is packed in them."""
    if draw.random() < 0.5:
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(_damaged(gzip.decompress(content), draw), 1)
        if content.startswith(b"PK"):
            return _rezipped(content, draw)
    return _damaged(content, draw)


def damaged(path: Path, draw: random.Random) -> None:
    """Damages a file in place."""
    path.write_bytes(mutant(path.read_bytes(), draw))


def _rezipped(content: bytes, draw: random.Random) -> bytes:
    """A zip archive with one member damaged, or missing, under a right checksum."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        chosen = draw.choice(old.infolist())
        for info in old.infolist():
            inside = old.read(info)
            if info is not chosen:
                new.writestr(info, inside)
            elif draw.random() < 0.9:
                new.writestr(info, _damaged(inside, draw))
    return written.getvalue()


def _damaged(content: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        content = draw.choice(_DAMAGE)(content, draw)
    return content


def _place(content: bytes, draw: random.Random) -> int:
    """Anywhere, often in the header."""
    most = len(content) if draw.random() < 0.5 else min(len(content), 200)
    return draw.randrange(most + 1)


def _bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(draw.choice((1, 1, 4))):
        changed[min(_place(content, draw), len(changed) - 1)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _block(content: bytes, draw: random.Random) -> bytes:
    """A block of zeros, of ones, or of what stands elsewhere; or one that is lost or repeated."""
    at, size = _place(content, draw), draw.choice((1, 4, 8, 64, 512))
    end = min(at + size, len(content))
    other = draw.randrange(max(1, len(content) - size))
    fill = (bytes(end - at), b"\xff" * (end - at), content[other : other + end - at], b"")
    piece = draw.choice((*fill, 2 * content[at:end]))
    return content[:at] + piece + content[end:]


def _number(content: bytes, draw: random.Random) -> bytes:
    """An extreme number in place of the one that may stand there."""
    size, order = draw.choice((1, 2, 4, 8)), draw.choice("<>")
    number = draw.choice(_EXTREME) % 256**size
    packed = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], number)
    at = _place(content, draw)
    return content[:at] + packed + content[at + size :]


def _word(content: bytes, draw: random.Random) -> bytes:
    """Another word in place of digits or a text."""
    at = _place(content, draw)
    end = at
    while end < len(content) and content[end : end + 1].isalnum():
        end += 1
    return content[:at] + draw.choice(_WORDS) + content[end:]


_DAMAGE = (_bits, _cut, _block, _number, _word)

"""A checksum behind the last byte of a file, where HDF5 does not look."""

import functools
import hashlib
from pathlib import Path

from geomadv.files.writing import OutputFile

_MARK = b"geomadv sha256 "
_LENGTH = len(_MARK) + hashlib.sha256().digest_size
_BLOCK = 2**22


def seal(file: OutputFile) -> None:
    """Appends the checksum of all that an open file holds."""
    file.seek(0)
    found = hashlib.sha256()
    while block := file.read(_BLOCK):
        found.update(block)
    file.write(_MARK + found.digest())


def seal_holds(path: Path) -> bool | None:
    """Whether a file's bytes are those that were sealed; None for a file without a seal.

    A file is read once (some 1 GB a second), and again only where it has changed since.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _holds(path, (status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=256)
def _holds(path: Path, state: tuple[int, int, int]) -> bool | None:
    rest = state[1] - _LENGTH
    with path.open("rb") as file:
        file.seek(max(0, rest))
        end = file.read(_LENGTH)
        if not end.startswith(_MARK):
            return None
        file.seek(0)
        found = hashlib.sha256()
        while rest > 0 and (block := file.read(min(_BLOCK, rest))):
            found.update(block)
            rest -= len(block)
    return found.digest() == end[len(_MARK) :]

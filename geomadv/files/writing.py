"""Files that appear whole or not at all, and what to tell the user when the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geomadv.errors import InputError

_REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "the disk or the quota is full; free some space there",
    ),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "the folder is not writable; change its permissions",
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "a file stands where a folder is needed, or the reverse; move it away",
    ),
}


def disk_error(path: Path, error: OSError) -> InputError:
    """An `InputError` that says what the operating system refused, and the remedy."""
    code = error.errno
    remedy = _REMEDIES.get(code or 0, "check the disk and the path")
    reason = os.strerror(code) if code else str(error)
    return InputError(
        f"cannot write {path} ({reason}): {remedy}, or choose another folder (--results)."
    )


def is_of_disk(error: Exception) -> bool:
    """Whether it is a refusal of the disk, of which `disk_error` knows the remedy."""
    return isinstance(error, OSError) and error.errno in _REMEDIES


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turns refusals of the disk inside the block into an `InputError` about the path."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


class OutputFile(io.FileIO):
    """A new file that remembers a refusal of the disk instead of raising it.

    HDF5 cannot close a file after a failed write and ends the process with a segmentation fault,
    so that it must not learn of a full disk; `check` tells the caller.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._refusal: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all bytes of a buffer, or none once the disk has refused; returns their number."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest) and self._refusal is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self._refusal = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Reads a whole buffer, with zeros in place of what the disk did not take."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Sets the length of the file; returns the length asked for."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._refusal = self._refusal or error
            return size or 0

    def check(self) -> None:
        """Raises the `OSError` with which the disk refused, if it did."""
        if self._refusal is not None:
            raise self._refusal


@contextlib.contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[OutputFile]:
    """Gives a new file at `temporary`; it becomes `path` only when the block succeeds.

    Both lie on one file system. The data are on the disk before the name is: a power failure
    cannot leave an empty file under the final name either.

    Raises:
        InputError: the disk refused (full, read-only, ...); the temporary file is then removed.
    """
    with refusals(path):
        try:
            with OutputFile(temporary) as file:
                yield file
                file.check()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _flush_names(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a small file that appears whole or not at all; raises `InputError` as `replacing`."""
    with refusals(path):
        remove_strays(path)
    with replacing(path, temporary(path)) as file:
        file.write(content.encode() if isinstance(content, str) else content)


# Seconds after which a temporary file of another machine, or of nobody, is taken for forgotten.
_FORGOTTEN = 24 * 3600.0


def temporary(path: Path) -> Path:
    """Where this process writes what becomes a file by rename; the name tells whose it is."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def remove_strays(path: Path) -> None:
    """Removes temporary files that killed processes left of earlier attempts at a file.

    Of this machine those of dead processes, of others those that have not changed for a day.
    """
    start = f".{path.name}."
    for stray in path.parent.glob(f"{glob.escape(start)}*.tmp"):
        host, _, process = stray.name.removeprefix(start).removesuffix(".tmp").rpartition(".")
        if host == socket.gethostname() and process.isdigit():
            left = not _alive(int(process))
        else:
            left = is_forgotten(stray)
        if left:
            stray.unlink(missing_ok=True)


def is_forgotten(path: Path, seconds: float = _FORGOTTEN) -> bool:
    """Whether a file has not changed for so long, or is gone."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > seconds
    return True


def _alive(process: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush_names(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: str | os.PathLike[str], needed_bytes: int = 0) -> Path:
    """Creates the folder and makes sure that results can be written there, before long work.

    Args:
        folder: where results will go; created with its parents.
        needed_bytes: expected size of what will be written, in bytes.

    Returns:
        The folder.

    Raises:
        InputError: the folder cannot be created or written to, or the disk has less room.
    """
    folder = Path(folder)
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"geomadv")
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise InputError(
            f"the disk of {folder} has {free / 1e9:.3g} GB free, and {needed_bytes / 1e9:.3g} GB "
            "are needed: free some space there, or choose another folder (--results)."
        )
    return folder

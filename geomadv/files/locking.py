"""One process at a time in a folder."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from pathlib import Path
from typing import IO

from geomadv.errors import InputError

if sys.platform != "win32":
    import fcntl

LOCK = "lock"


class FolderLock:
    """A lock on a folder, held until `release` or the end of the process, however it ends.

    The operating system holds the lock; the file ``lock`` in the folder carries it and names the
    process and machine for the reader of an error message. The lock of a dead process is
    therefore free, whatever its file says.

    Raises:
        InputError: another store, of this process or another, works in the folder.
        OSError: the folder cannot be created or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file = self._acquire()
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def _acquire(self) -> IO[str]:
        while True:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = self._path.open("a+", encoding="utf-8")
            except FileNotFoundError:  # its holder finished and removed the folder just now
                continue
            self._lock(file)
            if self._names(file):
                return file
            file.close()

    def _lock(self, file: IO[str]) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read() or "another process"
            file.close()
            raise InputError(
                f"the work area {self._path.parent} is in use by {holder}: wait until it has "
                "finished, end it, or choose another folder (--results)."
            ) from None
        except OSError:
            warnings.warn(
                f"{self._path.parent} lies on a file system without locks: make sure that no "
                "other process computes the same result.",
                stacklevel=4,
            )

    def _names(self, file: IO[str]) -> bool:
        """Whether the path still names the locked file, not one made after its removal."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    @property
    def held(self) -> bool:
        """Whether the folder is still locked."""
        return not self._file.closed

    def release(self) -> None:
        """Frees the folder; further calls do nothing."""
        self._file.close()

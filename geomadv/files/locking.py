"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from geomadv.errors import InputError

# The lock's own file is the library's to write; who holds it stands beside it.
LOCK, OWNER = "lock", "owner"

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class FolderLock:
    """A lock on a folder, held until `release`, `remove` or the end of the process.

    The operating system holds the lock, so that of a dead process is free; the file ``owner`` names
    process and machine for the reader of an error message, whether they live or not.

    Raises:
        InputError: another store, of this process or another, works in the folder.
        OSError: the folder cannot be created or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, thread_local=False)
        self._acquire()
        self._held = True
        try:
            owner = f"process {os.getpid()} on {socket.gethostname()}"
            (folder / OWNER).write_text(owner, encoding="utf-8")
        except BaseException:
            self.release()
            raise

    def _acquire(self) -> None:
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(blocking=False)
            except FileNotFoundError:  # its holder finished and removed the folder just now
                continue
            except Timeout:
                if (self._folder / LOCK).exists():
                    raise InputError(
                        f"the work area {self._folder} is in use by {self._owner()}: wait until it "
                        "has finished, end it, or choose another folder (--results)."
                    ) from None
                continue
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"{self._folder} lies on a file system without locks: make sure that no "
                    "other process computes the same result.",
                    stacklevel=4,
                )
            return

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            return (self._folder / OWNER).read_text(encoding="utf-8") or "another process"
        return "another process"

    @property
    def held(self) -> bool:
        """Whether the folder is still locked."""
        return self._held

    def release(self) -> None:
        """Frees the folder; further calls do nothing."""
        self._held = False
        self._lock.release()

    def remove(self) -> None:
        """Removes the folder, in which nothing else may be left, and frees it."""
        (self._folder / OWNER).unlink(missing_ok=True)
        if sys.platform == "win32":  # open files cannot be removed there
            self.release()
        (self._folder / LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a process that waited for it is in the folder
            self._folder.rmdir()
        self.release()

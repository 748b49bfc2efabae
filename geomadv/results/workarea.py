"""The folder beside a result in which it grows: locked, and bound to one configuration."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from geomadv.errors import InputError, decoding
from geomadv.files.locking import LOCK, OWNER, FolderLock
from geomadv.files.writing import is_forgotten, refusals, replacing
from geomadv.results.identity import differences, plain
from geomadv.results.provenance import program_version

_MANIFEST = "manifest.json"
# Of the files of parts; 1, which no manifest names, were HDF5.
_LAYOUT = 2
_MONTH = 30 * 24 * 3600.0  # seconds
_NOTHING_KEPT = (_MANIFEST, LOCK, OWNER)


class WorkArea:
    """The folder ``<path>.partial/``, locked against a second process until `close`.

    Its manifest holds the identity of the result under ``config``, and the version of the program:
    what a part holds is the program's own affair, and may change with its version.

    Args:
        path: the final file.
        identity: what fixes the content, in JSON terms.
        memo: what else `unfinished` shall tell of the area; it makes no difference.
        overwrite: discard an area of another identity instead of refusing it. One of the same
            identity is continued in either case.

    Raises:
        InputError: the area is of another identity or version (the message lists the differences),
            another process works in it, or the disk refuses.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: Mapping[str, Any],
        *,
        memo: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.folder = _work_area(self.path)
        self._memo = plain(memo or {})
        self._manifest = {
            "config": plain(identity),
            "geomadv_version": program_version(),
            "layout_of_parts": _LAYOUT,
        }
        with refusals(self.folder):
            self._lock = FolderLock(self.folder)
        try:
            self._open(overwrite)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, overwrite: bool) -> None:
        found = read_manifest(self.folder)
        assembled = found.pop("assembled", False)
        found.pop("memo", None)
        changed = differences(found, self._manifest) if found else []
        if changed and not overwrite and not _is_empty(self.folder):
            raise InputError(
                f"the work area {self.folder} is of another configuration "
                f"({'; '.join(changed)}): run with that configuration to finish it, use "
                "--overwrite to discard it, or choose another --results folder."
            )
        with refusals(self.folder):
            # What is in the final file already is computed anew if that is to be overwritten.
            if changed or not found or (assembled and overwrite):
                _clear(self.folder)
            if changed or not found or assembled:
                self._write_manifest()
            _remove_temporary(self.folder)

    def _write_manifest(self, **extra: Any) -> None:
        target = self.folder / _MANIFEST
        with replacing(target, target.with_name(f"{_MANIFEST}.tmp")) as output:
            content = {**self._manifest, "memo": self._memo, **extra}
            text = json.dumps(content, sort_keys=True, indent=1)
            output.write(text.encode())

    def _mark_assembled(self) -> None:
        """Just before the final file appears: whoever finds that file may remove the area."""
        self._write_manifest(assembled=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the work area as it is, for this or another process to continue.

        An empty one, as of a computation that was refused at once, is removed.
        """
        with contextlib.suppress(OSError):  # where it cannot be removed, it does no harm
            if self._lock.held and _is_empty(self.folder):
                _remove(self.folder, self._lock)
        self._lock.release()

    def discard(self) -> None:
        """Removes what is kept, which `close` would leave."""
        with refusals(self.folder):
            _clear(self.folder)

    @property
    def kept_bytes(self) -> int:
        """What the area takes on the disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def _check_open(self) -> None:
        if not self._lock.held:
            raise InputError(
                f"the work area {self.folder} is closed: open a new store to continue."
            )

    def _remove(self) -> None:
        """Removes the area: its content is in the final file."""
        with refusals(self.folder):
            _remove(self.folder, self._lock)


def unfinished(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What was noted of the result whose parts lie in the work area of a path, if any are kept.

    Args:
        path: the final file.

    Returns:
        The memo that the store was given; None without a work area, or with an empty one.

    Raises:
        InputError: the manifest of the area is damaged.
    """
    folder = _work_area(Path(path))
    manifest = read_manifest(folder)
    return dict(manifest.get("memo", {})) if manifest and not _is_empty(folder) else None


def tidy(path: Path, identity: Mapping[str, Any]) -> None:
    """Removes what killed processes left beside a final file that answers the question.

    All of an area whose process was killed after the file had appeared, or in which nothing has
    changed for a month; else what was being written. An area of another configuration is that of a
    result which was to replace this one, and may be finished yet.
    """
    folder = _work_area(path)
    manifest = read_manifest(folder)
    if not manifest:
        return
    done = manifest.get("assembled") and not differences(manifest["config"], identity)
    with contextlib.suppress(InputError, OSError):  # in use, or read-only: it does no harm
        old = all(is_forgotten(file, _MONTH) for file in folder.iterdir())
        lock = FolderLock(folder)
        try:
            _remove_temporary(folder)
            if done or old:
                _remove(folder, lock)
        finally:
            lock.release()


def _work_area(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a work area, empty if there is none; `InputError` for a damaged one."""
    try:
        content = (folder / _MANIFEST).read_bytes()
    except OSError:
        return {}
    with decoding(str(folder / _MANIFEST), f"delete the folder {folder} to start anew"):
        found = dict(json.loads(content.decode()))
        return found | {key: dict(found.get(key, {})) for key in ("config", "memo")}


def _is_empty(folder: Path) -> bool:
    """Whether nothing is kept yet; what a killed process was writing does not count."""
    files = [file.name for file in folder.iterdir()]
    return all(name in _NOTHING_KEPT or name.endswith(".tmp") for name in files)


def _clear(folder: Path) -> None:
    """Removes all but the lock; the manifest last, so that what is left tells whose it is."""
    for file in folder.iterdir():
        if file.name not in _NOTHING_KEPT:
            file.unlink()
    (folder / _MANIFEST).unlink(missing_ok=True)


def _remove_temporary(folder: Path) -> None:
    for stray in folder.glob("*.tmp"):
        stray.unlink()


def _remove(folder: Path, lock: FolderLock) -> None:
    _clear(folder)
    lock.remove()

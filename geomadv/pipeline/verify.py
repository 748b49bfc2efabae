"""Whether files are as they were written: results, unfinished work, networks in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from geomadv.errors import InputError
from geomadv.networks.cache import check_cached
from geomadv.networks.pretrained import check_pretrained
from geomadv.results.files import check_file
from geomadv.results.store import check_area

_UNSEALED = "no checksum, as older versions wrote it: it can be read"
_RESULT, _AREA, _WEIGHTS = ".h5", ".partial", ".safetensors"


def verified(paths: Sequence[Path]) -> Iterator[tuple[bool, str]]:
    """For every file whether it is whole, with a line about it.

    Args:
        paths: files; folders, of which results, work areas and weights count, at any depth.

    Raises:
        InputError: a path that is not there.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is not there: name files, or folders of results or weights.")
    for path in paths:
        for file in _found(path):
            try:
                whole, words = True, _check(file)
            except InputError as error:
                whole, words = False, str(error)
            yield whole, f"{'ok' if whole else 'DAMAGED':8} {file}: {words}"


def _found(path: Path) -> list[Path]:
    if path.is_file() or path.suffix == _AREA:
        return [path]
    inside = (file for file in path.rglob("*") if file.suffix in (_RESULT, _AREA, _WEIGHTS))
    return sorted(file for file in inside if file.parent.suffix != _AREA)


def _check(file: Path) -> str:
    if file.suffix == _AREA:
        return f"unfinished, {check_area(file)} parts are as they were written"
    check: Callable[[Path], bool] = check_file
    if file.suffix == _WEIGHTS:
        check = check_pretrained if file.parent.name == "weights" else _cached
    return "as it was written" if check(file) else _UNSEALED


def _cached(file: Path) -> bool:
    return check_cached(file)[1]

"""Whether files are as they were written: results, unfinished work, networks in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from geomadv.errors import InputError
from geomadv.networks.cache import check_cached
from geomadv.networks.pretrained import check_pretrained
from geomadv.networks.zoo import ZOO
from geomadv.results.files import check_file
from geomadv.results.store import check_area

_AS_WRITTEN = "as it was written"
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
    if _AREA in (file.suffix, file.parent.suffix):
        file = file if file.suffix == _AREA else file.parent
        return f"unfinished, {check_area(file)} parts are as they were written"
    if file.suffix != _WEIGHTS:
        return _AS_WRITTEN if check_file(file) else _UNSEALED
    known = {s.weights.file: s.weights.sha256 for s in ZOO.values() if s.weights is not None}
    if file.name in known:
        check_pretrained(file, known[file.name])
        return "the tensors that were published"
    return _AS_WRITTEN if check_cached(file)[1] else _UNSEALED

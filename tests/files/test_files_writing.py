"""Files that appear by rename: whole, or not at all, after a power failure too."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from geomadv.errors import InputError
from geomadv.files.writing import write_whole


def test_content_then_name_then_the_folder_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        fsync(descriptor)
        # The content is there by then: nothing waits in a buffer of Python's.
        status = os.fstat(descriptor)
        events.append(("flushed", status.st_ino))
        if status.st_ino != tmp_path.stat().st_ino:
            assert status.st_size == len(b"content")

    def renamed(source: Any, target: Any) -> None:
        events.append(("renamed", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    path = tmp_path / "a.json"
    write_whole(path, "content")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert events == [("flushed", file), ("renamed", file), ("flushed", folder)]
    assert path.read_text() == "content"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_what_the_disk_refuses_leaves_the_earlier_file_and_no_litter(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "a.json"
    write_whole(path, "earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a\.json .*disk or the quota is full"):
            write_whole(path, bytes(2_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "earlier"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]

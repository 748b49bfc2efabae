"""Locks on folders: one holder at a time, also where holders remove the folder when they end."""

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest
from processes_for_tests import FORK, run, start

from geomadv.errors import InputError
from geomadv.files import FolderLock


def test_a_lock_is_free_after_release_and_removal(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    lock = FolderLock(folder)
    assert lock.held
    with pytest.raises(InputError, match=f"in use by process {os.getpid()} on "):
        FolderLock(folder)
    lock.release()
    lock.release()
    assert not lock.held
    second = FolderLock(folder)
    second.remove()
    assert not second.held
    assert not folder.exists()
    FolderLock(folder).release()


def test_a_folder_in_which_another_process_waits_stays(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "folder")
    (tmp_path / "folder" / "of another").touch()
    lock.remove()
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["of another"]


def contend(folder: Path, log: Path) -> None:
    """Ten times: holds the lock while it changes the log, then removes the folder or leaves it."""
    for turn in range(10):
        while True:
            try:
                lock = FolderLock(folder)
                break
            except InputError:
                time.sleep(0.001)
        before = log.read_text()
        time.sleep(0.002)
        log.write_text(f"{before}{os.getpid()}\n")
        if turn % 2:
            lock.remove()
        else:
            lock.release()


def test_processes_that_remove_the_folder_never_hold_it_together(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    processes = [start(contend, tmp_path / "folder", log) for _ in range(4)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    lines = log.read_text().split()
    assert sorted(lines) == sorted(str(process.pid) for process in processes for _ in range(10))


def hold(folder: Path, ready: Any) -> None:
    lock = FolderLock(folder)
    ready.set()
    time.sleep(60)
    lock.release()


def test_a_dead_process_holds_nothing_and_a_child_frees_nothing(tmp_path: Path) -> None:
    ready = FORK.Event()
    process = start(hold, tmp_path, ready)
    assert ready.wait(30)
    with pytest.raises(InputError, match=f"in use by process {process.pid} on "):
        FolderLock(tmp_path)
    process.kill()
    process.join()
    lock = FolderLock(tmp_path)
    assert run(time.sleep, 0) == 0  # a child that inherits the lock, and ends
    with pytest.raises(InputError, match="in use"):
        FolderLock(tmp_path)
    lock.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="file system without locks|falling back"):
        lock = FolderLock(tmp_path / "folder")
    assert lock.held
    lock.remove()
    assert not (tmp_path / "folder").exists()


@pytest.mark.filterwarnings("error")
def test_what_the_disk_refuses_is_no_matter_of_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        FolderLock(tmp_path / "file" / "folder")

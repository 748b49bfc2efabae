"""Processes that are killed in the midst of changing files."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from geomadv.files.writing import OutputFile

# fork: a child starts in milliseconds, without importing torch again.
FORK = multiprocessing.get_context("fork")


def start(function: Callable[..., object], *args: object) -> BaseProcess:
    process = FORK.Process(target=function, args=args)
    process.start()
    return process


def run(function: Callable[..., object], *args: object) -> int | None:
    """Exit code of a process that runs the function; negative: the signal that ended it."""
    process = start(function, *args)
    process.join()
    return process.exitcode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash_at(job: Callable[[Path], object], call: str, count: int, when: str, path: Path) -> None:
    """Runs the job and kills the process at the count-th call of a function that changes files."""
    owner: Any = {"unlink": Path, "write": OutputFile}.get(call, os)
    original = getattr(owner, call)
    calls = 0

    def fatal(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and when == "before":
            die()
        result = original(*args, **options)
        if calls == count and when == "after":
            die()
        return result

    setattr(owner, call, fatal)
    job(path)

"""Figures drawn by a process beside the one that computes."""

from __future__ import annotations

import errno
import multiprocessing
import sys
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from geomadv import distributed
from geomadv.errors import InputError
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.figures import Say, draw_experiment

# Lines that drawing an experiment's figures gave, and why it failed.
_Drawn = tuple[list[str], Exception | None]


class Drawer:
    """Draws figures that are asked for, one experiment after the other, in a process of its own.

    Experiments of small networks keep one core busy, and figures are a quarter of a whole study of
    the digits. The process is forked on entry, when this one has started no threads and no GPU yet,
    and so has nothing to import. Figures are drawn here where it has died, where forks are not safe
    with the libraries in use (all but Linux), and under torchrun, where it would hold connections
    open that must end with this process.

    Args:
        table: experiments by name.
        say: where lines go.
    """

    def __init__(self, table: Mapping[str, Experiment], say: Say) -> None:
        self._table, self._say = table, say
        self._asked: list[tuple[str, Path]] = []
        self._process: BaseProcess | None = None

    def __enter__(self) -> Self:
        if distributed.forks_are_safe():
            self._pipe, theirs = multiprocessing.Pipe()
            self._process = distributed.fork(_serve, theirs, self._pipe, self._table)
            theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Ends the process; where a refusal ends the run, what was asked for is drawn before."""
        try:
            if isinstance(error, InputError):
                for name, failure in self.told(wait=True):
                    print(f"error: {name}: {failure}", file=sys.stderr)
        finally:
            if self._process is not None:
                self._pipe.close()
                self._process.terminate()
                self._process.join()

    def draw(self, name: str, folder: Path) -> None:
        """Asks for the figures of an experiment's result in a folder that are older than it."""
        if not distributed.is_main():
            return
        self._asked.append((name, folder))
        if self._process is not None:
            try:
                self._pipe.send((name, folder))
            except OSError:  # it has died, which `told` sees
                return

    def told(self, *, wait: bool = False) -> Iterator[tuple[str, Exception]]:
        """Says what has been drawn since the last call, in the order in which it was asked for.

        Args:
            wait: until all is drawn.

        Yields:
            Experiments whose figures could not be drawn, and why.
        """
        while self._asked and (wait or self._process is None or self._pipe.poll()):
            name, folder = self._asked[0]
            lines, error = self._received() or _draw(self._table[name], folder)
            del self._asked[0]
            for line in lines:
                self._say(line)
            if error is not None:
                yield name, error

    def _received(self) -> _Drawn | None:
        """The oldest answer; None without a process."""
        if self._process is None:
            return None
        try:
            answer: _Drawn = self._pipe.recv()
        except (EOFError, OSError):
            self._pipe.close()
            self._process.join()
            self._process = None
            return None
        return answer


def _serve(pipe: Connection, other: Connection, table: Mapping[str, Experiment]) -> None:
    """What the process does until the other end of its pipe is closed."""
    other.close()
    try:
        while True:
            name, folder = pipe.recv()
            pipe.send(_draw(table[name], folder))
    except (EOFError, OSError):
        return


def _draw(experiment: Experiment, folder: Path) -> _Drawn:
    lines: list[str] = []
    try:
        draw_experiment(experiment, folder, lines.append, only_newer=True)
    except InputError as error:
        # Of a folder that may only be read, which holds the result: all is done but its figures.
        if getattr(error.__cause__, "errno", None) in (errno.EROFS, errno.EACCES):
            return [*lines, f"note: no figures of {experiment.name}: {error}"], None
        return lines, error
    except Exception:  # of any class, which may not go through a pipe
        return lines, RuntimeError(f"figures of {experiment.name}: {traceback.format_exc()}")
    return lines, None

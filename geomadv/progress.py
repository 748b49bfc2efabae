"""Progress bars, which move on a terminal and in notebooks; in a log file, a line a minute."""

import sys
import warnings
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import tqdm as standard

with warnings.catch_warnings():  # a notebook without ipywidgets gets the bars of a terminal
    warnings.simplefilter("ignore")
    import tqdm.auto as automatic

# Seconds between two lines of a log file; what is done sooner writes none.
_LOG_INTERVAL = 60.0


class _Ending:
    """A bar is full where its work ended by itself: searches may need less than they promised."""

    n: float
    total: float | None

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is None and self.total:
            self.total = self.n
        super().__exit__(kind, *rest)  # type: ignore[misc]


class _Bar(_Ending, automatic.tqdm):  # type: ignore[type-arg]
    """A bar that moves, and goes when its work is done: what was found is said in a line then."""


class _LogBar(_Ending, standard.tqdm):  # type: ignore[type-arg]
    """A bar that writes lines instead of overwriting one."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What writes a state of the bar."""

        def write(state: str) -> None:
            file.write(f"{state}\n")
            file.flush()

        return write


def catching_up(bar: Any, sizes: Iterable[int]) -> Callable[[], object]:
    """What sets a bar to the end of the next part whenever it is called, if it is not there yet.

    sizes: of the parts, in the bar's unit; bars move inside parts, but not for those kept already.
    """
    ends = accumulate(sizes)
    return lambda: bar.update(max(0, next(ends) - bar.n))


def tqdm(iterable: Iterable[Any] | None = None, *, disable: bool = False, **how: Any) -> Any:
    """`tqdm.auto.tqdm` that is gone when done; where errors go to a file, a line a minute.

    Args:
        iterable: what is gone through, if anything.
        disable: show nothing.
        **how: total, desc, unit, initial; leave=True for what shall stay on the screen, delay=0 for
            what a log file shall tell at once.
    """
    if disable or "ipykernel" in sys.modules or sys.stderr.isatty():
        return _Bar(iterable, disable=disable, **({"leave": False} | how))
    slow = {"mininterval": _LOG_INTERVAL, "delay": _LOG_INTERVAL, "miniters": 1, "ncols": 100}
    return _LogBar(iterable, **(slow | how))

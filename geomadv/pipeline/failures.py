"""What failed in a study that goes on without it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

from geomadv import distributed
from geomadv.errors import InputError, LackingError

_FAULT = (
    "this is no refusal but a fault, of geomadv or of the network's own code; its trace stands "
    "above, please report it. Everything else runs."
)


class Failures:
    """Takes what experiments, figures and pages of a study raise, says it, and remembers whose.

    Args:
        essential: experiments without which the others make no sense.
        say: where lines go.
    """

    def __init__(self, essential: Sequence[str], say: Callable[[str], None]) -> None:
        self._essential, self._say = essential, say
        self.names: list[str] = []

    def take(self, name: str, error: Exception) -> None:
        """Says it; raises it again where nothing can go on after it."""
        if name in self._essential or not _may_go_on(error):
            raise error
        if isinstance(error, LackingError):
            self._say(f"left out: {error}")
            return
        self.names.append(name)
        if distributed.is_main():
            expected = isinstance(error, InputError)
            if not expected:
                traceback.print_exception(error)
            print(f"error: {name}: {error if expected else _FAULT}", file=sys.stderr)

    def made(self, what: str, make: Callable[[], object]) -> str:
        """What is made at the end, as text; "none" where that fails."""
        try:
            return str(make())
        except Exception as error:
            self.take(what, error)
            return "none"

    def refuse(self) -> None:
        """Raises `InputError` if anything failed."""
        if self.names:
            raise InputError(
                f"these failed, see their messages above: {', '.join(self.names)}. All others are "
                "done, and the same command tries these again."
            )


def _may_go_on(error: Exception) -> bool:
    """Processes that work together cannot when one of them is elsewhere, nor without a disk."""
    alone = distributed.size() == 1 and not isinstance(error, OSError)
    return isinstance(error, InputError) or alone

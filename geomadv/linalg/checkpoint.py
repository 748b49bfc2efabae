"""The state of a long eigensolve on disk: whole or not at all, and only for the same solve."""

import time
from pathlib import Path

from geomadv.errors import InputError
from geomadv.files.statefile import StateFile
from geomadv.linalg.lanczos import KrylovSpace

# Seconds between two writes, and the least share of the time between them spent without writing.
_INTERVAL = 30.0
_SPARE = 10
# Another batch size or device changes products in their last digits, other boundary points or
# another step by per cents.
_SAME_PRODUCT = 1e-3


class Checkpoint:
    """A NumPy .npz file (no pickle) with the state of a Krylov space and the solve's settings.

    Args:
        path: the file; its folder is created.
        settings: what must be the same when the solve goes on.

    Raises:
        InputError: the folder cannot be created or written to.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self._path = path
        self._file = StateFile(path, settings)
        self._due = time.monotonic() + _INTERVAL

    def load_into(self, space: KrylovSpace) -> None:
        """Restores the space from the file, if there is one.

        Raises:
            InputError: the file is damaged, or of a solve with other settings or operator.
        """
        state = self._file.load()
        if state is None:
            return
        try:
            size = state["projected"].shape[1]
        except (KeyError, IndexError) as error:
            raise InputError(
                f"checkpoint: {self._path} cannot be read ({error}). Remove it to start anew."
            ) from error
        fits = size <= space.capacity
        self._refuse_unless(fits, f"of {size} products", f"at most {space.capacity}")
        space.restore(state)
        difference = space.product_error(0) if size > 0 else 0.0
        self._refuse_unless(
            difference <= _SAME_PRODUCT,
            f"of another operator (products differ by {difference:.1g})",
            "the operator that it was written for",
        )

    def save_if_due(self, space: KrylovSpace) -> None:
        """Writes the state when the last time is half a minute and ten times the writing ago."""
        if time.monotonic() >= self._due:
            self.save(space)

    def save(self, space: KrylovSpace) -> None:
        """Writes the state; a disk that refuses costs a warning, not the solve."""
        start = time.monotonic()
        self._file.save(space.state())
        now = time.monotonic()
        self._due = now + max(_INTERVAL, _SPARE * (now - start))

    def remove(self) -> None:
        """Removes the file: the solve is done."""
        self._file.remove()

    def _refuse_unless(self, condition: bool, found: str, expected: str) -> None:
        if not condition:
            raise InputError(
                f"checkpoint: {self._path} is {found}, expected {expected}. Use another file, or "
                "remove this one to start anew."
            )

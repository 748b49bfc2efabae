"""The state of a long eigensolve on disk: whole or not at all, and only for the same solve."""

import hashlib
import os
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from geomadv.errors import InputError, decoding
from geomadv.linalg.lanczos import KrylovSpace

# Seconds between two writes, and the least share of the time between them spent without writing.
_INTERVAL = 30.0
_SPARE = 10
# Another batch size or device changes products in their last digits, other boundary points or
# another step by per cents.
_SAME_PRODUCT = 1e-3


def _digest(state: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the arrays; older files have none beside them."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = np.asarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
        self._settings = settings
        self._due = time.monotonic() + _INTERVAL
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(path.parent, os.W_OK) and not path.is_dir()
        except OSError:
            writable = False
        if not writable:
            raise InputError(f"checkpoint: cannot write {path}. Choose a file in another folder.")

    def load_into(self, space: KrylovSpace) -> None:
        """Restores the space from the file, if there is one.

        Raises:
            InputError: the file is damaged, or of a solve with other settings or operator.
        """
        if not self._path.exists():
            return
        with self._decoding(), np.load(self._path, allow_pickle=False) as file:
            state: dict[str, Any] = dict(file)
            found, size = str(state.pop("settings")), state["projected"].shape[1]
            if str(state.pop("sha256", _digest(state))) != _digest(state):
                raise ValueError("its numbers are not those that were written")
            if not all(np.isfinite(v).all() for v in state.values() if v.dtype.kind == "f"):
                raise ValueError("it holds NaN or infinite numbers")
        self._refuse_unless(found == self._settings, f"of {found}", self._settings)
        fits = size <= space.capacity
        self._refuse_unless(fits, f"of {size} products", f"at most {space.capacity}")
        with self._decoding():
            space.restore(state)
        difference = space.product_error(0) if size > 0 else 0.0
        self._refuse_unless(
            difference <= _SAME_PRODUCT,
            f"of another operator (products differ by {difference:.1g})",
            "the operator that it was written for",
        )

    def _decoding(self) -> AbstractContextManager[None]:
        return decoding(f"checkpoint: {self._path}", "remove it to start anew")

    def save_if_due(self, space: KrylovSpace) -> None:
        """Writes the state when the last time is half a minute and ten times the writing ago."""
        if time.monotonic() >= self._due:
            self.save(space)

    def save(self, space: KrylovSpace) -> None:
        """Writes the state; a disk that refuses costs a warning, not the solve."""
        start = time.monotonic()
        state: dict[str, Any] = space.state()
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                told: dict[str, Any] = {
                    "settings": np.array(self._settings),
                    "sha256": np.array(_digest(state)),
                }
                np.savez(file, **told, **state)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            warnings.warn(f"checkpoint {self._path} not written: {error}.", stacklevel=2)
        finally:
            temporary.unlink(missing_ok=True)
        now = time.monotonic()
        self._due = now + max(_INTERVAL, _SPARE * (now - start))

    def remove(self) -> None:
        """Removes the file: the solve is done."""
        self._path.unlink(missing_ok=True)

    def _refuse_unless(self, condition: bool, found: str, expected: str) -> None:
        if not condition:
            raise InputError(
                f"checkpoint: {self._path} is {found}, expected {expected}. Use another file, or "
                "remove this one to start anew."
            )

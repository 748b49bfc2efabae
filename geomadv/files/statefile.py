"""The state of a long computation on disk: whole or not at all, and only for the same one."""

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomadv.errors import InputError


class StateFile:
    """A NumPy .npz file (no pickle) with arrays and the settings that they belong to.

    Args:
        path: the file; its folder is created.
        settings: what must be the same when the computation goes on.

    Raises:
        InputError: the folder cannot be created or written to.
    """

    def __init__(self, path: str | os.PathLike[str], settings: str) -> None:
        self._path = Path(path)
        self._settings = settings
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._path.parent, os.W_OK) and not self._path.is_dir()
        except OSError:
            writable = False
        if not writable:
            raise InputError(
                f"checkpoint: cannot write {self._path}. Choose a file in another folder."
            )

    def load(self) -> dict[str, Any] | None:
        """The arrays of the file; None where there is none yet.

        Raises:
            InputError: the file is damaged, or belongs to other settings.
        """
        if not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                state = dict(file)
            settings = str(state.pop("settings"))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"checkpoint: {self._path} cannot be read ({error}). Remove it to start anew."
            ) from error
        if settings != self._settings:
            raise InputError(
                f"checkpoint: {self._path} is of {settings}, expected {self._settings}. Use "
                "another file, or remove this one to start anew."
            )
        return state

    def save(self, arrays: Mapping[str, Any]) -> None:
        """Writes the arrays; a disk that refuses costs a warning, not the computation."""
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                np.savez(file, settings=np.array(self._settings), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            warnings.warn(f"checkpoint {self._path} not written: {error}.", stacklevel=2)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the file: the computation is done."""
        self._path.unlink(missing_ok=True)

"""Weight files: found, read without running code, and put into a module."""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geomadv.errors import InputError
from geomadv.files.places import CACHE_VARIABLE, DATA_VARIABLE, cache_dir, data_dir

_PICKLED = (".pt", ".pth", ".th")
_SHOWN = 6  # entries of a list in a message


def weight_folders() -> list[Path]:
    """Folders where weight files are looked up by name, in order."""
    data = data_dir()
    return [*([] if data is None else [data / "weights"]), cache_dir() / "weights"]


def find_weights(name: str | Path) -> Path:
    """The weight file of this name or path.

    A relative path is looked up in the current folder, in `weights/` of GEOMADV_DATA and in
    `weights/` of the cache.

    Raises:
        InputError: no such file; the message lists the places.
    """
    path = Path(name).expanduser()
    places = [path] if path.is_absolute() else [path, *(f / path for f in weight_folders())]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"weights={str(name)!r} not found; looked for {', '.join(map(str, places))}. "
        f"Put the file there, give its full path, or set {DATA_VARIABLE} to the folder whose "
        "sub-folder weights/ holds it."
    )


def find_pretrained(network: str, file: str) -> Path:
    """The pretrained weights of a network of the zoo.

    Raises:
        InputError: the file is in none of the folders.
    """
    folders = weight_folders()
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise InputError(
        f"network {network!r} needs its pretrained weights {file}, which are not in "
        f"{' or '.join(map(str, folders))}. Set {DATA_VARIABLE} to the folder whose sub-folder "
        f"weights/ holds the file (or put it into weights/ of the cache, {CACHE_VARIABLE}), or "
        "give weights='path/to/file'."
    )


def check_sha256(path: Path, expected: str) -> None:
    """Refuses a pretrained file with other bytes than the published ones.

    Raises:
        InputError: the checksums differ.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} is not the file that geomadv knows: sha256 {found}, expected {expected}. "
            "It is damaged or another version. Fetch it anew; to use weights of your own, name "
            "them with the argument weights."
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a weight file: parameter name -> tensor on the CPU.

    path: `.safetensors`, or `.pt`, `.pth`, `.th` read with `weights_only=True`; there a
        `{"state_dict": ...}` around the tensors is taken off, as is a `module.` prefix of all
        names (left by `DataParallel`).

    Raises:
        InputError: another suffix, a damaged file, a pickle that holds more than tensors, or one
            that is no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            state: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"weights {path} cannot be read as safetensors: {error}. The file is damaged or "
                "of another format; fetch it anew."
            ) from error
        return _without_prefix(state)
    if path.suffix in _PICKLED:
        return _without_prefix(_state_dict(_unpickle(path), path))
    raise InputError(
        f"weights {path} have the suffix {path.suffix!r}; geomadv reads .safetensors and, with "
        f"tensors only, {', '.join(_PICKLED)}."
    )


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights {path} hold more than tensors, or are damaged; geomadv runs no code from a "
            "file. If you trust its source, load it yourself, then save the tensors alone: "
            "torch.save(model.state_dict(), 'weights.pt'), or safetensors.torch.save_file. "
            f"({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"weights {path} cannot be read: {error}. The file is damaged; fetch it anew."
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and content:
        state = {str(key): value for key, value in content.items()}
        if all(isinstance(value, Tensor) for value in state.values()):
            return state
    raise InputError(
        f"weights {path} hold no state dict (a mapping from parameter names to tensors, or such a "
        "mapping under the key 'state_dict'). Save it with torch.save(model.state_dict(), path)."
    )


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "module."
    if all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _listed(title: str, entries: list[str]) -> str:
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"{title}: {', '.join(entries[:_SHOWN])}{more}. " if entries else ""


def put_weights(module: nn.Module, state: Mapping[str, Tensor], origin: str, network: str) -> None:
    """Loads a state dict into the module, in place; all names and shapes must agree.

    Batch-norm's `num_batches_tracked`, which no score depends on, may be missing.

    Raises:
        InputError: lists missing names, unexpected names and differing shapes.
    """
    own = module.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - counters)
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        raise InputError(
            f"weights {origin} do not fit network {network!r}. "
            + _listed("Missing", missing)
            + _listed("Unexpected", unexpected)
            + _listed("Shapes", shapes)
            + "Give the weights of this architecture, or the network that they belong to."
        )
    module.load_state_dict({**{k: own[k] for k in counters}, **state}, strict=True)

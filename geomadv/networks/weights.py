"""Weight files: found, and read by their content without running code."""

import itertools
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from geomadv.errors import InputError
from geomadv.files.kinds import other_kind
from geomadv.files.places import DATA_VARIABLE, cache_dir, data_dir

_FETCH = "It is damaged or cut off; fetch it anew."
_STATE_DICT = "torch.save(model.state_dict(), 'weights.pt')"
# Members of zip archives that are no state dicts, what these are, and what to do.
_ARCHIVES = (
    (
        r"(^|/)constants\.pkl$",
        "a TorchScript archive: a network with its code, not a state dict",
        "If you trust its source, use it as it is: Classifier(torch.jit.load({path!r}), "
        "input_shape=...), from the command line through a function that returns it.",
    ),
    (
        r"serialized_exported_program|(^|/)archive_format$",
        "an exported program (torch.export), not a state dict",
        f"Save the weights of its module: {_STATE_DICT}.",
    ),
    (r"\.npy$", "a NumPy .npz archive", "Save its arrays as a state dict of tensors."),
    (r"\.h5$", "a Keras archive", "Convert its arrays to a PyTorch state dict."),
    ("", "a zip archive without tensors of torch.save", "Unpack it and name the file inside."),
)
# Of mappings inside mappings, and how many things they hold: a pickle may hold itself.
_DEPTH, _MOST_ITEMS = 12, 10**5
# torch.save does not compress; archives that were packed again become a little smaller.
_MOST_EXPANSION, _SPARE = 16, 2**26


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
    for place in places:
        if os.path.lexists(place):
            raise other_kind(place, "the weight file") or AssertionError(place)
    raise InputError(
        f"weights={str(name)!r} not found; looked for {', '.join(map(str, places))}. "
        f"Put the file there, give its full path, or set {DATA_VARIABLE} to the folder whose "
        "sub-folder weights/ holds it."
    )


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint.

    Attributes:
        value: as stored; numbers beside the tensors (a mean in a configuration) as float64.
        node: name of the mapping that it stands in, "" for the outermost.
        stored: it is a tensor in the file, not numbers.
    """

    value: Tensor
    node: str
    stored: bool


@dataclass(frozen=True)
class Checkpoint:
    """What a weight file holds.

    Attributes:
        origin: the file, for messages.
        keys: of the outermost mapping.
        entries: by name; names inside mappings begin with the mappings' keys and a dot.
    """

    origin: str
    keys: tuple[str, ...]
    entries: dict[str, Entry]


def read_checkpoint(path: Path) -> Checkpoint:
    """All tensors of a weight file, on the CPU; its first bytes decide what it is.

    safetensors, or what `torch.save` wrote, in the zip or the older format, with tensors anywhere
    in mappings and lists. No code of the file runs (`weights_only=True`).

    Raises:
        InputError: another format, a damaged file, or a pickle that holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise other_kind(path, "the weight file") or _unreadable(path, error) from error
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        content: Any = _safetensors(path)
    else:
        _check_format(path, head)
        content = _unpickled(path)
    inside = content if isinstance(content, Mapping | list | tuple) else {}
    keys = tuple(map(str, inside if isinstance(inside, Mapping) else range(len(inside))))
    entries = dict(itertools.islice(_entries(inside, "", 0), _MOST_ITEMS + 1))
    if len(entries) > _MOST_ITEMS:
        raise InputError(
            f"weights {path} hold more than {_MOST_ITEMS} tensors, perhaps in lists of the same "
            f"lists. Save the state dict alone: {_STATE_DICT}."
        )
    return Checkpoint(str(path), keys, entries)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:  # damaged bytes may raise anything
        raise InputError(
            f"weights {path} cannot be read as safetensors: {error}. {_FETCH}"
        ) from error
    return state


def _check_format(path: Path, head: bytes) -> None:
    """Refuses what `torch.save` did not write, by name."""
    if error := other_kind(path, "the weight file", ("zip",)):
        raise error
    found = _archive(path) if head.startswith(b"PK") else []
    if not head.startswith((b"PK", b"\x80")):
        what = "in none of the formats that geomadv reads: safetensors, or tensors of torch.save"
        found = [(what, f"Save them with {_STATE_DICT}.")]
    if found:
        what, remedy = found[0]
        raise InputError(f"weights {path} are {what}. {remedy}")


def _archive(path: Path) -> list[tuple[str, str]]:
    """What a zip archive is, and what to do; nothing for one of `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            size = sum(info.file_size for info in archive.infolist())
    except Exception as error:  # damaged bytes may raise anything
        return [(f"a zip archive that cannot be read ({error})", _FETCH)]
    if size > _MOST_EXPANSION * path.stat().st_size + _SPARE:
        return [(f"a zip archive that would unpack to {size} bytes, which no weights do", _FETCH)]
    for pattern, what, remedy in _ARCHIVES:
        tensors = not pattern and any(re.search(r"(^|/)data\.pkl$", m) for m in members)
        if not tensors and any(re.search(pattern, member) for member in members):
            return [(what, remedy.format(path=str(path)))]
    return []


class _Ignored:
    """Stands in for an object beside the tensors; it keeps nothing and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# Of training scripts: flags, accuracies and paths, often saved beside the tensors.
_BESIDE = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "pathlib.PosixPath",
)


def _stand_ins() -> AbstractContextManager[Any]:
    """The context in which such objects are read as nothing; torch before 2.5 has none."""
    places = (name.rpartition(".") for name in _BESIDE)
    kinds = [type(name, (_Ignored,), {"__module__": module}) for module, _, name in places]
    context = getattr(torch.serialization, "safe_globals", None)
    result: AbstractContextManager[Any] = context(kinds) if context else nullcontext()
    return result


def _unpickled(path: Path) -> Any:
    try:
        with _stand_ins(), path.open("rb") as file:  # given the path, torch heeds its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"more than tensors ({found[1]})" if found else "more than tensors, or are damaged"
        raise InputError(
            f"weights {path} hold {what}: a whole network, perhaps, or objects beside its weights. "
            "geomadv runs no code from a file. If you trust its source, load it yourself with "
            f"torch.load(path, weights_only=False), then save the tensors alone: {_STATE_DICT}, "
            "or safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except Exception as error:  # damaged bytes may raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    line = str(error).strip().split("\n")[0]
    return InputError(f"weights {path} cannot be read: {line} {_FETCH}")


def _entries(content: Any, node: str, depth: int) -> Iterator[tuple[str, Entry]]:
    items = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in items:
        name = f"{node}.{key}" if node else str(key)
        if isinstance(value, Tensor) and not value.is_nested:
            yield name, Entry(value.detach(), node, stored=True)
        elif _are_numbers(value):
            yield name, Entry(torch.tensor(value, dtype=torch.float64), node, stored=False)
        elif isinstance(value, Mapping | list | tuple) and depth < _DEPTH:
            yield from _entries(value, name, depth + 1)


def _are_numbers(value: Any) -> bool:
    """A number, or a few, as the mean of a normalisation may be written."""
    if isinstance(value, list | tuple):
        return 0 < len(value) <= 4 and all(isinstance(v, float) for v in value)
    return isinstance(value, float)

"""Pretrained weights of the zoo: found on this machine, or downloaded, converted and kept."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from geomadv.errors import InputError
from geomadv.files.download import fetch, work_area
from geomadv.files.places import CACHE_VARIABLE, DATA_VARIABLE, cache_dir
from geomadv.networks.convert import Reader, named
from geomadv.networks.spec import NetworkSpec, Pretrained
from geomadv.networks.weights import Checkpoint, read_checkpoint, weight_folders


def find_pretrained(weights: Pretrained) -> Path | None:
    """The converted file, in `weights/` of GEOMADV_DATA or of the cache; None where it is not."""
    places = (folder / weights.file for folder in weight_folders())
    return next((path for path in places if path.is_file()), None)


def load_pretrained(spec: NetworkSpec, weights: Pretrained, progress: bool) -> Checkpoint:
    """The pretrained tensors of a network of the zoo, checked by their checksum.

    Args:
        spec: the network.
        weights: its `spec.weights`.
        progress: show a bar per download.

    Raises:
        InputError: the file at hand holds other tensors; or there is none and no download of it
            (no public address, no connection, another file than the published one).
    """
    path = find_pretrained(weights)
    if path is None:
        try:
            path = _download(spec, weights, progress)
        except InputError as error:
            raise _missing(spec, weights, str(error).removesuffix(".")) from error
    checkpoint, found = _read(path)
    if found != weights.sha256:
        raise InputError(
            f"{path} does not hold the weights that geomadv knows as network {spec.name!r}: sha256 "
            f"of the tensors {found}, expected {weights.sha256}. It is damaged or another version: "
            "remove it, and it is fetched anew; to use weights of your own, name them with the "
            "argument weights."
        )
    return checkpoint


def _read(path: Path) -> tuple[Checkpoint, str]:
    """A weight file, and the checksum of its tensors."""
    checkpoint = read_checkpoint(path)
    return checkpoint, tensors_sha256({n: e.value for n, e in checkpoint.entries.items()})


def check_pretrained(path: Path, sha256: str) -> None:
    """Raises an `InputError` where the tensors of a file have another checksum."""
    found = _read(path)[1]
    if found != sha256:
        raise InputError(
            f"its tensors have the sha256 {found}, expected {sha256}: remove it, and it is fetched "
            "anew."
        )


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, in alphabetical order, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _download(spec: NetworkSpec, weights: Pretrained, progress: bool) -> Path:
    """The converted file in the cache, which appears there as a whole or not at all."""
    if weights.read is None:
        raise InputError(f"there is no download of them ({weights.origin})")
    path = cache_dir() / "weights" / weights.file
    with work_area(path.parent) as work:
        fetch(weights.remote, work, progress)
        tensors = _converted(spec, weights, weights.read, work)
        whole = work / weights.file
        whole.write_bytes(save(tensors, {"source": weights.origin, "licence": weights.licence}))
        os.replace(whole, path)
    return path


def _converted(
    spec: NetworkSpec, weights: Pretrained, read: Reader, folder: Path
) -> dict[str, Tensor]:
    url = weights.remote[0].url
    with torch.device("meta"):
        module = spec.build()
    try:
        tensors = named(module, read(folder / weights.inside), weights.half)
    except Exception as error:  # damaged bytes may raise anything
        # What the reader of the user's own files advises does not apply to this one.
        reason = re.split(r"[.:] ", str(error).replace(f"{folder}{os.sep}", ""))[0]
        raise InputError(
            f"what was downloaded from {url} cannot be converted ({reason})"
        ) from error
    found = tensors_sha256(tensors)
    if found != weights.sha256:
        raise InputError(
            f"what was downloaded from {url} holds other weights than it did when geomadv was "
            f"made: sha256 of the tensors {found}, expected {weights.sha256}; nothing of it is kept"
        )
    return tensors


def _missing(spec: NetworkSpec, weights: Pretrained, reason: str) -> InputError:
    folders = " or ".join(map(str, weight_folders()))
    again = "Try again, set" if weights.remote else "Set"
    return InputError(
        f"network {spec.name!r} needs its pretrained weights {weights.file}, which are not in "
        f"{folders}, and {reason}. {again} {DATA_VARIABLE} to the folder whose sub-folder weights/ "
        f"holds the file (or put it into weights/ of the cache, {CACHE_VARIABLE}), or give "
        "weights='path/to/file' (--weights)."
    )

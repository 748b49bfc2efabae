"""Trained networks, kept on disk under a name that says what they were trained from."""

import dataclasses
import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.errors import InputError, decoding
from geomadv.files.places import CACHE_VARIABLE, cache_dir
from geomadv.files.writing import remove_strays, temporary
from geomadv.images import ImageSet, load_images
from geomadv.networks.accuracy import accuracy
from geomadv.networks.fitting import put_weights
from geomadv.networks.pretrained import tensors_sha256
from geomadv.networks.spec import NetworkSpec
from geomadv.networks.training import train
from geomadv.networks.weights import Checkpoint, read_checkpoint
from geomadv.networks.zoo import ZOO

# Raised when `train` changes so that the same recipe gives other weights.
TRAINING_VERSION = 1


def cache_path(spec: NetworkSpec, images_sha256: str) -> Path:
    """Where the weights of a trained network lie; they need not be there.

    The name holds a hash of everything the weights follow from: architecture, normalisation,
    recipe, training images and the version of the training code.

    images_sha256: checksum (hex) of the training images and labels.
    """
    content = {
        "architecture": repr(spec.build()),
        "mean": spec.mean,
        "std": spec.std,
        "recipe": None if spec.recipe is None else dataclasses.asdict(spec.recipe),
        "images_sha256": images_sha256,
        "training_version": TRAINING_VERSION,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "networks" / f"{spec.name}-{digest[:16]}.safetensors"


def trained(
    spec: NetworkSpec,
    images: ImageSet,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> nn.Module:
    """The trained module from the cache, or trained now on `images` and put there.

    The file's metadata record the test accuracy, recipe, data checksum and versions. A damaged
    file is trained anew, with a warning.

    Raises:
        InputError: the test images cannot be had, or the cache cannot be written (found out
            before training starts).
    """
    path = cache_path(spec, images.sha256)
    if path.is_file():
        module = _read(path, spec)
        if module is not None:
            return module
    test = load_images(spec.dataset, split="test", progress=progress)
    partial = _reserve(path)
    try:
        start = time.perf_counter()
        module = train(spec, progress, images=images, device=device)
        seconds = time.perf_counter() - start
        metadata = _metadata(spec, images, test, module, seconds)
        try:
            _write(partial, module, metadata)
            os.replace(partial, path)
        except (SafetensorError, OSError) as error:
            warnings.warn(
                f"the trained network {spec.name!r} could not be kept in {path.parent}: {error}. "
                f"Free some space or set {CACHE_VARIABLE} to another folder, or it will be trained "
                "again next time.",
                stacklevel=4,
            )
    finally:
        partial.unlink(missing_ok=True)
    return module


def cached_metadata(path: Path) -> dict[str, str]:
    """What a file of the cache says about its training: accuracy, seed, versions and so on."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def check_cached(path: Path) -> tuple[Checkpoint, bool]:
    """The tensors of a file of the cache, and whether they have a checksum, as since 0.2.0.

    Raises:
        InputError: the file is damaged; the message does not name it.
    """
    checkpoint = read_checkpoint(path)
    with decoding("its header", "remove it, and it is made anew"):
        metadata = cached_metadata(path)
    tensors = {name: entry.value for name, entry in checkpoint.entries.items()}
    known = metadata.get("sha256")
    # A checksum whose name is damaged would be none.
    old = known is None and metadata.get("geomadv_version", "").startswith("0.1.")
    if not old and known != _digest(tensors, metadata):
        raise InputError("what it holds is not what was written")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise InputError("it holds NaN or infinite numbers")
    return checkpoint, known is not None


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    rest = {key: text for key, text in metadata.items() if key != "sha256"}
    content = json.dumps([tensors_sha256(tensors), rest], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read(path: Path, spec: NetworkSpec) -> nn.Module | None:
    """The module with the weights of the file; None, with a warning, if these are damaged."""
    module = spec.build().eval()
    try:
        put_weights(module, check_cached(path)[0], spec.name)
    except (OSError, InputError) as error:
        warnings.warn(
            f"the cached network {path} is damaged ({error}); it is trained anew.", stacklevel=4
        )
        return None
    return module


def _reserve(path: Path) -> Path:
    """An empty file beside the final one: shows that the cache can be written."""
    partial = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(path)
        partial.touch()
    except OSError as error:
        raise InputError(
            f"the cache folder {path.parent} cannot be written: {error}. Set {CACHE_VARIABLE} to "
            "a folder of yours; trained networks are kept there."
        ) from error
    return partial


def _metadata(
    spec: NetworkSpec, images: ImageSet, test: ImageSet, module: nn.Module, seconds: float
) -> dict[str, str]:
    net = Classifier(module, spec.input_shape, spec.mean, spec.std, name=spec.name)
    recipe = {} if spec.recipe is None else dataclasses.asdict(spec.recipe)
    return {
        "network": spec.name,
        "dataset": spec.dataset,
        "dataset_sha256": images.sha256,
        "recipe": json.dumps(recipe),
        "seed": str(recipe.get("seed", 0)),
        "test_accuracy": f"{accuracy(net, test):.4f}",
        "test_images": str(len(test)),
        "training_seconds": f"{seconds:.1f}",
        "training_version": str(TRAINING_VERSION),
        "threads": str(torch.get_num_threads()),
        "torch_version": torch.__version__,
        "geomadv_version": version("geomadv"),
    }


def _write(path: Path, module: nn.Module, metadata: dict[str, str]) -> None:
    state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    save_file(state, path, metadata=metadata | {"sha256": _digest(state, metadata)})


def is_at_hand(name: str) -> bool:
    """Whether a network can be had without training: one that is not of the zoo is loaded."""
    spec = ZOO.get(name)
    if spec is None or spec.weights is not None:
        return True
    images = load_images(spec.dataset, split="train", progress=False)
    return cache_path(spec, images.sha256).is_file()

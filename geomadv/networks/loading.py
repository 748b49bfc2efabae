"""load_network: any network, by name, as a Classifier."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geomadv.classifier import Classifier
from geomadv.classifier.checks import image_shape, usable_device
from geomadv.errors import InputError, closest
from geomadv.files.places import data_dir
from geomadv.images import load_images
from geomadv.images.classes import imagenet_classes
from geomadv.images.formats import CIFAR10_NAMES, read_names
from geomadv.networks.cache import trained
from geomadv.networks.fitting import put_weights
from geomadv.networks.pretrained import load_pretrained
from geomadv.networks.sources import HF_CONFIG, Source, open_source
from geomadv.networks.spec import NetworkSpec
from geomadv.networks.weights import find_weights, read_checkpoint
from geomadv.networks.zoo import ZOO, list_networks


def load_network(
    name: str,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    class_names: Sequence[str] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    weights_key: str | None = None,
    output: str | int | None = None,
) -> Classifier:
    """A network by name, ready for analysis.

    A network of the zoo comes from its pretrained file, which is downloaded on its first use, or
    is trained then (progress bars say so), and is kept in the cache. What is not given (shape,
    normalisation, class names) is taken from the zoo, from torchvision or from timm where they
    know it.

    Args:
        name: a name of `list_networks()`; `package.module:function`, where `function()` returns
            an `nn.Module` of logits (the current folder is searched too; random initial weights
            are seeded); `torchvision:NAME`, `timm:NAME`, `hf:NAME`, `robustbench:NAME`, or a folder
            of Hugging Face's `save_pretrained`. The Classifier's name is NAME, or
            package.module.function.
        weights: weight file, a path or a name in `weights/` of GEOMADV_DATA or of the cache:
            safetensors or a checkpoint of `torch.save`, whatever its suffix. The tensors that fit
            the network are found under any key and prefix; no code of the file runs. A
            normalisation among them is applied unless mean or std is given, and `net.note` says
            so. Default: the network's own weights.
        input_shape: (C, H, W) of one image; needed for `package.module:function`.
        mean: subtracted, in the units of the images, a number or one per channel.
        std: divided out, likewise.
        bounds: (low, high) of the pixel values. Known normalisations, made for [0, 1], are
            carried over to other bounds.
        class_names: one name per class.
        device: where the network computes, and is trained if that happens now.
        dtype: in which precision it computes; training is in float32.
        progress: show a bar while images are downloaded and a network is trained.
        weights_key: which part of the file to take where several fit and differ (an average
            beside the raw weights): its key, with a dot before that of an inner mapping.
        output: the field of what the network gives that holds the scores; see `Classifier`.

    Raises:
        InputError: unknown name, missing or unfitting weights, missing data, or a network that
            cannot be analysed (see `Classifier`).
    """
    given = mean is not None or std is not None
    if device is not None:
        usable_device(device)
    if weights is None:
        _check_own_weights(name, weights_key, given)
    if name in ZOO:
        source = _from_zoo(ZOO[name], weights, device, progress)
    elif ":" in name or (Path(name) / HF_CONFIG).is_file():
        source = open_source(name, pretrained=weights is None)
    else:
        raise InputError(
            f"network {name!r} is not known.{closest(name, list_networks())} Known are "
            f"{', '.join(list_networks())}; besides these 'package.module:function', "
            "'torchvision:NAME', 'timm:NAME', 'hf:NAME', 'robustbench:NAME' and folders of Hugging "
            "Face."
        )
    shape = input_shape or source.input_shape
    if shape is None:
        raise InputError(
            f"input_shape is needed for network {name!r}: (channels, height, width) of one image."
        )
    shape = image_shape(shape)
    if weights is not None:
        source = _put_file(source, weights, weights_key, shape, given)
    known_mean, known_std = _in_bounds(source, bounds)
    return Classifier(
        source.module,
        shape,
        known_mean if mean is None else mean,
        known_std if std is None else std,
        bounds,
        source.class_names if class_names is None else class_names,
        name=source.name,
        device=device,
        dtype=dtype,
        output=output,
        note="; ".join(source.notes),
        framing=source.framing,
    )


def _check_own_weights(name: str, weights_key: str | None, normalised: bool) -> None:
    """Refuses what makes sense with weights from a file only."""
    if weights_key is not None:
        raise InputError(
            f"weights_key={weights_key!r} chooses a part of a weight file, and none is given. "
            "Name the file with the argument weights."
        )
    if name in ZOO and normalised:
        spec = ZOO[name]
        raise InputError(
            f"mean and std (--mean, --std): network {name!r} has its own, mean={spec.mean} and "
            f"std={spec.std}, with which its weights were trained; with others it is another "
            "network. Leave them away, or give weights that were trained with them."
        )


def _from_zoo(
    spec: NetworkSpec,
    weights: str | Path | None,
    device: torch.device | str | None,
    progress: bool,
) -> Source:
    if weights is None and spec.weights is None:
        images = load_images(spec.dataset, split="train", progress=progress)
        module = trained(spec, images, progress, device)
        names: Sequence[str] | None = images.class_names
    else:
        module, names = spec.build(), _class_names(spec)
    if weights is None and spec.weights is not None:
        put_weights(module, load_pretrained(spec, spec.weights, progress), spec.name)
    return Source(module, spec.name, spec.input_shape, spec.mean, spec.std, names)


def _put_file(
    source: Source,
    weights: str | Path,
    key: str | None,
    shape: tuple[int, int, int],
    normalised: bool,
) -> Source:
    """The source with weights of a file, and the normalisation beside them.

    normalised: the user gives mean or std, which then stand.
    """
    checkpoint = read_checkpoint(find_weights(weights))
    fitted = put_weights(source.module, checkpoint, source.name, key, shape[0])
    notes = [*source.notes, fitted.note]
    if found := fitted.normaliser:
        where = f"the normalisation in {checkpoint.origin} ({found.name})"
        if normalised:
            notes.append(f"{where} is not applied, as mean or std is given")
        else:
            notes.append(f"{where} is applied")
            source = replace(source, input_shape=shape, mean=found.mean, std=found.std)
    return replace(source, notes=tuple(filter(None, notes)))


def _class_names(spec: NetworkSpec) -> Sequence[str] | None:
    """Names that can be had without reading or downloading images; None for plain numbers."""
    if spec.dataset == "cifar10":
        return CIFAR10_NAMES
    folder = data_dir()
    if spec.dataset == "cifar100" and folder:
        return read_names(
            folder / "cifar100" / "fine_label_names.txt", 100, [*map(str, range(100))]
        )
    if spec.dataset == "imagenet-sample":
        return [name for _, name in imagenet_classes()]
    return None


def _in_bounds(source: Source, bounds: tuple[float, float]) -> tuple[Any, Any]:
    """The source's mean and std, made for [0, 1], for images in other bounds.

    With u = (x - low) / (high - low) in [0, 1], (u - mean) / std is (x - mean') / std' for
    mean' = low + mean (high - low) and std' = std (high - low).
    """
    low, high = bounds
    if (low, high) == (0.0, 1.0) or source.input_shape is None:
        return source.mean, source.std  # without a known shape nothing is known of its scale
    channels, width = source.input_shape[0], high - low
    mean = source.mean or (0.0,) * channels
    std = source.std or (1.0,) * channels
    return tuple(low + m * width for m in mean), tuple(s * width for s in std)

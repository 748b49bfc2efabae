"""What a network of the zoo is, and how one is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from geomadv.files.download import RemoteFile


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: cross-entropy, one-cycle learning rate, fixed seed.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step; the last, shorter batch of an epoch is used too.
        learning_rate: the peak of the one-cycle schedule (Smith and Topin 2018).
        optimizer: "adam", or "sgd" with Nesterov momentum 0.9.
        weight_decay: L2 penalty of the optimizer.
        flip: mirror each image left to right with probability 1/2.
        shift: move each image by up to so many pixels both ways, zeros (mean) come in.
        seed: of the initial weights, the order of the images, dropout and augmentation.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: float = 0.0
    flip: bool = False
    shift: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights: where they come from, and what they must be.

    Attributes:
        file: name of the converted file (safetensors) under `weights/`.
        sha256: checksum (hex) of its tensors, by `pretrained.tensors_sha256`.
        origin: repository, commit and path, or package and version, for people.
        licence: of the weights, as far as it is known.
        remote: files to download.
        inside: the file to read, in the folder where they are downloaded and unpacked.
        read: gives its tensors in PyTorch's layout and the network's order (`convert`); None where
            there is no public address.
        half: they are kept in float16, else in float32.
    """

    file: str
    sha256: str
    origin: str
    licence: str
    remote: tuple[RemoteFile, ...] = ()
    inside: str = ""
    read: Callable[[Path], list[Tensor]] | None = None
    half: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """One network of the zoo.

    Attributes:
        name: the name that `load_network` takes.
        build: makes the module, normalised images (N, C, H, W) -> logits (N, classes).
        dataset: the name that `load_images` takes, of the images it classifies.
        input_shape: (C, H, W).
        mean, std: per channel, for images in [0, 1]; None for none.
        description: one sentence for people.
        weights: pretrained ones, None for a network trained here.
        recipe: how it is trained on first use, None for a network that is only pretrained.
        accuracy: share of test images (of `dataset`) it is known to classify correctly.
        tested: on which images, in words.
    """

    name: str
    build: Callable[[], nn.Module]
    dataset: str
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    description: str
    weights: Pretrained | None = None
    recipe: Recipe | None = None
    accuracy: float | None = None
    tested: str = "test images"

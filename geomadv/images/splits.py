"""Train and test images: divided, joined, compared by content, and numbered alike."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from geomadv.errors import InputError
from geomadv.images.imageset import ImageSet
from geomadv.images.readers import Joined

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


def divided(images: ImageSet) -> dict[str, ImageSet]:
    """One image set as two halves without common images, "train" and "test".

    The division is drawn with a fixed seed, class by class, and is the same everywhere; each half
    keeps the order of the images.

    Raises:
        InputError: fewer than two images.
    """
    return {split: half(images, split) for split in SPLITS}


def half(images: ImageSet, split: str) -> ImageSet:
    """One of the halves of `divided`; the first image of all is in "train"."""
    groups = images.labels.numpy() if images.has_labels else np.zeros(len(images))
    order = np.random.default_rng(0).permutation(len(images))
    order = order[np.argsort(groups[order], kind="stable")]
    chosen = np.sort(order[SPLITS.index(split) :: 2])
    if len(chosen) == 0:
        raise InputError(
            f"image set {images.name!r} has {len(images)} image: at least 2 are needed, one to "
            "train on and one to hold out as split 'test'. Add images, or load split='all'."
        )
    how = "class by class" if images.has_labels else "at random"
    part = images[chosen].noted(f"one of two halves of {len(images):,} images, drawn {how}, seed 0")
    part.name = f"{images.name}-{split}"
    return part


def joined(parts: Sequence[ImageSet], name: str) -> ImageSet:
    """Sets of one class list and shape, one behind the other; pixels are not copied."""
    labels = None
    if all(part.has_labels for part in parts):
        labels = np.concatenate([part.labels.numpy() for part in parts])
    first = parts[0]
    reader = Joined([part.source for part in parts])
    return ImageSet(reader, labels, first.class_names or None, name, first.bounds)


def overlap(train: ImageSet, test: ImageSet) -> int:
    """How many test images are train images, too.

    Images are told by checksums of their pixels; two image folders, which are not decoded for it,
    by checksums of their files.

    Raises:
        InputError: a file cannot be read.
    """
    sources = train.source, test.source
    files = len({type(reader) for reader, _ in sources}) == 1
    known, held_out = (
        list(reader.checksums(index) if files else reader.pixel_checksums(index))
        for reader, index in sources
    )
    seen = set(known)
    return sum(checksum in seen for checksum in held_out)

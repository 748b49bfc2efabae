"""ImageSet: images with labels, wherever the pixels lie."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.doors import check_device, door
from geomadv.errors import InputError, check_counts
from geomadv.images.doors import taken
from geomadv.images.readers import ArrayReader, Reader, as_slice, chunks

# Up to this size the float32 images of a set are kept once read, so that `set.images[i]` in a loop
# does not convert or decode the whole set at each turn.
_KEEP_BYTES = 2**30
# Far more classes than any data set has: a typing error must not fill the memory with names.
MOST_CLASSES = 10**6


class ImageSet:
    """Images, all of one shape, with class labels.

    Slicing and other selections share the pixels of the set they come from. An array given is not
    copied either: do not change it while the set is in use.

    Args:
        images: (N, C, H, W) array or tensor: floating values in the bounds, or uint8, which is
            kept as it is and divided by 255 when read. Or (images, labels), a TensorDataset or
            DataLoader, or any indexable set of (image, label) or of dicts with "image" (or "img")
            and "label", as of torchvision and Hugging Face, whose images are tensors, arrays or
            Pillow's images (`pixels.upright`): it is read into memory once, without a transform
            that is random. Of a loader the data set is taken, in its order, shuffled or not.
        labels: (N,) integers >= 0, or None where there are none.
        class_names: one name per class; default "0", "1", ... up to the largest label.
        name: what results and figures call the images.
        bounds: (low, high) of the pixel values.

    Attributes:
        name: as given.
        bounds: as given, floats.
        class_names: names, where the label is the position; empty without labels and names.

    Raises:
        InputError: another shape or dtype, no images, NaN or infinite pixels, pixels outside the
            bounds (by more than rounding), labels that do not fit the images or the class names.

    Examples:
        >>> pixels = np.zeros((3, 1, 8, 8), dtype=np.uint8)
        >>> mine = ImageSet(pixels, labels=[0, 1, 1], class_names=["cat", "dog"])
        >>> len(mine), mine.shape, len(mine.of_class("dog"))
        (3, (1, 8, 8), 2)
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "images",
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if len(bounds) != 2 or not -np.inf < bounds[0] < bounds[1] < np.inf:
            raise InputError(f"bounds={tuple(bounds)} must be finite (low, high) with low < high.")
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.name = name
        if isinstance(images, ImageSet):
            labels = images.labels if labels is None and images.has_labels else labels
            images, class_names = images.images, class_names or images.class_names or None
        images, labels, class_names = taken(images, labels, class_names)
        self._reader = images if isinstance(images, Reader) else ArrayReader(images, self.bounds)
        self._index = np.arange(self._reader.shape[0])
        self._labels = None if labels is None else _check_labels(labels, len(self._index))
        self.class_names = _check_names(class_names, self._labels)
        self._notes: tuple[str, ...] = ()

    # Contents

    def __len__(self) -> int:
        return len(self._index)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self._reader.shape[1:]

    @property
    def images(self) -> Tensor:
        """All images (N, C, H, W), float32 in the bounds, on the CPU; not to be changed in place.

        Files are read here. Up to 1 GiB the tensor is kept for the next time; for larger sets
        select first (`images[:100].images`) or walk over `batches`.

        Raises:
            InputError: a file cannot be read or holds unusable pixels.
        """
        return self._kept if 4 * len(self) * int(np.prod(self.shape)) <= _KEEP_BYTES else self._read

    @cached_property
    def _kept(self) -> Tensor:
        return self._read

    @property
    def _read(self) -> Tensor:
        return torch.from_numpy(self._reader.read(self._index))

    @property
    def has_labels(self) -> bool:
        """Whether the images have labels."""
        return self._labels is not None

    @property
    def labels(self) -> Tensor:
        """Class labels (N,), int64; not to be changed in place.

        Raises:
            InputError: the images have no labels (see `has_labels`).
        """
        return torch.from_numpy(self._known_labels())

    def _known_labels(self) -> NDArray[np.int64]:
        if self._labels is None:
            raise InputError(
                f"image set {self.name!r} has no labels, and they are needed here. "
                "Give them: ImageSet(images, labels)."
            )
        return self._labels

    @cached_property
    def sha256(self) -> str:
        """Checksum (hex) of shape, images and labels; not of names and bounds.

        It is taken over the float32 pixels, so uint8 images and the same ones divided by 255 agree,
        as do memory, .npz and HDF5. For image folders, which are not decoded for it, the contents
        of the files and the crop stand for the pixels.
        """
        digest = hashlib.sha256(repr((len(self), *self.shape)).encode())
        short = self._reader.fingerprint(self._index)
        if short is not None:
            digest.update(short)
        else:
            for index in chunks(self._index, self._reader.shape):
                digest.update(self._reader.read(index).astype("<f4", copy=False).data)
        digest.update(b"labels")
        if self._labels is not None:
            digest.update(self._labels.astype("<i8", copy=False).data)
        return digest.hexdigest()

    @property
    def note(self) -> str:
        """What was done to the images and their class numbers on the way here, for people."""
        return "; ".join(filter(None, (self._reader.note(self._index), *self._notes)))

    @property
    def source(self) -> tuple[Reader, NDArray[np.int64]]:
        """Where the pixels come from, and the positions (N,) of the images there."""
        return self._reader, self._index

    def __repr__(self) -> str:
        known = f"{len(self.class_names)} classes" if self.has_labels else "no labels"
        return (
            f"ImageSet({self.name!r}, {len(self)} images {self.shape}, {known}, "
            f"bounds {self.bounds})"
        )

    # Selections

    def __getitem__(self, index: Any) -> "ImageSet":
        """A selection, always as an ImageSet and without copying pixels.

        Args:
            index: an int, a slice, a boolean mask (N,) or integer positions, as list, array or
                tensor. Negative numbers count from the end.

        Raises:
            InputError: a position out of range, a mask of another length, an empty selection.
        """
        chosen = _positions(index, len(self))
        if len(chosen) == 0:
            raise InputError(
                f"the selection from image set {self.name!r} ({len(self)} images) is empty. "
                "Select at least one image."
            )
        part = copy.copy(self)
        for kept in ("_kept", "sha256"):
            part.__dict__.pop(kept, None)
        where = as_slice(chosen)
        part._index = self._index[where]
        part._labels = None if self._labels is None else self._labels[where]
        return part

    def __iter__(self) -> Iterator["ImageSet"]:
        return (self[i] for i in range(len(self)))

    def afresh(self) -> "ImageSet":
        """The same images; of those in memory, which may have been changed, nothing read before."""
        return self[:] if self._reader.in_memory else self

    def relabelled(
        self, labels: Any, class_names: Sequence[str] | None, note: str = ""
    ) -> "ImageSet":
        """The same images with other labels (N,) and class names, and a note on how they came."""
        same = self[:]
        same._notes = (*self._notes, note)
        same._labels = None if labels is None else _check_labels(labels, len(self))
        same.class_names = _check_names(class_names, same._labels)
        return same

    def noted(self, note: str) -> "ImageSet":
        """The same images, of which the note says one thing more."""
        return self.relabelled(self._labels, self.class_names or None, note)

    @door
    def sample(self, n: int, seed: int = 0) -> "ImageSet":
        """Draws n different images at random; they come in random order.

        With the same seed a smaller sample is the beginning of a larger one.

        Raises:
            InputError: n < 1 or n > len(self), or a negative seed.
        """
        if not 1 <= n <= len(self):
            raise InputError(
                f"sample(n={n}) from image set {self.name!r}, which has {len(self)} images: "
                f"n must be between 1 and {len(self)} (drawing is without replacement)."
            )
        return self[np.random.default_rng(seed).permutation(len(self))[:n]]

    def mean_image(self) -> Tensor:
        """Mean (C, H, W) of all images, float64."""
        total = sum(part.images.sum(0, dtype=torch.float64) for part in self.batches(512))
        return torch.as_tensor(total) / len(self)

    def mean_norm(self, p: float = 2) -> float:
        """Mean p-norm of the images, image units."""
        return float(self.images.flatten(1).norm(p=p, dim=1).mean())

    def of_class(self, c: int | str) -> "ImageSet":
        """The images of one class, in order.

        Args:
            c: label, or class name where no other class has the same.

        Raises:
            InputError: no labels, no such class, or none of its images in this set.
        """
        labels = self._known_labels()
        label = self._class_number(c)
        if not (labels == label).any():
            present = listed([str(k) for k in np.unique(labels)])
            raise InputError(
                f"image set {self.name!r} has no image of class {c!r}; it has images of the "
                f"classes {present}. Choose one of these, or select fewer images away before."
            )
        return self[labels == label]

    def _class_number(self, c: int | str) -> int:
        known = [f"{k} ({n})" if str(k) != n else n for k, n in enumerate(self.class_names)]
        numbers = (
            [k for k, n in enumerate(self.class_names) if n == c]
            if isinstance(c, str)
            else [k for k in range(len(known)) if k == c]
        )
        if len(numbers) > 1:
            raise InputError(
                f"class name {c!r} stands for several classes of image set {self.name!r}: "
                f"{numbers}. Give the number."
            )
        if not numbers:
            raise InputError(
                f"class {c!r} does not exist in image set {self.name!r}; its classes are "
                f"{listed(known)}. Name one of these."
            )
        return numbers[0]

    def batches(self, batch_size: int) -> Iterator["ImageSet"]:
        """The whole set in order, as ImageSets of batch_size images; the last may be smaller.

        Raises:
            InputError: batch_size < 1.
        """
        check_counts(batch_size=batch_size)
        return (self[i : i + batch_size] for i in range(0, len(self), batch_size))


def listed(words: Sequence[str], most: int = 20) -> str:
    """The first of the words, and how many there are."""
    rest = f", ... ({len(words)} in all)" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


def labels_misfit(shape: tuple[int, ...], n: int) -> InputError:
    """The error for labels of another shape than (n,)."""
    return InputError(
        f"labels have shape {shape} for {n} images; expected ({n},), one class number per image, "
        "in the same order."
    )


def _check_labels(labels: Any, n: int) -> NDArray[np.int64]:
    """Labels as an own (n,) int64 array."""
    check_device("labels", labels)
    try:
        array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    except ValueError as error:
        raise InputError(f"labels are no array ({error}); expected shape ({n},).") from error
    if array.shape != (n,):
        raise labels_misfit(array.shape, n)
    if array.dtype.kind not in "iu":
        raise InputError(
            f"labels are {array.dtype}; expected integers. Convert them: labels.astype(int)."
        )
    if array.min() < 0:
        raise InputError(
            f"labels contain {int(array.min())}, first at position {int(array.argmin())}; class "
            "numbers start at 0. Renumber them, or pass labels=None where there are none."
        )
    if array.max() >= 2**63:
        raise InputError(
            f"labels contain {int(array.max())}, first at position {int(array.argmax())}, which is "
            "no class number. Renumber the classes from 0."
        )
    return array.astype(np.int64)


def _check_names(names: Sequence[str] | None, labels: NDArray[np.int64] | None) -> tuple[str, ...]:
    classes = 0 if labels is None else int(labels.max()) + 1
    if names is None:
        if classes > MOST_CLASSES:
            raise InputError(
                f"labels go up to {classes - 1}, expected at most {MOST_CLASSES - 1}. Renumber the "
                "classes from 0."
            )
        return tuple(str(c) for c in range(classes))
    if len(names) < classes:
        raise InputError(
            f"labels go up to {classes - 1}, but class_names has {len(names)} names (labels 0 to "
            f"{len(names) - 1}). Give one name per class, or none."
        )
    return tuple(str(name) for name in names)


def _positions(index: Any, n: int) -> NDArray[np.int64]:
    """Any index of a sequence of n as non-negative positions."""
    if isinstance(index, slice):
        return np.arange(n)[index]
    array = np.asarray(index.detach().cpu() if isinstance(index, Tensor) else index)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.dtype == bool and array.shape == (n,):
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise InputError(
            f"index of dtype {array.dtype} and shape {array.shape} cannot select from {n} images. "
            f"Use an int, a slice, integer positions, or a boolean mask of length {n}."
        )
    array = np.atleast_1d(array).astype(np.int64)
    wrong = (array < -n) | (array >= n)
    if wrong.any():
        raise InputError(
            f"index {int(array[wrong.argmax()])} is out of range for {n} images (0 to {n - 1})."
        )
    return np.where(array < 0, array + n, array)

"""What an ImageSet takes beside arrays: pairs, data sets and loaders of PyTorch, and the like."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset, TensorDataset

from geomadv.errors import InputError
from geomadv.images.pixels import channels, upright
from geomadv.images.readers import Reader, as_pixels, to_float32

_IMAGE, _LABEL = ("image", "img"), "label"
# Items that are read twice: a random flip escapes 8 of them once in 256 times.
_TWICE = 8


def taken(images: Any, labels: Any, names: Sequence[str] | None) -> tuple[Any, Any, Any]:
    """Images, labels and class names of whatever `ImageSet` takes; arrays and readers as they are.

    Raises:
        InputError: what is no set of images, items that do not fit each other, or that differ when
            they are read again.
    """
    if isinstance(images, Reader) or hasattr(images, "__array__"):
        return images, labels, names
    if isinstance(images, str | Path | Mapping):
        raise _no_set(images)
    if isinstance(images, TensorDataset):
        images, *more = images.tensors
        return images, more[0] if more and labels is None else labels, names
    if _is_pair(images):
        return images[0], images[1] if labels is None else labels, names
    if isinstance(images, DataLoader):
        return taken(_of_loader(images), labels, names)
    if isinstance(images, list | tuple):
        if not images or not _is_item(images[0]):
            return images, labels, names
    elif not (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
        return taken(list(images) if isinstance(images, Iterable) else [images], labels, names)
    pixels, own = _collected(images)
    return pixels, own if labels is None else labels, names or _class_names(images)


def _no_set(images: Any) -> InputError:
    if isinstance(images, Mapping):
        return InputError(
            f"images are a {type(images).__name__} of {', '.join(map(repr, images))}: give one "
            "set, as ImageSet(data['train']), or the arrays themselves, as "
            "ImageSet(data['images'], data['labels'])."
        )
    return InputError(f"images are the path {str(images)!r}: load it with load_images(path).")


def _is_pair(images: Any) -> bool:
    """Whether this is (images, labels), and not two images."""
    if not isinstance(images, list | tuple) or len(images) != 2:
        return False
    return getattr(images[0], "ndim", 0) == 4 and as_pixels(images[1]).ndim < 3


def _is_item(first: Any) -> bool:
    """Whether a sequence that begins so is of (image, label), of dicts, or of Pillow's images."""
    if isinstance(first, tuple | list) and len(first) > 1:
        return (
            isinstance(first[0], Tensor | np.ndarray | Image.Image)
            and as_pixels(first[1]).size == 1
        )
    return isinstance(first, Mapping | Image.Image)


def _of_loader(loader: Any) -> Any:
    """The data set of a loader, of which a sampler of its own may choose; shuffled or not."""
    whole = isinstance(loader.sampler, SequentialSampler | RandomSampler)
    if whole or not hasattr(loader.dataset, "__len__"):
        return loader.dataset
    return Subset(loader.dataset, sorted(set(loader.sampler)))


def _class_names(images: Any) -> Sequence[str] | None:
    """Names of the classes, as torchvision's and Hugging Face's data sets tell them."""
    if isinstance(images, Subset):
        return _class_names(images.dataset)
    label = getattr(images, "features", None) or {}
    known = getattr(images, "classes", None) or getattr(
        label.get(_LABEL) if isinstance(label, Mapping) else None, "names", None
    )
    is_list = isinstance(known, list | tuple) and all(isinstance(n, str) for n in known)
    return list(known) if is_list and known else None


# Items


def _collected(dataset: Any) -> tuple[NDArray[Any], list[int] | None]:
    """All images of an indexable set as one array (N, C, H, W), and their labels."""
    items = [_item(dataset[k], k) for k in range(len(dataset))]
    if not items:
        raise InputError("images are an empty data set. Give at least one image.")
    for k, (pixels, _) in enumerate(items[:_TWICE]):
        if not np.array_equal(pixels, _item(dataset[k], k)[0]):
            raise InputError(
                f"image {k} of the data set is another one each time it is read: its transform is "
                "random. Give a data set without augmentation."
            )
    images, labels = [pixels for pixels, _ in items], [label for _, label in items]
    known = [label for label in labels if label is not None]
    if known and len(known) < len(labels):
        raise InputError(
            f"{len(labels) - len(known)} of {len(labels)} images have no label, the first is "
            f"number {labels.index(None)}. Label all, or none."
        )
    # Hugging Face's mark of a test set whose labels are kept back.
    return _stacked(images), known if known and set(known) != {-1} else None


def _item(item: Any, k: int) -> tuple[NDArray[Any], int | None]:
    """Pixels (C, H, W) and label of one item."""
    image, label = item, None
    if isinstance(item, Mapping):
        key = next((key for key in _IMAGE if key in item), None)
        if key is None or (_LABEL not in item and len(item) > 1):
            raise InputError(
                f"item {k} of the data set has {', '.join(map(repr, item))}; expected 'image' (or "
                "'img') and 'label'. Rename the columns, and remove the others."
            )
        image, label = item[key], item.get(_LABEL)
    elif isinstance(item, tuple | list) and len(item) > 1:
        image, label = item[:2]
    if isinstance(image, Image.Image):
        return channels(upright(image)), _label(label, k)
    pixels = as_pixels(image)
    return pixels[None] if pixels.ndim == 2 else pixels, _label(label, k)


def _label(label: Any, k: int) -> int | None:
    if label is None:
        return None
    number = as_pixels(label)
    if number.size != 1 or number.dtype.kind not in "iu":
        raise InputError(
            f"label of item {k} is {label!r}; expected one integer, the class number (of one-hot "
            "labels: the position of the one)."
        )
    return int(number.ravel()[0])


def _stacked(images: list[NDArray[Any]]) -> NDArray[Any]:
    """Images of one size as an array; grey ones among coloured ones get three channels."""
    colours = {len(pixels) for pixels in images if pixels.ndim == 3}
    if colours == {1, 3}:
        images = [np.repeat(p, 3, axis=0) if len(p) == 1 else p for p in images]
    other = [k for k, pixels in enumerate(images) if pixels.shape != images[0].shape]
    if other:
        raise InputError(
            f"images of the data set have different shapes: {images[0].shape} at first, "
            f"{images[other[0]].shape} at number {other[0]}. Bring all to one size with a "
            "transform, or load a folder of them: load_images(folder, size=...)."
        )
    if len({pixels.dtype for pixels in images}) > 1:  # 8-bit images among others
        images = [to_float32(pixels) for pixels in images]
    return np.stack(images)

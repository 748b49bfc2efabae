"""Where the pixels of an ImageSet come from: memory here, files elsewhere, one protocol."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomadv.doors import check_device
from geomadv.errors import InputError

# Rounding of float64 pixels to float32 may leave the bounds by some 1e-7 of their width.
_SLACK = 1e-6
# Pixels looked at together: 64 MiB as float32, small beside any data set that needs chunks.
_CHUNK_PIXELS = 2**24


class Reader(ABC):
    """Source of images by position. `read` decodes no more than it is asked for."""

    shape: tuple[int, int, int, int]  # (N, C, H, W)
    in_memory = False  # where whoever gave the images may change them

    @abstractmethod
    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images (n, C, H, W) at the positions (n,), as float32 in the bounds."""

    def fingerprint(self, index: NDArray[np.int64]) -> bytes | None:
        """What stands for the images in checksums; None: their float32 pixels do."""
        return None

    def note(self, index: NDArray[np.int64]) -> str:
        """What was done to the images on their way, in words for people."""
        return ""

    def checksums(self, index: NDArray[np.int64]) -> Iterator[bytes]:
        """What tells each image of such readers from others."""
        return self.pixel_checksums(index)

    def pixel_checksums(self, index: NDArray[np.int64]) -> Iterator[bytes]:
        """Checksums of each image's shape and float32 pixels."""
        for part in chunks(index, self.shape):
            for image in self.read(part):
                content = image.astype("<f4", copy=False).tobytes()
                yield hashlib.sha256(repr(image.shape).encode() + content).digest()


class Joined(Reader):
    """Images of several readers, by positions in them, one behind the other."""

    def __init__(self, parts: Sequence[tuple[Reader, NDArray[np.int64]]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(index) for _, index in parts)])
        self.shape = (int(self._starts[-1]), *parts[0][0].shape[1:])
        self.in_memory = any(reader.in_memory for reader, _ in parts)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions, in their order."""
        images = np.empty((len(index), *self.shape[1:]), dtype=np.float32)
        which = np.searchsorted(self._starts, index, side="right") - 1
        for k in np.unique(which):
            reader, places = self._parts[k]
            images[which == k] = reader.read(places[index[which == k] - self._starts[k]])
        return images


class ArrayReader(Reader):
    """Images in an array, which is neither copied nor converted before it is read."""

    in_memory = True

    def __init__(self, images: Any, bounds: tuple[float, float]) -> None:
        self._pixels = as_pixels(images)
        check_layout(self._pixels.shape, self._pixels.dtype, bounds)
        n, c, h, w = self._pixels.shape
        self.shape = (n, c, h, w)
        if self._pixels.dtype != np.uint8:
            for index in chunks(np.arange(n), self.shape):
                check_pixels(self.read(index), index, n, bounds)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions; the array's own memory where it is float32 and in order."""
        return to_float32(self._pixels[as_slice(index)])


def as_pixels(images: Any) -> NDArray[Any]:
    """Tensor, array or nested sequence -> array, without a copy where there need not be one."""
    check_device("images", images)
    if isinstance(images, Tensor):
        images = images.detach().cpu()
        # NumPy has no bfloat16.
        pixels: NDArray[Any] = (images.float() if images.dtype.itemsize == 2 else images).numpy()
        return pixels
    try:
        return np.asarray(images)
    except ValueError as error:
        raise InputError(
            "images are a sequence of arrays of different shapes. Bring all to one size and "
            "stack them: np.stack(images), shape (N, C, H, W)."
        ) from error


def check_layout(
    shape: tuple[int, ...], dtype: np.dtype[Any], bounds: tuple[float, float], source: str = ""
) -> None:
    """Refuses arrays that cannot hold images, before any pixel is read.

    Args:
        shape: expected (N, C, H, W).
        dtype: expected floating, or uint8.
        bounds: (low, high) of the pixel values.
        source: file to name in messages, empty for none.

    Raises:
        InputError: another layout or dtype, no images, or uint8 with bounds other than (0, 1).
    """
    what = f"images of {source}" if source else "images"
    if len(shape) != 4:
        hint = " For grey images add the channel: images[:, None]." if len(shape) == 3 else ""
        raise InputError(f"{what} have shape {shape}; expected (N, C, H, W).{hint}")
    if 0 in shape:
        raise InputError(f"{what} have shape {shape}: there are none. Give at least one image.")
    if shape[3] in (1, 3, 4) and shape[1] == shape[2] > 4:
        raise InputError(
            f"{what} have shape {shape}, which looks like (N, H, W, C); expected (N, C, H, W). "
            "Move the channels: images.transpose(0, 3, 1, 2) with NumPy."
        )
    if dtype.kind != "f" and dtype != np.uint8:
        raise InputError(
            f"{what} are {dtype}; expected floating values in bounds {bounds}, or uint8, which is "
            "divided by 255."
        )
    if dtype == np.uint8 and bounds != (0.0, 1.0):
        raise InputError(
            f"{what} are uint8, which is scaled to [0, 1], but bounds are {bounds}. Leave bounds "
            "at (0, 1), or convert the images to float32 in your bounds first."
        )


def check_pixels(
    images: NDArray[np.float32],
    index: NDArray[np.int64],
    total: int,
    bounds: tuple[float, float],
    source: str = "",
) -> None:
    """Refuses NaN, infinite and out-of-bounds pixels.

    Args:
        images: (n, C, H, W) float32.
        index: positions (n,) of these images, for the message.
        total: number of images in the whole array, for the message.
        bounds: (low, high) of the pixel values.
        source: file to name in messages, empty for none.

    Raises:
        InputError: with the number of unusable images and the first one's position, or with the
            range found and the bounds.
    """
    what = f"images of {source}" if source else "images"
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(images).all(axis=(1, 2, 3))
        scope = f"{total}" if len(index) == total else f"the {len(index)} just read (of {total})"
        raise InputError(
            f"{what}: {int(bad.sum())} of {scope} contain NaN or infinite pixels, the first is "
            f"number {int(index[bad.argmax()])}. Remove or repair them."
        )
    margin = _SLACK * (bounds[1] - bounds[0])
    if low < bounds[0] - margin or high > bounds[1] + margin:
        raise InputError(
            f"{what} span [{low:.3g}, {high:.3g}], outside bounds [{bounds[0]:g}, {bounds[1]:g}]. "
            "Scale them (0..255 images: divide by 255), undo mean/std normalisation, which belongs "
            "to the Classifier, or state their bounds."
        )


def as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Positions (n,), as a slice where they are consecutive: reading one needs no copy."""
    first, n = int(index[0]), len(index)
    consecutive = int(index[-1]) - first == n - 1 and bool((np.diff(index) == 1).all())
    return slice(first, first + n) if consecutive else index


def to_float32(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels as writable, contiguous float32; uint8 is divided by 255."""
    if pixels.dtype == np.uint8:
        scaled = pixels.astype(np.float32, order="C")
        scaled /= np.float32(255)
        return scaled
    with np.errstate(over="ignore"):  # becomes infinite, which check_pixels reports
        result = np.ascontiguousarray(pixels, dtype=np.float32)
    # Torch takes no read-only memory (memory maps, frombuffer).
    return result if result.flags.writeable else result.copy()


def chunks(index: NDArray[np.int64], shape: tuple[int, int, int, int]) -> list[NDArray[np.int64]]:
    """Divides positions so that the images of each part take 64 MiB at most (or are one)."""
    size = max(1, _CHUNK_PIXELS // int(np.prod(shape[1:])))
    return [index[i : i + size] for i in range(0, len(index), size)]

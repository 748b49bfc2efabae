"""Image folders, read lazily."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomadv.errors import InputError, refusing
from geomadv.framing import Framing, by
from geomadv.images.formats import check_promise, naming
from geomadv.images.imageset import ImageSet
from geomadv.images.labelling import Part, listing
from geomadv.images.pixels import COLOUR, ORIENTATION, channels, unreadable, upright
from geomadv.images.readers import Reader, to_float32

# So many files tell the sizes of a set in words.
_LOOKED_AT = 1000
# Orientations of EXIF that exchange height and width.
_TURNED = (5, 6, 7, 8)
# Bytes of bits that any header may promise: some formats pack a picture of one colour more tightly
# than deflate.
_SPARE = 2**20
# Of an image so many times as large as its frame only the part around it is resized.
_LONG = 8
_SUPPORT = 3.0  # pixels to either side that the widest filter looks at (Lanczos)


class FolderReader(Reader):
    """Image files, decoded, resized and cropped only when asked for.

    Args:
        root: folder.
        files: relative to it.
        framing: what images become.

    Raises:
        InputError: a framing without a size, and images of several sizes; channels of no file.
    """

    def __init__(self, root: Path, files: Sequence[str], framing: Framing) -> None:
        if framing.channels not in (1, 3):
            raise InputError(
                f"images of {root}: the network takes {framing.channels} channels, and image files "
                "have 3, or 1 (grey). Give an .npz, .npy or HDF5 file, or ImageSet(images)."
            )
        self.root, self.files = root, list(files)
        size = framing.size or self._own_size()
        self.framing = replace(framing, size=size)
        self.shape = (len(self.files), framing.channels, *size)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions, 8-bit ones divided by 255; grey ones in all three channels."""
        images = np.empty((len(index), *self.shape[1:]), dtype=np.float32)
        for image, i in zip(images, index, strict=True):
            pixels = self._decode(self.root / self.files[i])
            image[:] = to_float32(pixels)
        return images

    def note(self, index: NDArray[np.int64]) -> str:
        """The size on disk and what is done to it; nothing where images stay as they are."""
        headers = self._headers(index)
        sizes = [size for size, _ in headers]
        loses = self.framing.channels == 1 and any(coloured for _, coloured in headers)
        grey = ", colours made grey" if loses else ""
        if all(self.framing.stays(size) for size in sizes):
            return grey.removeprefix(", ")
        low, high = min(sizes), max(sizes)
        found = by(low) if low == high else f"{by(low)} to {by(high)}"
        small = [size for size in sizes if min(self.framing.resized(size)) > min(size)]
        enlarged = f", {100 * len(small) / len(sizes):.0f} % of them ENLARGED" if small else ""
        return f"{found} on disk, {self.framing}{grey}{enlarged}"

    def _own_size(self) -> tuple[int, int]:
        sizes = [size for size, _ in self._headers(np.arange(len(self.files)))]
        if len(set(sizes)) > 1:
            other = next(k for k, size in enumerate(sizes) if size != sizes[0])
            raise InputError(
                f"images of {self.root} are of several sizes: {self.files[0]} is {by(sizes[0])}, "
                f"{len([s for s in sizes if s != sizes[0]])} of {len(sizes)} are others, such as "
                f"{by(sizes[other])} (height x width). Say to which size they are brought: "
                "size (--size), in pixels."
            )
        return sizes[0]

    def _headers(self, index: NDArray[np.int64]) -> list[tuple[tuple[int, int], bool]]:
        """Height and width as images are looked at, and whether in colour, of some of the files."""
        some = index[np.linspace(0, len(index) - 1, min(_LOOKED_AT, len(index))).astype(int)]
        return [_header(self.root / self.files[i]) for i in some]

    def _decode(self, path: Path) -> NDArray[Any]:
        with refusing(partial(unreadable, path)), naming(path), Image.open(path) as image:
            _check_size(path, image)
            return channels(_framed(upright(image), self.framing))

    def fingerprint(self, index: NDArray[np.int64]) -> bytes:
        """The framing, and the checksums of the files."""
        digest = hashlib.sha256(repr(self.framing).encode())
        for checksum in self.checksums(index):
            digest.update(checksum)
        return digest.digest()

    def checksums(self, index: NDArray[np.int64]) -> Iterator[bytes]:
        """Checksums of the files."""
        for i in index:
            path = self.root / self.files[i]
            try:
                yield hashlib.sha256(path.read_bytes()).digest()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error}). Check its rights.") from error


def _header(path: Path) -> tuple[tuple[int, int], bool]:
    with refusing(partial(unreadable, path)), Image.open(path) as image:
        _check_size(path, image)  # before EXIF is asked for: of PNG, pixels come first
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in _TURNED
        coloured = image.mode in COLOUR
    return ((width, height) if turned else (height, width)), coloured


def _check_size(path: Path, image: Image.Image) -> None:
    """Refuses a file that cannot hold the pixels that its header promises."""
    check_promise(path, image.width * image.height // 8, _SPARE, ("image",))


def _framed(image: Image.Image, framing: Framing) -> Image.Image:
    """An upright image as the network takes it, grey ones still grey."""
    if framing.channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    size = image.size[::-1]
    if framing.stays(size):
        return image
    height, width = framing.resized(size)
    method = Image.Resampling[framing.interpolation.upper()]
    frame = framing.size or (height, width)
    left, top = round((width - frame[1]) / 2), round((height - frame[0]) / 2)
    box = (left, top, left + frame[1], top + frame[0])
    if height * width <= _LONG * frame[0] * frame[1]:
        return image.resize((width, height), method).crop(box)
    scale = image.width / width, image.height / height
    return _part(image, [v * scale[k % 2] for k, v in enumerate(box)], scale, frame, method)


def _part(
    image: Image.Image,
    box: Sequence[float],
    scale: tuple[float, float],
    frame: tuple[int, int],
    method: Image.Resampling,
) -> Image.Image:
    """A box of an image resized to a frame: what resizing all of it gives there, to rounding."""
    reach = [_SUPPORT * max(1.0, s) + 1 for s in scale]
    left, top = (max(0, int(box[k] - reach[k])) for k in range(2))
    right, bottom = (min(image.size[k], ceil(box[2 + k] + reach[k])) for k in range(2))
    piece = image.crop((left, top, right, bottom))
    low = max(0.0, box[0] - left), max(0.0, box[1] - top)
    high = min(piece.width, box[2] - left), min(piece.height, box[3] - top)
    return piece.resize(frame[::-1], method, box=(*low, *high))


def load_folder(
    root: Path, parts: Mapping[str, Part], split: str, framing: Framing, name: str
) -> ImageSet:
    """Opens one of the parts of a folder, see `labelling.scan`; nothing is decoded yet."""
    found = listing(root, parts, split)
    return ImageSet(FolderReader(root, found.files, framing), found.labels, found.names, name)

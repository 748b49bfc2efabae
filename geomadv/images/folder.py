"""Image folders, read lazily."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomadv.errors import InputError
from geomadv.images.formats import naming
from geomadv.images.imageset import ImageSet
from geomadv.images.labelling import Part, listing
from geomadv.images.pixels import UNREADABLE, channels, unreadable, upright
from geomadv.images.readers import Reader, to_float32


@dataclass(frozen=True)
class Crop:
    """How images of any size become (3, size, size).

    The short side is resized (bilinear, smoothed when shrinking), then the centre is cut out.
    """

    size: int
    resize: int | None = None  # None: 256/224 of size, and images of size x size stay as they are

    def __post_init__(self) -> None:
        if self.size < 1 or (self.resize is not None and self.resize < self.size):
            raise InputError(
                f"size={self.size}, resize={self.resize}: the size of the crop must be at least 1 "
                "and the short side before it (resize) at least as long, or None."
            )

    def apply(self, image: Image.Image) -> Image.Image:
        """Any image -> size x size."""
        if self.resize is None and image.size == (self.size, self.size):
            return image
        # The usual evaluation on ImageNet: short side 256, centre 224.
        short = self.resize or round(self.size * 256 / 224)
        scale = short / min(image.size)
        width, height = (max(short, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


class FolderReader(Reader):
    """Image files, decoded to RGB and cropped only when asked for."""

    def __init__(self, root: Path, files: Sequence[str], crop: Crop) -> None:
        self.root, self.files, self.crop = root, list(files), crop
        self.shape = (len(self.files), 3, crop.size, crop.size)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images at the positions, 8-bit ones divided by 255; grey ones in all three channels."""
        images = np.empty((len(index), *self.shape[1:]), dtype=np.float32)
        for image, i in zip(images, index, strict=True):
            pixels = self._decode(self.root / self.files[i])
            image[:] = to_float32(pixels)
        return images

    def _decode(self, path: Path) -> NDArray[Any]:
        try:
            with naming(path), Image.open(path) as image:
                return channels(self.crop.apply(upright(image)))
        except InputError:
            raise
        except UNREADABLE as error:
            raise unreadable(path, error) from error

    def fingerprint(self, index: NDArray[np.int64]) -> bytes:
        """Relative names and sizes of the files, and the crop."""
        digest = hashlib.sha256(repr(self.crop).encode())
        for i in index:
            size = (self.root / self.files[i]).stat().st_size
            digest.update(f"{self.files[i]}\0{size}\n".encode())
        return digest.digest()

    def checksums(self, index: NDArray[np.int64]) -> Iterator[bytes]:
        """Checksums of the files."""
        for i in index:
            path = self.root / self.files[i]
            try:
                yield hashlib.sha256(path.read_bytes()).digest()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error}). Check its rights.") from error


def load_folder(
    root: Path, parts: Mapping[str, Part], split: str, crop: Crop, name: str
) -> ImageSet:
    """Opens one of the parts of a folder, see `labelling.scan`; nothing is decoded yet."""
    found = listing(root, parts, split)
    return ImageSet(FolderReader(root, found.files, crop), found.labels, found.names, name)

"""Image folders, read lazily: one sub-folder per class, or a flat folder with labels.csv."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomadv.errors import InputError
from geomadv.images.imageset import ImageSet
from geomadv.images.readers import Reader

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif"}
LABELS = "labels.csv"


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
        """Any RGB image -> size x size."""
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
        """Images at the positions, divided by 255."""
        images = np.empty((len(index), *self.shape[1:]), dtype=np.float32)
        for image, i in zip(images, index, strict=True):
            image[:] = self._decode(self.root / self.files[i])
        images /= np.float32(255)
        return images

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(self.crop.apply(image.convert("RGB")))
        # Pillow reports damaged PNG files as SyntaxError.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path} cannot be read as an image ({error}). Copy it again, or remove it "
                f"(and its line in {LABELS}, if there is one)."
            ) from error
        return pixels.transpose(2, 0, 1)

    def fingerprint(self, index: NDArray[np.int64]) -> bytes:
        """Relative names and sizes of the files, and the crop."""
        digest = hashlib.sha256(repr(self.crop).encode())
        for i in index:
            size = (self.root / self.files[i]).stat().st_size
            digest.update(f"{self.files[i]}\0{size}\n".encode())
        return digest.digest()


def load_folder(path: Path, crop: Crop, limit: int | None, name: str) -> ImageSet:
    """Opens a folder of images; nothing is decoded before it is asked for.

    With a `labels.csv` (columns file, class_index and, optionally, name) its lines give images,
    order, labels and class names. Else, with sub-folders that hold images, each is a class, and
    sorted names give the labels: all 1,000 synset folders of ImageNet come in the usual order,
    while for fewer of them labels need a `labels.csv`. Else the images of the folder, by name,
    without labels.

    Raises:
        InputError: no images, or a `labels.csv` that does not fit.
    """
    listed = path / LABELS
    labels: list[int] | None
    names: list[str] | None
    if listed.is_file():
        files, labels, names = _from_csv(listed)
    else:
        files, labels, names = _from_names(path)
    if limit is not None:
        files, labels = files[:limit], None if labels is None else labels[:limit]
    return ImageSet(FolderReader(path, files, crop), labels, names, name)


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in _SUFFIXES and not hidden and path.is_file()


def _from_names(root: Path) -> tuple[list[str], list[int] | None, list[str] | None]:
    groups = {
        folder.name: sorted(p.name for p in folder.iterdir() if _is_image(p))
        for folder in sorted(p for p in root.iterdir() if p.is_dir())
    }
    names = [name for name, files in groups.items() if files]
    if names:
        pairs = [(f"{name}/{file}", k) for k, name in enumerate(names) for file in groups[name]]
        return [file for file, _ in pairs], [k for _, k in pairs], names
    files = sorted(p.name for p in root.iterdir() if _is_image(p))
    if not files:
        raise InputError(
            f"folder {root} has no images. Expected one sub-folder of images per class, images "
            f"with a {LABELS} (columns file, class_index, name), or images alone "
            f"({', '.join(sorted(_SUFFIXES))})."
        )
    return files, None, None


def _from_csv(path: Path) -> tuple[list[str], list[int], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or [], list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no readable table ({error}). Write it as CSV.") from error
    if not {"file", "class_index"} <= set(columns) or not rows:
        raise InputError(
            f"{path} has {len(rows)} rows and the columns {', '.join(columns)}; expected one row "
            "per image with the columns file, class_index and, optionally, name."
        )
    labels = [_class_index(row["class_index"], path, line) for line, row in enumerate(rows, 2)]
    files = [str(row["file"]) for row in rows]
    absent = [file for file in files if not (path.parent / file).is_file()]
    if absent:
        raise InputError(
            f"{path} lists {len(absent)} images that are not there, the first is {absent[0]!r}. "
            "Add the images beside it or remove their lines."
        )
    names = [str(k) for k in range(max(labels) + 1)]
    for label, row in zip(labels, rows, strict=True):
        names[label] = row.get("name") or names[label]
    return files, labels, names


def _class_index(text: str | None, path: Path, line: int) -> int:
    # Far more classes than any data set has: a typing error must not fill the memory with names.
    if text is None or not text.strip().isdecimal() or int(text) >= 10**6:
        raise InputError(
            f"{path}, line {line}: class_index is {text!r}; expected an integer from 0 to 999999."
        )
    return int(text)

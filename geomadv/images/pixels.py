"""Pillow's images as pixels of a known scale: one table of modes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geomadv.errors import InputError
from geomadv.files.kinds import other_kind

# Modes of 8 bits and less; white is 255 once they are converted.
_GREY, COLOUR = ("1", "L", "LA"), ("P", "RGB", "RGBA", "CMYK")
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
# Older versions of Pillow open 16-bit grey files of these formats in a mode of 32 bits.
_SIXTEEN_IN_32 = ("PNG", "PPM")
_BITS_PER_SAMPLE, _PHOTOMETRIC, ORIENTATION = 258, 262, 274  # tags of TIFF and EXIF
_WHITE_IS_ZERO = 0


def upright(image: Image.Image) -> Image.Image:
    """An image as it is looked at, in mode L or RGB (8 bits), or F (grey, in [0, 1]).

    Its EXIF orientation is applied. Transparency is left out: the colours below it are taken.

    Raises:
        InputError: a mode whose scale is not known.
    """
    stored = image
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    for mode, modes in (("L", _GREY), ("RGB", COLOUR)):
        if image.mode in modes:
            return image if image.mode == mode else image.convert(mode)
    if image.mode in _SIXTEEN or (image.mode == "I" and stored.format in _SIXTEEN_IN_32):
        _check_tiff(stored)
        return Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
    if image.mode == "F":
        return _floating(image)
    raise InputError(
        f"an image of mode {image.mode!r} has no known scale. Expected 8-bit grey, palette, RGB or "
        "CMYK, 16-bit grey, or floating values in [0, 1]: convert it to one of these."
    )


def _check_tiff(image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_PHOTOMETRIC)
    if tuple(bits) != (16,) or photometric == _WHITE_IS_ZERO:
        found = "white is 0" if photometric == _WHITE_IS_ZERO else f"{bits[0]} bits"
        raise InputError(
            f"a TIFF image of mode {image.mode!r} has {found}. Expected 16 bits where 0 is black: "
            "convert it to 16-bit PNG with white at 65535."
        )


def _floating(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where it is NaN
        raise InputError(
            f"an image of floating values (mode 'F') spans [{low:.3g}, {high:.3g}]; expected "
            "[0, 1]. Scale it: divide by the value of white."
        )
    return image


def channels(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Pixels (C, H, W) of an `upright` image: uint8, or float32 in [0, 1]."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def unreadable(path: Path, reason: str) -> InputError:
    """The error for a file that Pillow cannot read."""
    return other_kind(path, "the image", ("image",)) or InputError(
        f"{path} cannot be read as an image ({reason}). If it is damaged, copy it again or remove "
        "it (and its line in labels.csv, if there is one); if it is of a kind that Pillow does not "
        "know, convert it to PNG."
    )

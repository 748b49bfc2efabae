"""How images of any size become what a network takes: said by networks, done by image folders."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from geomadv.errors import InputError

Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

# The usual evaluation on ImageNet: short side 256, centre 224.
_SHORT_SIDE = 256 / 224


@dataclass(frozen=True)
class Framing:
    """Resize and crop: the short side is resized, then the centre is cut out.

    Attributes:
        size: height and width of the result, pixels; None: the size that all images have.
        channels: 3, or 1 for grey; files have no others.
        resize: the short side before the crop (of the frame, where that is not square), pixels;
            None: 256/224 of that of the crop.
        interpolation: of the resize, which is smoothed when shrinking.
        squash: resize without keeping the shape of the image; without `resize` nothing is cropped.
        always: resize images of that size, too, which otherwise stay as they are.

    Raises:
        InputError: sizes below 1, a short side below that of the crop, an unknown interpolation.
    """

    size: tuple[int, int] | None = None
    channels: int = 3
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    squash: bool = False
    always: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not (
            min(self.size) >= 1 and (self.resize is None or self.resize >= min(self.size))
        ):
            raise InputError(
                f"size={by(self.size)}, resize={self.resize}: the size of the crop must be at "
                "least 1 and the short side before it (resize) at least as long, or None."
            )
        if self.interpolation not in get_args(Interpolation):
            words = ", ".join(get_args(Interpolation))
            raise InputError(f"interpolation={self.interpolation!r}: expected one of {words}.")

    def at(self, shape: tuple[int, int, int]) -> "Framing":
        """The same for images of another shape (C, H, W): its short side is of the same share."""
        size, resize = shape[1:], self.resize
        if resize is not None and self.size is not None:
            resize = round(resize * min(size) / min(self.size))
        return replace(self, size=size, channels=shape[0], resize=resize)

    def stays(self, size: tuple[int, int]) -> bool:
        """Whether images of this height and width are taken as they are."""
        return not self.always and size == self.size

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width, after the resize and before the crop, of an image of that size."""
        frame = self.size or size
        if self.squash:
            larger = (self.resize or min(frame)) / min(frame)
            return round(frame[0] * larger), round(frame[1] * larger)
        larger = (self.resize or round(min(frame) * _SHORT_SIDE)) / min(frame)
        scale = larger * max(frame[0] / size[0], frame[1] / size[1])
        return max(frame[0], round(size[0] * scale)), max(frame[1], round(size[1] * scale))

    def __str__(self) -> str:
        how = "resized" if self.squash else "resized and cropped"
        return f"{how} to {by(self.size)} ({self.interpolation})" if self.size else "as is"


def by(size: tuple[int, int]) -> str:
    """Height and width in words."""
    return f"{size[0]} x {size[1]}"

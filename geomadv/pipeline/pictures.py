"""Figures as they stand inside a page: every pixel kept, in few bytes."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from geomadv.errors import decoding

# Bytes beyond which a lossless figure is a photograph, which keeps its look with losses.
_PHOTOGRAPH = 400_000
# Width of a thumbnail, for half as many pixels of a page on a fine screen.
_SMALL = 480
# Pixels of a figure for one of a page: figures have 300 dots an inch, pages 96, shown half larger.
_FINE = 2


@dataclass(frozen=True)
class Picture:
    """A figure for a page.

    Attributes:
        address: of the image, with all of it inside; "" for a page of its own.
        page: text of the page; "" for an image.
        width, height: in pixels of the page.
    """

    address: str
    page: str = ""
    width: int = 0
    height: int = 0


def encoded(files: Iterable[Path]) -> dict[Path, Picture]:
    """The figures in these files, by file; made by threads, since encoding releases the GIL.

    Args:
        files: PNG or HTML.
    """
    paths = [*files]
    with ThreadPoolExecutor() as threads:
        return dict(zip(paths, threads.map(_encoded, paths), strict=True))


def _encoded(path: Path) -> Picture:
    if path.suffix == ".html":
        with _decoding(path):
            return Picture("", path.read_text(encoding="utf-8"))
    image = _image(path)
    whole = _webp(image, lossless=True, quality=50, method=2)
    if len(whole) > _PHOTOGRAPH:
        whole = _webp(image, quality=85, method=4)
    return Picture(_address(whole), "", image.width // _FINE, image.height // _FINE)


def thumbnail(path: Path) -> str:
    """The address of a small copy of a figure in a PNG file, with all of it inside."""
    image = _image(path)
    small = image.resize((_SMALL, round(_SMALL * image.height / image.width)), reducing_gap=3)
    return _address(_webp(small, quality=80, method=4))


def _image(path: Path) -> Image.Image:
    with _decoding(path), Image.open(path) as file:
        return file.convert("RGB")


def _decoding(path: Path) -> AbstractContextManager[None]:
    return decoding(f"the figure {path}", "remove it, and it is drawn anew")


def _webp(image: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **how)
    return buffer.getvalue()


def _address(image: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(image).decode('ascii')}"

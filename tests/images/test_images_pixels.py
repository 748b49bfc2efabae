"""Pixels of image files: one table of Pillow's modes, upright, in their right scale."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from geomadv.errors import InputError
from geomadv.images import load_images
from geomadv.images.pixels import channels, upright

RAMP = np.linspace(0, 1, 256).reshape(16, 16)


def read(folder: Path, size: int = 16) -> torch.Tensor:
    return load_images(folder, "all", size=size).images


def put(folder: Path, image: Image.Image, name: str = "a.png", **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **settings)
    return folder


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.pgm"])
def test_8_bits(name: str, tmp_path: Path) -> None:
    pixels = (RAMP * 255).round().astype(np.uint8)
    found = read(put(tmp_path, Image.fromarray(pixels), name))
    assert torch.equal(found[0, 1], torch.from_numpy(pixels).float() / 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits(name: str, order: str, tmp_path: Path) -> None:
    pixels = (RAMP * 65535).round().astype(np.uint16)
    if name == "a.pgm":
        head = b"P5\n16 16\n65535\n"
        (tmp_path / name).write_bytes(head + pixels.astype(">u2").tobytes())
    elif name == "a.tif" and order == ">":
        image = Image.frombytes("I;16B", (16, 16), pixels.astype(">u2").tobytes())
        put(tmp_path, image, name)
    else:
        put(tmp_path, Image.fromarray(pixels), name)
    found = read(tmp_path)[0]
    assert found.shape == (3, 16, 16)
    # Division of 16-bit integers, exact in float32, is correctly rounded.
    assert torch.equal(found[2], torch.from_numpy(pixels.astype(np.float32)) / 65535)
    small = load_images(tmp_path, "all", size=8, resize=8).images
    assert small.mean().item() == pytest.approx(0.5, abs=1e-4)


def test_floating_images_in_the_unit_interval(tmp_path: Path) -> None:
    found = read(put(tmp_path, Image.fromarray(RAMP.astype(np.float32)), "a.tif"))
    assert torch.equal(found[0, 0], torch.from_numpy(RAMP.astype(np.float32)))
    for factor in (255, -1, np.nan):
        put(tmp_path, Image.fromarray((RAMP * factor).astype(np.float32)), "a.tif")
        with pytest.raises(InputError, match=r"a\.tif: .*mode 'F'.*expected \[0, 1\]"):
            read(tmp_path)


def test_scales_that_are_not_known_are_refused(tmp_path: Path) -> None:
    put(tmp_path, Image.fromarray((RAMP * 70000).astype(np.int32)), "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: an image of mode 'I' has no known scale"):
        read(tmp_path)
    put(tmp_path, Image.new("LAB", (16, 16)), "a.tif")
    with pytest.raises(InputError, match="mode 'LAB' has no known scale"):
        read(tmp_path)
    for mode in ("HSV", "YCbCr", "I"):
        with pytest.raises(InputError, match=f"mode '{mode}' has no known scale"):
            upright(Image.new(mode, (2, 2)))


@pytest.mark.parametrize(
    ("tag", "value", "message"), [(262, 0, "white is 0"), (258, 12, "12 bits")]
)
def test_tiff_files_that_count_otherwise_are_refused(
    tag: int, value: int, message: str, tmp_path: Path
) -> None:
    put(tmp_path, Image.fromarray((RAMP * 4095).astype(np.uint16)), "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    entry = tag.to_bytes(2, "little") + b"\3\0\1\0\0\0"  # one short integer
    place = content.index(entry) + len(entry)
    changed = content[:place] + value.to_bytes(2, "little") + content[place + 2 :]
    (tmp_path / "a.tif").write_bytes(changed)
    with pytest.raises(InputError, match=rf"a\.tif: .*{message}"):
        read(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_of_8_bits_have_their_shape(mode: str) -> None:
    image = Image.new("L", (3, 2), 255).convert(mode)
    pixels = channels(upright(image))
    assert pixels.shape == ((1 if mode in ("1", "L", "LA") else 3), 2, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "16 bits"])
def test_images_stand_upright(orientation: int, kind: str, tmp_path: Path) -> None:
    pixels = (RAMP * 255).astype(np.uint8)
    moves = {
        2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.T, 6: lambda p: np.rot90(p, -1), 7: lambda p: p[::-1, ::-1].T,
        8: lambda p: np.rot90(p),
    }  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(pixels.astype(np.uint16) * 257 if kind == "16 bits" else pixels)
    name, settings = ("a.jpg", {"quality": 100}) if kind == "jpg" else ("a.png", {})
    put(tmp_path, image, name, exif=exif, **settings)
    found = read(tmp_path)[0, 0].numpy() * 255
    expected = moves.get(orientation, lambda p: p)(pixels).astype(float)
    # JPEG rounds its coefficients: a few grey levels.
    assert np.abs(found - expected).max() < (5 if kind == "jpg" else 0.5)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(InputError, match=r"a\.png cannot be read .*does not know"):
        read(tmp_path)
    note = PngInfo()
    note.add_text("Comment", "x")
    put(tmp_path, Image.new("L", (16, 16), 255), pnginfo=note)
    assert read(tmp_path).min() == 1


def test_grey_is_cropped_as_its_colours_were() -> None:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (30, 41), dtype=np.uint8))
    sizes = (17, 13), Image.Resampling.BILINEAR
    colour = np.asarray(grey.convert("RGB").resize(*sizes))
    assert (np.asarray(grey.resize(*sizes))[..., None] == colour).all()

"""Image files of any size: what they become, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomadv.errors import InputError
from geomadv.framing import Framing
from geomadv.images import ImageSet, load_images


def picture(path: Path, value: int = 0, size: tuple[int, int] = (6, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def whole(path: Path, **settings: Any) -> ImageSet:
    return load_images(path, "all", **settings)


def test_the_crop_is_the_centre_of_the_resized_image(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40), dtype=np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    exact = whole(tmp_path, size=20, resize=20)
    assert exact.images.shape == (1, 3, 20, 20)
    assert exact.images.min() == 1
    wide = whole(tmp_path, size=14)  # short side 16, a middle square of 16 is white
    assert wide.images.shape == (1, 3, 14, 14)
    assert wide.images.min() == 1


def test_images_of_the_right_size_stay_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = whole(tmp_path, size=8).images[0]
    assert torch.equal(images, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert not torch.equal(whole(tmp_path, size=8, resize=9).images[0], images)


def test_folder_checksums_see_contents_labels_and_crop(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "a.bmp", 0)
    picture(tmp_path / "y" / "b.png", 0)
    first = whole(tmp_path).sha256
    assert whole(tmp_path).sha256 == first
    sums = {whole(tmp_path, size=5).sha256, whole(tmp_path, grey=True).sha256}
    sums |= {first, whole(tmp_path)[::-1].sha256}
    (tmp_path / "x" / "a.bmp").rename(tmp_path / "x" / "c.bmp")
    assert whole(tmp_path).sha256 == first
    length = (tmp_path / "x" / "c.bmp").stat().st_size
    picture(tmp_path / "x" / "c.bmp", 1)
    assert (tmp_path / "x" / "c.bmp").stat().st_size == length
    sums.add(whole(tmp_path).sha256)
    assert len(sums) == 5


def test_images_keep_the_size_that_all_have(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 255, size=(9, 5))
    turned = Image.new("L", (5, 9), 255)
    exif = turned.getexif()
    exif[274] = 6  # a quarter turn
    turned.save(tmp_path / "b.png", exif=exif)
    images = whole(tmp_path)
    assert images.shape == (3, 5, 9)
    assert images.images.shape == (2, 3, 5, 9)
    assert images.note == ""
    picture(tmp_path / "c.png", 255, size=(9, 6))
    with pytest.raises(
        InputError, match=r"several sizes: a\.png is 5 x 9, 1 of 3 are others.*6 x 9"
    ):
        whole(tmp_path)
    assert whole(tmp_path, size=(4, 3)).images.shape == (3, 3, 4, 3)


def test_sets_say_what_was_done_to_their_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 255, size=(20, 20))
    assert whole(tmp_path, size=20).note == ""
    note = whole(tmp_path, size=10).note
    assert note == "20 x 20 on disk, resized and cropped to 10 x 10 (bilinear)"
    picture(tmp_path / "b.png", 255, size=(4, 20))
    note = whole(tmp_path, size=10, grey=True).note
    assert note.startswith("20 x 4 to 20 x 20 on disk")
    assert note.endswith("10 x 10 (bilinear), 50 % of them ENLARGED")


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (10, 20, 30)])
def test_grey_is_the_luminance(colour: tuple[int, int, int], tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), colour).save(tmp_path / "a.png")
    images = whole(tmp_path, grey=True)
    assert images.shape == (1, 4, 4)
    luminance = np.dot(colour, [0.299, 0.587, 0.114]) / 255
    assert images.images.mean() == pytest.approx(
        luminance, abs=0.6 / 255
    )  # Pillow rounds to 8 bits


def test_squashed_images_are_not_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, 12:] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    squashed = whole(tmp_path, size=Framing((8, 8), squash=True, interpolation="box")).images
    assert squashed[0, 0, 0].tolist() == [0] * 6 + [1] * 2
    assert not whole(tmp_path, size=Framing((8, 8), interpolation="box")).images.equal(squashed)

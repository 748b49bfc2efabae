"""Train and test: divided once, joined, compared by content, and numbered alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomadv.errors import InputError
from geomadv.images import ImageSet, load_images
from geomadv.images.loading import has_splits
from geomadv.images.splits import divided, joined, overlap
from geomadv.pipeline.study import Place, Subject, study

PIXELS = np.random.default_rng(4).integers(0, 256, (41, 1, 3, 3), dtype=np.uint8)
LABELS = np.arange(41) % 3


def save(path: Path, pixels: Any = PIXELS, labels: Any = LABELS, **more: Any) -> Path:
    np.savez(path, images=pixels, labels=labels, **more)
    return path


def put(folder: Path, pixels: Any = PIXELS) -> Path:
    folder.mkdir(parents=True)
    for k, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{k:03}.png")
    return folder


def test_halves_have_nothing_in_common_and_all_classes() -> None:
    whole = ImageSet(PIXELS, LABELS, name="mine")
    halves = divided(whole)
    assert {n: part.name for n, part in halves.items()} == {
        "train": "mine-train",
        "test": "mine-test",
    }
    assert divided(whole)["train"].sha256 == halves["train"].sha256
    assert overlap(halves["train"], halves["test"]) == 0
    assert sum(len(part) for part in halves.values()) == 41
    counts = [np.bincount(part.labels.numpy()) for part in halves.values()]
    assert np.abs(counts[0] - counts[1]).max() <= 1


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_one_split_is_divided_the_same_everywhere(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz") if kind == "npz" else put(tmp_path / "a")
    assert not has_splits(path)
    train, test, whole = (load_images(path, s, size=3) for s in ("train", "test", "all"))
    expected = divided(whole)
    assert (train.sha256, test.sha256) == (expected["train"].sha256, expected["test"].sha256)
    assert (train.name, test.name, whole.name) == ("a-train", "a-test", "a")
    assert overlap(train, test) == 0
    assert len(train) + len(test) == len(whole) == 41
    assert load_images(path, "test", limit=2, size=3).sha256 == test[:2].sha256


def test_one_image_cannot_be_held_out(tmp_path: Path) -> None:
    path = save(tmp_path / "one.npz", PIXELS[:1], LABELS[:1])
    assert len(load_images(path)) == 1
    with pytest.raises(InputError, match="has 1 image: at least 2"):
        load_images(path, "test")


def test_all_is_both_splits() -> None:
    assert has_splits("digits")
    train, test, whole = (load_images("digits", s) for s in ("train", "test", "all"))
    assert whole.name == "digits"
    assert torch.equal(whole.images, torch.cat([train.images, test.images]))
    assert torch.equal(whole.labels, torch.cat([train.labels, test.labels]))
    some = [1500, 3, 1296, 1297, 1500]
    assert torch.equal(whole[some].images, whole.images[some])
    assert len(load_images("digits", "all", limit=1300)) == 1300


def test_common_images_are_counted_whatever_holds_them(tmp_path: Path) -> None:
    stored = load_images(save(tmp_path / "a.npz"), "all")[:20]
    memory = ImageSet(PIXELS / 255)[[19, 3, 3, 20, 21]]
    assert overlap(stored, memory) == 3
    folder = load_images(put(tmp_path / "b", PIXELS[5:9]), "all", size=3)
    rgb = ImageSet(PIXELS.repeat(3, axis=1))
    assert overlap(rgb, folder) == 4
    assert overlap(folder, load_images(put(tmp_path / "c", PIXELS[8:]), "all", size=3)) == 1
    assert overlap(joined([stored, stored], "two"), memory) == 3
    assert overlap(stored, ImageSet(PIXELS.reshape(41, 1, 1, 9))) == 0


def test_the_test_images_of_a_study(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    names = [str(k) for k in range(10)]
    path = save(tmp_path / "t.npz", pixels, np.arange(9), class_names=names)
    both = study(Subject(test_images=str(path)), Place())
    assert both.split("train").sha256 == load_images("digits").sha256
    assert both.split("test").sha256 == load_images(path, "all").sha256
    assert not both.published
    assert study(Subject(), Place()).published


def test_with_test_images_of_their_own_all_others_are_train_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    paths = [str(save(tmp_path / f"{k}.npz", pixels[k::2], np.arange(9)[k::2])) for k in (0, 1)]
    both = study(Subject(images=paths[0], test_images=paths[1], by_number=True), Place())
    for split, path in zip(("train", "test"), paths, strict=True):
        assert both.split(split).sha256 == load_images(path, "all").sha256

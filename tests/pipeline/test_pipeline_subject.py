"""Networks and images that are named: each is asked for what it knows of the other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geomadv as ga
from geomadv.pipeline.card import card
from geomadv.pipeline.study import Place, Study, Subject, study

MODULE = """
import torch
from torch import nn

def pooled(channels=3, classes=3):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )

def grey():
    return pooled(1)

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))

def thousand():
    return pooled(classes=1000)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the classes red, green and blue, 12 x 12 pixels, and a module of networks."""
    (tmp_path / "people_nets.py").write_text(MODULE)
    for k, name in enumerate(("red", "green", "blue")):
        for i in range(4):
            picture(tmp_path / "pngs" / name / f"{i}.png", k, 12)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path, channel: int, side: int, other: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((other or side, side, 3), dtype=np.uint8)
    pixels[..., channel] = 255
    Image.fromarray(pixels).save(path)


def of(name: str, **settings) -> Study:
    return study(Subject(network=f"people_nets:{name}", images="pngs", **settings), Place())


def test_a_network_of_any_size_takes_the_images_as_they_are(place: Path) -> None:
    both = of("pooled")
    assert both.net.input_shape == (3, 12, 12)
    train, test = both.split("train"), both.split("test")
    assert len(train) + len(test) == 12
    assert train.shape == (3, 12, 12)
    text = card(both)
    assert (
        "classes matched by their order, as the network names none: blue = 0, green = 1, red = 2"
        in text
    )
    assert "on disk" not in text


def test_a_network_of_one_channel_gets_grey(place: Path) -> None:
    both = of("grey")
    assert both.net.input_shape == (1, 12, 12)
    image = both.split("train").of_class("green").images[0]
    np.testing.assert_allclose(image, 0.587, atol=0.6 / 255)  # luminance, rounded to 8 bits
    assert "colours made grey" in card(both)
    assert of("grey", grey=True).split("train").sha256 == both.split("train").sha256


def test_the_size_that_is_asked_for(place: Path) -> None:
    with pytest.raises(ga.InputError, match=r"does not take images of input_shape=\(3, 12, 12\)"):
        of("fixed")
    both = of("fixed", size=(8,))
    assert both.net.input_shape == (3, 8, 8)
    assert "12 x 12 on disk, resized and cropped to 8 x 8 (bilinear)" in card(both)
    larger = of("pooled", size=(16, 20))
    assert larger.split("test").shape == (3, 16, 20)
    assert "100 % of them ENLARGED" in card(larger)


def test_images_of_several_sizes_need_one(place: Path) -> None:
    picture(place / "pngs" / "red" / "wide.png", 0, 13, 12)
    with pytest.raises(ga.InputError, match=r"several sizes.*size \(--size\)"):
        of("pooled")
    assert of("pooled", size=(12,)).net.input_shape == (3, 12, 12)


def test_a_network_that_states_its_shape_gets_images_so(place: Path) -> None:
    for name in ("red", "green", "blue"):
        (place / "pngs" / name).rename(place / "pngs" / str(len(name)))
    both = study(Subject(network="digits-cnn", images="pngs"), Place())
    assert both.split("train").shape == (1, 8, 8)
    text = card(both)
    assert "12 x 12 on disk, resized and cropped to 8 x 8 (bilinear), colours made grey" in text
    assert "matched by the numbers they are called by: 3 = 3, 4 = 4, 5 = 5" in text


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "people_nets:pooled",
            {"images": "digits", "size": (8,)},
            r"--size, --grey: images 'digits",
        ),
        ("digits-cnn", {"images": "pngs", "grey": True}, "states the channels"),
        ("people_nets:pooled", {"size": (1, 2, 3)}, "a side, or height and width"),
        ("people_nets:thousand", {}, r"3 classes, which are not found.*\(1000 classes without"),
    ],
)
def test_what_does_not_fit_is_refused(place, name, settings, message) -> None:
    with pytest.raises(ga.InputError, match=message):
        card(study(Subject(network=name, **{"images": "pngs", **settings}), Place()))


def test_numbers_are_taken_as_they_are_where_it_is_said(place: Path) -> None:
    by_number = study(Subject(network="digits-cnn", images="pngs", by_number=True), Place())
    assert by_number.split("train").class_names == ("blue", "green", "red")


def test_test_images_are_numbered_as_the_training_images(place: Path) -> None:
    for name, channel in (("green", 1), ("red", 0)):
        picture(place / "more" / name / "x.png", channel, 12)
    both = of("pooled", test_images="more")
    assert both.split("test").labels.tolist() == [1, 2]
    picture(place / "odd" / "pink" / "x.png", 0, 12)
    odd = of("pooled", test_images="odd")
    with pytest.raises(ga.InputError, match=r"pink = \?"):
        odd.split("test")


def test_from_python_a_network_frames_a_folder_and_sets_are_matched(place: Path) -> None:
    names = ["green", "blue", "red"]
    net = ga.Classifier(_fixed(), (3, 8, 8), class_names=names, name="mine")
    images = ga.load_images("pngs", "all", size=net.framing)
    assert images.shape == (3, 8, 8)
    ds = ga.run("boundary", net, images, results=place / "results", count=4, progress=False)
    kept = ga.load(place / "results" / "mine" / "boundary.h5")
    assert ds.sizes == kept.sizes
    assert "one of two halves of 12 images, drawn class by class, seed 0" in kept.attrs["images"]
    assert "12 x 12 on disk, resized and cropped to 8 x 8" in kept.attrs["images"]


def _fixed():
    import torch
    from torch import nn

    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))

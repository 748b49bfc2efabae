"""Class numbers of images and networks are matched by names, or refused with both shown."""

import numpy as np
import pytest

from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.images.classes import imagenet_classes, numbered

PIXELS = np.random.default_rng(0).random((6, 1, 2, 2)).astype(np.float32)
IMAGENET = [name for _, name in imagenet_classes()]
NUMBERS = [str(k) for k in range(1000)]


def images(labels: list[int], names: list[str] | None = None) -> ImageSet:
    return ImageSet(PIXELS[: len(labels)], labels, names, "mine")


@pytest.mark.parametrize(
    ("own", "theirs", "expected", "how"),
    [
        (["bee", "cat"], ["ant", "bee", "cat"], [1, 2], "name: bee = 1, cat = 2"),
        (["Great_White Shark", "cat"], ["cat", "great white shark"], [1, 0], "name"),
        (["shark", "cat"], ["cat, house cat", "shark, Carcharodon"], [1, 0], "name"),
        (["207", "3"], NUMBERS, [207, 3], "the numbers they are called by: 207 = 207, 3 = 3"),
        (["207", "3"], IMAGENET, [207, 3], "the numbers they are called by"),
        (["1", "0"], ["0", "1"], [1, 0], "the numbers they are called by"),
        (["cat", "dog"], ["0", "1"], [0, 1], "as the network names none: cat = 0, dog = 1"),
        (["cat", "dog"], NUMBERS[:10], [0, 1], "as the network names none: cat = 0, dog = 1"),
        (["tabby", "tench"], NUMBERS, [281, 0], "name"),
        (["n02123045", "n01440764"], IMAGENET, [281, 0], "ImageNet's synsets: n02123045 = 281"),
        (["n02123045", "n01440764"], NUMBERS, [281, 0], "ImageNet's synsets"),
        (["tabby", "tench"], [f"{n}, a thing" for n in IMAGENET], [281, 0], "name"),
        (["tabby", "tench"], IMAGENET, [281, 0], "name"),
    ],
)
def test_classes_are_found(own: list[str], theirs: list[str], expected: list[int], how: str):
    found = numbered(images([0, 1, 1], own), theirs, "network 'net'")
    assert found.labels.tolist() == [expected[0], expected[1], expected[1]]
    assert how in found.note
    assert [found.class_names[k] for k in expected] == (
        own if "none" in how else [theirs[k] for k in expected]
    )


def test_names_that_are_equal_and_numbers_alone_stand():
    named = images([0, 1], ["a", "b"])
    assert numbered(named, ("a", "b"), "") is named
    plain = images([0, 2])
    assert numbered(plain, ["x", "y", "z"], "") is plain
    bare = ImageSet(PIXELS)
    assert numbered(bare, ["x"], "") is bare


def test_lists_of_imagenet_that_differ_in_some_names_are_one_order():
    others = [f"{name} bird" if k % 50 == 0 else name.upper() for k, name in enumerate(IMAGENET)]
    found = numbered(images([134, 517, 0], IMAGENET), others, "")
    assert found.labels.tolist() == [134, 517, 0]
    synsets = [synset for synset, _ in imagenet_classes()]
    assert numbered(images([134, 517], synsets), others, "").labels.tolist() == [134, 517]


@pytest.mark.parametrize(
    ("labels", "own", "theirs", "message"),
    [
        ([0, 1, 2], ["cat", "dog", "emu"], NUMBERS, r"1000 classes without names\).*cat = \?"),
        ([0, 1, 2], ["cat", "dog", "emu"], NUMBERS[:2], "2 classes without names"),
        ([0, 1], ["cat", "emu"], ["cat", "dog", "hen"], r"emu = \?, cat = cat"),
        ([0, 1], ["crane", "tench"], IMAGENET, r"crane = \?, tench = tench"),  # two are called so
        ([0, 1], ["cat", "Cat"], ["cat", "dog"], "not found, or not once"),
        ([0, 10], None, NUMBERS[:10], r"10 = \?"),
        ([0, 1], ["7", "12"], NUMBERS[:10], r"12 = \?"),
    ],
)
def test_what_cannot_be_found_is_refused(labels, own, theirs, message):
    with pytest.raises(InputError, match=message):
        numbered(images(labels, own), theirs, "network 'net'")


def test_the_table_is_that_of_imagenet(data_dir):
    rows = (data_dir / "imagenet-sample" / "labels.csv").read_text().splitlines()[1:]
    table = {int(row.split(",")[2]): tuple(row.split(",")[i] for i in (1, 3)) for row in rows}
    assert [table[k] for k in range(1000)] == list(imagenet_classes())

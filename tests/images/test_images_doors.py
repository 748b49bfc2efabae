"""Doors of ImageSet and of load_images: what libraries hand over goes in with the right labels."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from geomadv.errors import InputError
from geomadv.images import ImageSet, load_images

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
LABELS = [2, 0, 1, 1, 0, 2, 0]
TENSOR = torch.from_numpy(PIXELS).float() / 255
EXPECTED = ImageSet(PIXELS, LABELS)


def picture(pixels: Any) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


class Like(Dataset):
    """As torchvision's: (image, label) and `classes`."""

    classes = ("ant", "bee", "cat")

    def __init__(self, images: Any = PIXELS, make: Any = picture) -> None:
        self.images, self.make = images, make

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple[Any, Any]:
        if k >= len(self):
            raise IndexError(k)
        return self.make(self.images[k]), LABELS[k]


class Names:
    names = ("ant", "bee", "cat")


class Faces:
    """As Hugging Face's: dicts and `features`."""

    features = {"img": None, "label": Names()}  # noqa: RUF012

    def __len__(self) -> int:
        return 7

    def __getitem__(self, k: int) -> dict[str, Any]:
        return {"img": picture(PIXELS[k]), "label": LABELS[k]}


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter([(image, LABELS[k]) for k, image in enumerate(TENSOR)])


DOORS = {
    "pair": lambda: (PIXELS, LABELS),
    "pair of tensors": lambda: (TENSOR, torch.tensor(LABELS)),
    "TensorDataset": lambda: TensorDataset(TENSOR, torch.tensor(LABELS)),
    "DataLoader": lambda: DataLoader(TensorDataset(TENSOR, torch.tensor(LABELS)), batch_size=3),
    "shuffled": lambda: DataLoader(Like(make=torch.from_numpy), batch_size=3, shuffle=True),
    "stream": lambda: DataLoader(Stream(), batch_size=3),
    "pictures": Like,
    "arrays": lambda: Like(make=np.asarray),
    "floats": lambda: Like(TENSOR, make=lambda t: t),
    "array labels": lambda: [(p, np.array([k])) for p, k in zip(PIXELS, LABELS, strict=True)],
    "dicts": Faces,
    "list of dicts": lambda: [
        {"image": p, "label": k} for p, k in zip(TENSOR, LABELS, strict=True)
    ],
    "ImageSet": lambda: EXPECTED,
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_the_same_set(door: str) -> None:
    images = ImageSet(DOORS[door]())
    assert images.sha256 == EXPECTED.sha256
    assert len(images.class_names) == 3


def test_class_names_come_along() -> None:
    for given in (Like(), Faces(), Subset(Like(), range(7)), DataLoader(Like(), shuffle=True)):
        assert ImageSet(given).class_names == ("ant", "bee", "cat")
    assert ImageSet(Like(), class_names=["x", "y", "z"]).class_names == ("x", "y", "z")
    assert ImageSet(Like(), labels=[1] * 7).labels.tolist() == [1] * 7


def test_the_sampler_of_a_loader_chooses() -> None:
    chosen = SubsetRandomSampler([5, 1, 2])
    assert ImageSet(DataLoader(Like(), sampler=chosen)).sha256 == EXPECTED[[1, 2, 5]].sha256


def test_modes_of_pictures() -> None:
    deep = Image.fromarray(np.array([[0, 65535]], dtype=np.uint16))
    grey, colour = Image.new("L", (2, 1), 255), Image.new("RGB", (2, 1), "red")
    assert torch.equal(ImageSet([(deep, 0)]).images, torch.tensor([[[[0.0, 1.0]]]]))
    assert ImageSet([grey, deep]).images.flatten().tolist() == [1, 1, 0, 1]
    assert ImageSet([grey, grey]).shape == (1, 1, 2)
    assert ImageSet([grey, colour]).images[:, :, 0, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
    flat = [(np.full((2, 2), 255, np.uint8), 3)]
    assert ImageSet(flat).shape == (1, 2, 2)
    turned = Image.new("L", (2, 1), 9)
    turned.getexif()[274] = 6
    assert ImageSet([turned]).shape == (1, 2, 1)
    assert turned.size == (2, 1)


def test_arrays_are_still_arrays() -> None:
    assert ImageSet([PIXELS[0], PIXELS[1]]).shape == (3, 5, 4)
    assert ImageSet((PIXELS[0] / 255, PIXELS[1] / 255)).shape == (3, 5, 4)
    assert ImageSet([[[[0.0, 1.0]]]]).shape == (1, 1, 2)


def test_marks_of_withheld_labels_are_none() -> None:
    assert not ImageSet([(p, -1) for p in PIXELS]).has_labels
    assert not ImageSet([{"image": p, "label": None} for p in PIXELS]).has_labels


class Flipped(Like):
    def __getitem__(self, k: int) -> tuple[Any, Any]:
        return RNG.random((1, 2, 2)), 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Flipped(), "image 0 .* another one each time .*augmentation"),
        ([(PIXELS[0], 0), (PIXELS[1, :, :2], 0)], r"\(3, 5, 4\) at first, \(3, 2, 4\) at number 1"),
        ([(PIXELS[0], "cat")], "label of item 0 is 'cat'; expected one integer"),
        ([(PIXELS[0], 0.5)], "label of item 0 is 0.5"),
        ([(PIXELS[0], 0), (PIXELS[1], None)], "1 of 2 images have no label, .* number 1"),
        ([{"pixels": PIXELS[0], "label": 0}], "'pixels', 'label'; expected 'image'"),
        ([{"img": PIXELS[0], "fine_label": 0}], "'img', 'fine_label'; expected"),
        ({"train": Faces(), "test": Faces()}, r"a dict of 'train', 'test': .*data\['train'\]"),
        ("photos", r"path 'photos': load it with load_images"),
        (Path("photos"), "load_images"),
        (Like(PIXELS[:0]), "empty data set"),
        ([(Image.new("HSV", (2, 2)), 0)], "mode 'HSV' has no known scale"),
        ([(TENSOR[0] * 3 - 1, 0)], "undo mean/std normalisation"),
        (42, "expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_taken_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet(given)


# Files


def both(path: Path) -> tuple[ImageSet, ImageSet]:
    return load_images(path, "train"), load_images(path, "test")


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("kind", ["keras", "medmnist"])
def test_npz_files_with_splits(kind: str, grey: bool, tmp_path: Path) -> None:
    pixels = PIXELS[:, 0] if grey else PIXELS.transpose(0, 2, 3, 1)
    labels = np.array(LABELS, dtype=np.uint8)
    names = ("x_train", "y_train", "x_test", "y_test")
    if kind == "medmnist":
        names = ("train_images", "train_labels", "test_images", "test_labels")
        labels = labels[:, None]
    arrays = (pixels[:4], labels[:4], pixels[4:], labels[4:])
    np.savez(tmp_path / "mine.npz", **dict(zip(names, arrays, strict=True)))
    expected = ImageSet(PIXELS[:, :1] if grey else PIXELS, LABELS)
    train, test = both(tmp_path / "mine.npz")
    assert (train.sha256, test.sha256) == (expected[:4].sha256, expected[4:].sha256)
    assert (train.name, test.name) == ("mine-train", "mine-test")
    assert load_images(tmp_path / "mine.npz", "all").sha256 == expected.sha256


def test_labels_of_several_kinds_at_once_are_refused(tmp_path: Path) -> None:
    many = {"train_labels": np.zeros((7, 14), int), "test_labels": np.zeros((7, 14), int)}
    np.savez(tmp_path / "a.npz", train_images=PIXELS, test_images=PIXELS, **many)
    with pytest.raises(InputError, match=r"a\.npz: labels have shape \(7, 14\)"):
        load_images(tmp_path / "a.npz")
    volume = np.zeros((2, 9, 9, 9), np.uint8)
    np.savez(tmp_path / "b.npz", train_images=volume, test_images=volume)
    with pytest.raises(InputError, match=r"shape \(2, 9, 9, 9\); expected \(N, H, W\)"):
        load_images(tmp_path / "b.npz")


@pytest.mark.parametrize("names", ["train/images", "train_images"])
def test_hdf5_files_with_splits(names: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split, part in (("train", slice(4)), ("test", slice(4, 7))):
            file[names.replace("train", split)] = PIXELS[part]
            file[names.replace("train", split).replace("images", "labels")] = LABELS[part]
    train, test = both(tmp_path / "a.h5")
    assert (train.sha256, test.sha256) == (EXPECTED[:4].sha256, EXPECTED[4:].sha256)


@pytest.mark.parametrize("shape", ["NCHW", "NHWC"])
def test_npy_files(shape: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS if shape == "NCHW" else PIXELS.transpose(0, 2, 3, 1))
    images = load_images(tmp_path / "a.npy", "all")
    assert images.sha256 == ImageSet(PIXELS).sha256
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"a\.npy is no readable \.npy file"):
        load_images(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="pickled objects are not loaded"):
        load_images(tmp_path / "b.npy")


# CIFAR as pickled for Python

CIFAR = RNG.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
CLASSES = [3, 0, 9, 1, 3]


def put_cifar(folder: Path, protocol: int, classes: int = 10, keys: type = bytes) -> Path:
    """Writes batches as the publishers did: protocol 2, with keys of bytes."""
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> None:
        coded = {k.encode() if keys is bytes else k: v for k, v in content.items()}
        (folder / name).write_bytes(pickle.dumps(coded, protocol))

    key = "labels" if classes == 10 else "fine_labels"
    for name, part in (("data_batch_1", slice(3)), ("test_batch", slice(3, 5))):
        batch = {"data": CIFAR[part].reshape(-1, 3072), key: CLASSES[part], "filenames": [b"x"]}
        short = {"data_batch_1": "train", "test_batch": "test"}[name]
        write(name if classes == 10 else short, batch)
    names = [f"class{k}".encode() for k in range(classes)]
    meta = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
    write(meta[0], {meta[1]: names})
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("classes", [10, 100])
def test_pickled_cifar(protocol: int, classes: int, tmp_path: Path) -> None:
    folder = put_cifar(tmp_path / "in", protocol, classes, str if protocol == 4 else bytes)
    expected = ImageSet(CIFAR, CLASSES)
    train, test = both(folder)
    assert (train.sha256, test.sha256) == (expected[:3].sha256, expected[3:].sha256)
    assert train.class_names == tuple(f"class{k}" for k in range(classes))
    assert len(load_images(folder, "all", limit=4)) == 4


def test_pickled_cifar_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path))
    put_cifar(tmp_path / "cifar10" / "cifar-10-batches-py", 2)
    images = load_images("cifar10", "test")
    assert images.sha256 == ImageSet(CIFAR[3:], CLASSES[3:]).sha256
    assert images.name == "cifar10-test"
    assert load_images(tmp_path / "cifar10", "test").name == "cifar10-test"


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Evil(), b"labels": [0]}),
        pickle.dumps({b"data": np.array([{}], dtype=object), b"labels": [0]}),
        pickle.dumps({b"data": CIFAR.reshape(5, -1), b"labels": [0, 1, 2, 3, 10]}),
        pickle.dumps({b"data": CIFAR.reshape(5, -1), b"labels": [0]}),
        pickle.dumps({b"data": CIFAR.reshape(5, -1) / 255, b"labels": [0] * 5}),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": CIFAR.reshape(5, -1), b"labels": [0] * 5})[:999],
        b"",
    ],
)
def test_other_pickles_are_refused_and_nothing_is_run(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = put_cifar(tmp_path / "in", 2)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=r"data_batch_1 (is|holds) (no (pickled )?CIFAR|empty)"):
        load_images(folder)
    assert not Path("evil").exists()


def test_folders_of_standard_files(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (2, 3072), dtype=np.uint8)
    (tmp_path / "data_batch_1.bin").write_bytes(
        np.hstack([[[4], [7]], pixels]).astype("u1").tobytes()
    )
    assert load_images(tmp_path).labels.tolist() == [4, 7]
    with pytest.raises(InputError, match="lacks the files of split 'test'"):
        load_images(tmp_path, "test")

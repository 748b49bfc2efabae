"""Image sets by name and path: search order, downloads, folders, real data."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, fetch
from geomadv.images import ImageSet, list_images, load_images, named
from geomadv.images.splits import overlap

GREY = np.random.default_rng(2).integers(0, 256, (5, 28, 28), dtype=np.uint8)
CLASSES = np.array([3, 1, 4, 1, 5], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def put_mnist(folder: Path, images: np.ndarray = GREY, end: str = "", split: str = "t10k") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    labels = CLASSES[: len(images)]
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = gzip.compress(idx(array)) if end else idx(array)
        (folder / f"{split}-{kind}-ubyte{end}").write_bytes(content)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Empty data and cache folders that the variables name."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    monkeypatch.setenv("GEOMADV_DATA", str(data))
    monkeypatch.setenv("GEOMADV_CACHE", str(cache))
    return data, cache


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: Any, folder: Path, progress: bool) -> None:
        raise InputError(f"the download of {files[0].url} failed (ConnectionError)")

    monkeypatch.setattr(named, "fetch", refuse)


# Search order


@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_like_sets_come_from_the_data_folder(
    places: tuple[Path, Path], offline: None, end: str
) -> None:
    put_mnist(places[0] / "fashion-mnist", end=end)
    images = load_images("fashion-mnist", split="test")
    assert images.name == "fashion-mnist-test"
    assert images.class_names[3] == "dress"
    assert images.labels.tolist() == CLASSES.tolist()
    assert torch.equal(images.images[:, 0], torch.from_numpy(GREY).float() / 255)
    assert len(load_images("fashion-mnist", "test", limit=2)) == 2
    assert len(load_images("fashion-mnist", "test", limit=99)) == 5


def test_the_data_folder_comes_before_the_cache(
    places: tuple[Path, Path], offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_mnist(places[1] / "mnist", GREY[:2])
    assert len(load_images("mnist", "test")) == 2
    put_mnist(places[0] / "mnist", GREY[:4])
    assert len(load_images("mnist", "test")) == 4
    monkeypatch.delenv("GEOMADV_DATA")
    assert len(load_images("mnist", "test")) == 2


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_data_say_what_to_put_where(
    name: str, places: tuple[Path, Path], offline: None
) -> None:
    with pytest.raises(InputError) as caught:
        load_images(name, "test")
    message = str(caught.value)
    assert f"not in {places[0] / name}" in message
    assert "ConnectionError" in message
    assert f"into a folder {name}/ and set GEOMADV_DATA" in message
    assert ("t10k-images-idx3-ubyte" in message) == ("mnist" in name)


def test_missing_data_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOMADV_DATA", raising=False)
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"GEOMADV_DATA is not set.*no download.*labels\.csv"):
        load_images("imagenet-sample")


def cifar(n: int, classes: int = 10) -> bytes:
    labels = (np.arange(n, dtype=np.uint8) % classes)[:, None]
    pixels = np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8)
    return np.hstack([*([labels] if classes == 100 else []), labels, pixels]).tobytes()


def test_cifar_from_any_subset_of_batches(places: tuple[Path, Path], offline: None) -> None:
    folder = places[0] / "cifar10"
    folder.mkdir()
    (folder / "data_batch_5.bin").write_bytes(cifar(3))
    (folder / "data_batch_2.bin.gz").write_bytes(gzip.compress(cifar(4)))
    images = load_images("cifar10")
    assert images.labels.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert images.class_names[9] == "truck"
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    assert load_images("cifar10").class_names == tuple("abcdefghij")
    with pytest.raises(InputError, match=r"split 'test'.*test_batch\.bin"):
        load_images("cifar10", "test")


def test_cifar100(places: tuple[Path, Path], offline: None) -> None:
    folder = places[0] / "cifar100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "test.bin").write_bytes(cifar(6, 100))
    assert load_images("cifar100", "test").class_names[99] == "99"
    (folder / "fine_label_names.txt").write_text("\n".join(f"class{k}" for k in range(100)))
    images = load_images("cifar100", "test", limit=5)
    assert images.labels.tolist() == [0, 1, 2, 3, 4]
    assert images.class_names[99] == "class99"


# Downloads, from a server on this machine


def remote(address: str, path: Path) -> RemoteFile:
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False)
    return RemoteFile(f"{address}/{path.name}", digest.hexdigest())


def replace_source(
    monkeypatch: pytest.MonkeyPatch, name: str, files: tuple[RemoteFile, ...]
) -> None:
    old = named._SOURCES[name]
    new = named._Source(old.load, old.files, dict.fromkeys(old.files, files))
    monkeypatch.setitem(named._SOURCES, name, new)


def test_a_missing_set_is_downloaded_once(
    places: tuple[Path, Path], server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = server
    put_mnist(root, end=".gz")
    files = tuple(remote(address, path) for path in sorted(root.iterdir()))
    replace_source(monkeypatch, "mnist", files)
    first = load_images("mnist", "test", progress=False)
    assert sorted(p.name for p in (places[1] / "mnist").iterdir()) == [f.name for f in files]
    for path in root.iterdir():
        path.unlink()
    assert load_images("mnist", "test", progress=False).sha256 == first.sha256


def test_archives_are_unpacked_as_a_whole(
    places: tuple[Path, Path], server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = server
    archive = root / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (("data_batch_1.bin", cifar(3)), ("test_batch.bin", cifar(2))):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    replace_source(monkeypatch, "cifar10", (remote(address, archive),))
    assert len(load_images("cifar10", "train", progress=False)) == 3
    assert len(load_images("cifar10", "test", progress=False)) == 2
    assert [p.name for p in (places[1] / "cifar10").iterdir()] == ["cifar-10-batches-bin"]
    fetch((remote(address, archive),), places[1] / "cifar10", progress=False)
    assert len(load_images("cifar10", "train", progress=False)) == 3


def test_a_wrong_checksum_leaves_nothing_behind(
    places: tuple[Path, Path], server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = server
    put_mnist(root)
    files = tuple(RemoteFile(f"{address}/{p.name}", "0" * 32) for p in sorted(root.iterdir()))
    replace_source(monkeypatch, "mnist", files)
    with pytest.raises(InputError, match=r"another checksum.*GEOMADV_DATA"):
        load_images("mnist", "test", progress=False)
    assert list((places[1] / "mnist").iterdir()) == []


def test_failed_downloads_say_why(
    places: tuple[Path, Path], server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_source(monkeypatch, "mnist", (RemoteFile(f"{server[0]}/absent", "0" * 32),))
    with pytest.raises(InputError, match=r"404.*GEOMADV_DATA"):
        load_images("mnist", "test", progress=False)
    # Port 9 (discard) of this machine: nothing listens there.
    replace_source(monkeypatch, "mnist", (RemoteFile("http://127.0.0.1:9/x", "0" * 32),))
    with pytest.raises(InputError, match=r"failed \(ConnectionError\).*GEOMADV_DATA"):
        load_images("mnist", "test", progress=False)


def test_damaged_archives_are_refused(tmp_path: Path, server: tuple[str, Path]) -> None:
    (server[1] / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"x\.tar\.gz cannot be unpacked"):
        fetch((remote(server[0], server[1] / "x.tar.gz"),), tmp_path / "here", progress=False)


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*GEOMADV_CACHE"):
        fetch((), tmp_path / "file" / "mnist", progress=False)


def test_a_download_without_the_files_is_reported(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "fetch", lambda files, folder, progress: None)
    with pytest.raises(InputError, match="the download does not hold them"):
        load_images("mnist", progress=False)


# Folders


def picture(path: Path, value: int = 0, size: tuple[int, int] = (6, 6), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


def whole(path: Path, **settings: Any) -> ImageSet:
    return load_images(path, "all", **settings)


def test_a_sub_folder_per_class(tmp_path: Path) -> None:
    picture(tmp_path / "n02" / "b.png", 255)
    picture(tmp_path / "n02" / "a.JPEG", 0)
    picture(tmp_path / "n01" / "c.png", 51, mode="RGB")
    (tmp_path / "n01" / "notes.txt").write_text("")
    images = whole(tmp_path, size=6)
    assert images.class_names == ("n01", "n02")
    assert images.labels.tolist() == [0, 1, 1]
    assert images.shape == (3, 6, 6)
    means = images.images.mean((1, 2, 3))
    assert torch.allclose(means, torch.tensor([0.2, 0.0, 1.0]))
    assert whole(tmp_path, limit=1, size=6).labels.tolist() == [0]


def test_a_table_of_labels_decides_order_and_classes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 255)
    picture(tmp_path / "sub" / "b.png", 0)
    (tmp_path / "labels.csv").write_text(
        'file,class_index,name\nsub/b.png,3,"eel, electric"\na.png,1,\n'
    )
    images = whole(tmp_path, size=6)
    assert images.labels.tolist() == [3, 1]
    assert images.class_names == ("0", "1", "2", "eel, electric")
    assert images.images.mean((1, 2, 3)).tolist() == [0, 1]


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "b.png", 255)
    picture(tmp_path / "a.png", 0)
    images = whole(tmp_path, size=6)
    assert not images.has_labels
    assert images.images.mean((1, 2, 3)).tolist() == [0, 1]
    assert images.name == tmp_path.name


def test_train_and_test_folders_are_splits(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "a.png")
    picture(tmp_path / "val" / "cat" / "a.png")
    picture(tmp_path / "val" / "dog" / "a.png")
    assert len(load_images(tmp_path, "train")) == 1
    assert len(load_images(tmp_path, "test")) == 2
    assert load_images(tmp_path, "test").name == f"{tmp_path.name}-test"


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "CMYK"])
def test_all_colour_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.tif", 255, mode=mode)
    assert whole(tmp_path, size=6).images.mean() == 1


@pytest.mark.parametrize("cut", [0, 10, 60])
@pytest.mark.parametrize("end", ["png", "jpg"])
def test_damaged_images_are_named_when_read(cut: int, end: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{end}"
    picture(path, 7, size=(40, 40))
    path.write_bytes(path.read_bytes()[:cut])
    images = whole(tmp_path, size=6)
    with pytest.raises(InputError, match=rf"bad\.{end} (cannot be read as an image|is empty)"):
        _ = images.images


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,name\na.png,cat\n", "expected one row per image with the columns"),
        ("file,class_index\n", "has 0 rows"),
        ("", "has 0 rows"),
        ("file,class_index\na.png,cat\n", r"labels\.csv, line 2: class_index is 'cat'"),
        ("file,class_index\na.png\n", "line 2: class_index is None"),
        ("file,class_index\na.png,-1\n", "class_index is '-1'"),
        ("file,class_index\nb.png,0\nc.png,1\na.png,0\n", "2 images that are not there.*'b.png'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table: str, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        whole(tmp_path)


def test_settings_and_paths_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder .* has no images"):
        whole(tmp_path)
    with pytest.raises(InputError, match="split='valid' must be one of 'train', 'test', 'all'"):
        load_images("digits", "valid")
    with pytest.raises(InputError, match="limit=0"):
        load_images("digits", limit=0)
    with pytest.raises(InputError, match="size=10 x 10, resize=9"):
        whole(tmp_path, size=10, resize=9)
    with pytest.raises(InputError, match="Did you mean 'mnist'"):
        load_images("MNIST")
    with pytest.raises(InputError, match="nor an existing path"):
        load_images(tmp_path / "nothing.npz")
    (tmp_path / "a.mat").write_text("text")
    with pytest.raises(InputError, match=r"kind '\.mat' cannot be loaded"):
        load_images(tmp_path / "a.mat")


# Embedded and real data


def test_names() -> None:
    assert list_images() == [
        "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "imagenet-sample",
    ]  # fmt: skip


def test_digits_are_split_once_and_for_all() -> None:
    train, test = load_images("digits"), load_images("digits", "test")
    assert (len(train), len(test)) == (1297, 500)
    assert train.shape == (1, 8, 8)
    assert train.class_names == tuple("0123456789")
    # Pixels are sixteenths.
    assert torch.equal((train.images * 16).round() / 16, train.images)
    shares = [torch.bincount(s.labels) / len(s) for s in (train, test)]
    # Stratified: the counts of a class differ from proportional ones by less than one image.
    assert (shares[0] - shares[1]).abs().max() < 1 / 500 + 1 / 1297
    # A result file names its images by this sum.
    assert train.sha256.startswith("4e6b6406")
    assert test.sha256.startswith("7c72b89a")
    assert torch.equal(load_images("digits", limit=5).images, train[:5].images)


MNIST_COUNTS = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_the_known_one(split: str, real_data: Path) -> None:
    images = load_images("mnist", split)
    assert images.shape == (1, 28, 28)
    assert torch.bincount(images.labels).tolist() == MNIST_COUNTS[split]
    assert torch.equal(load_images("mnist", split, limit=7).images, images[:7].images)
    if split == "train":
        pixels = images.images.double()
        # Known to five digits.
        assert pixels.mean().item() == pytest.approx(0.13066, abs=5e-6)
        assert pixels.std().item() == pytest.approx(0.30811, abs=5e-6)


def test_cifar10_is_the_known_one(real_data: Path) -> None:
    test = load_images("cifar10", "test", limit=1000)
    counts = [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    assert torch.bincount(test.labels).tolist() == counts
    assert test.shape == (3, 32, 32)
    assert test.class_names[0] == "airplane"
    train = load_images("cifar10", limit=10_000).images.double()
    # Known over all 50,000 images. A mean over 10,000 of them differs by about 0.12 (the spread
    # of the images' means) / sqrt(10,000): three of that.
    known = torch.tensor([0.49140, 0.48216, 0.44653], dtype=torch.float64)
    assert (train.mean((0, 2, 3)) - known).abs().max() < 4e-3
    known = torch.tensor([0.24703, 0.24349, 0.26159], dtype=torch.float64)
    assert (train.std((0, 2, 3)) - known).abs().max() < 4e-3


def test_imagenet_sample_has_one_image_per_class(real_data: Path) -> None:
    images = load_images("imagenet-sample", "all")
    assert images.labels.tolist() == list(range(1000))
    assert images.class_names[0] == "tench"
    assert images.shape == (3, 224, 224)
    train, test = load_images("imagenet-sample"), load_images("imagenet-sample", "test")
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == list(range(1000))
    assert overlap(train, test) == 0
    first = images[0].images[0]
    with Image.open(real_data / "imagenet-sample" / "n01440764.jpg") as file:
        plain = torch.from_numpy(np.array(file)).permute(2, 0, 1)
    assert torch.equal(first, plain.float() / 255)
    with pytest.raises(InputError, match="several classes"):
        images.of_class("crane")


def test_cifar100_in_several_files(real_data: Path) -> None:
    assert len(load_images("cifar100", "train")) == 20_000
    test = load_images("cifar100", "test")
    assert (len(test), test.class_names[:2]) == (1_000, ("apple", "aquarium_fish"))

"""IDX, CIFAR, .npz and HDF5 files: exact reading, and what damaged ones say."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from geomadv.errors import InputError
from geomadv.images import ImageSet, load_images
from geomadv.images.formats import find_batches, read_cifar, read_idx, read_idx_pair, read_names

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (7, 4, 5), dtype=np.uint8)
CLASSES = RNG.integers(0, 10, 7, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write(path: Path, content: bytes, zipped: bool = False) -> Path:
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def zipped(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_idx_round_trip(tmp_path: Path, zipped: bool) -> None:
    path = write(tmp_path / "images", idx(GREY), zipped)
    data, total = read_idx(path)
    assert np.array_equal(data, GREY)
    assert total == 7
    part, total = read_idx(path, limit=3)
    assert np.array_equal(part, GREY[:3])
    assert total == 7
    assert len(read_idx(path, limit=99)[0]) == 7


def test_idx_limit_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "images", idx(GREY)[: -GREY[0].size])
    assert len(read_idx(path, limit=6)[0]) == 6
    with pytest.raises(InputError, match="truncated"):
        read_idx(path)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "magic": (lambda b: b"\x01" + b[1:], "no IDX file of uint8 .*01 00 08 03"),
    "type": (lambda b: b[:2] + b"\x0d" + b[3:], "no IDX file of uint8"),
    "no dimensions": (lambda b: b[:3] + b"\x00" + b[4:], "no IDX file of uint8"),
    "short": (lambda b: b[:-1], "truncated: 139 bytes where 140"),
    "long": (lambda b: b + b"x", "longer than the 7 entries"),
    "only a header": (lambda b: b[:6], "truncated"),
    "empty": (lambda b: b"", "is empty|truncated"),
    "absurd size": (lambda b: b[:4] + b"\xff" * 12 + b[16:], "too small for"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_idx_files_are_named(kind: str, tmp_path: Path, zipped: bool) -> None:
    spoil, message = DAMAGE[kind]
    path = write(tmp_path / "broken-images", spoil(idx(GREY)), zipped)
    with pytest.raises(InputError, match=f"broken-images .*(?:{message}).*(again|anew)"):
        read_idx(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[:10] + bytes(8) + b[18:],
        lambda b: b[:-8] + bytes(8),
        lambda b: b[:2] + b"\x07" + b[3:],
    ],
    ids=["truncated", "stream", "checksum", "method"],
)
def test_broken_gzip_files_are_named(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "broken.gz", spoil(gzip.compress(idx(GREY))))
    with pytest.raises(InputError, match=r"broken\.gz .*again"):
        read_idx(path)


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent cannot be read"):
        read_idx(tmp_path / "absent")


def test_idx_pairs_must_belong_together(tmp_path: Path) -> None:
    images = write(tmp_path / "images", idx(GREY))
    labels = write(tmp_path / "labels", idx(CLASSES))
    pixels, classes = read_idx_pair(images, labels)
    assert pixels.shape == (7, 1, 4, 5)
    assert classes.tolist() == CLASSES.tolist()
    write(labels, idx(CLASSES[:6]))
    with pytest.raises(InputError, match=r"has 7 images, but .* has 6 labels"):
        read_idx_pair(images, labels, limit=2)
    with pytest.raises(InputError, match="1 dimensions where images"):
        read_idx_pair(labels, labels)
    with pytest.raises(InputError, match="3 dimensions where labels"):
        read_idx_pair(images, images)


def cifar(n: int, classes: int, seed: int = 0) -> tuple[bytes, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, classes, n, dtype=np.uint8)
    coarse = [labels[:, None] // 5] if classes == 100 else []
    return (
        np.hstack([*coarse, labels[:, None], images.reshape(n, -1)]).tobytes(),
        images,
        labels,
    )


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_round_trip(classes: int, tmp_path: Path, zipped: bool) -> None:
    content, images, labels = cifar(4, classes)
    path = write(tmp_path / "batch", content, zipped)
    pixels, found = read_cifar([path], classes)
    assert np.array_equal(pixels, images)
    assert np.array_equal(found, labels)
    assert found.dtype == np.int64


def test_cifar_batches_come_in_order_and_limit_skips_files(tmp_path: Path) -> None:
    parts = [cifar(3, 10, seed) for seed in (0, 1)]
    paths = [write(tmp_path / f"{k}", part[0]) for k, part in enumerate(parts)]
    pixels, _ = read_cifar(paths, 10)
    assert np.array_equal(pixels, np.concatenate([part[1] for part in parts]))
    assert np.array_equal(read_cifar(paths, 10, limit=4)[0], pixels[:4])
    paths[1].unlink()
    assert np.array_equal(read_cifar(paths, 10, limit=3)[0], pixels[:3])


def test_damaged_cifar_batches_are_named(tmp_path: Path) -> None:
    content, _, _ = cifar(3, 10)
    for spoiled in (content[:-1], content + b"x", gzip.compress(content)[:5000]):
        path = write(tmp_path / "batch.bin", spoiled)
        with pytest.raises(InputError, match=r"batch\.bin .*truncated"):
            read_cifar([path], 10)
    path = write(path, content[:3073] + b"\x0a" + content[3074:])
    with pytest.raises(InputError, match="label 10 in record 1, which CIFAR-10"):
        read_cifar([path], 10)


def test_batches_are_found_once_each_by_number(tmp_path: Path) -> None:
    for name in ("data_batch_10.bin", "data_batch_2.bin.gz", "data_batch_2.bin", "x.bin"):
        write(tmp_path / name, b"")
    found = [p.name for p in find_batches(tmp_path, r"data_batch_\d+.*")]
    assert found == ["data_batch_2.bin", "data_batch_10.bin"]
    assert find_batches(tmp_path, "test_batch.*") == []
    assert find_batches(tmp_path / "absent", "train") == []


def test_class_names_from_file_or_default(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    assert read_names(path, 2, ("a", "b")) == ("a", "b")
    path.write_text("cat\ndog\n\n")
    assert read_names(path, 2, ("a", "b")) == ("cat", "dog")
    with pytest.raises(InputError, match="2 class names where 3"):
        read_names(path, 3, ())
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no readable text"):
        read_names(path, 3, ())


# .npz and HDF5


def whole(path: Path | str, **settings: Any) -> ImageSet:
    return load_images(path, "all", **settings)


COLOUR = RNG.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
MANY = np.array([0, 1, 2, 0, 1, 2])


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def save_h5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return path


@pytest.fixture(params=["npz", "h5"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    path = tmp_path / f"mine.{request.param}"
    return lambda **arrays: (save_npz if request.param == "npz" else save_h5)(path, **arrays)


@pytest.mark.parametrize("pixels", [COLOUR, (COLOUR / 255), (COLOUR / 255).astype(np.float32)])
def test_files_and_memory_give_the_same_set(save: Callable[..., Path], pixels: Any) -> None:
    images = whole(save(images=pixels, labels=MANY, class_names=["a", "b", "c"]))
    memory = ImageSet(COLOUR, MANY)
    assert images.sha256 == memory.sha256
    assert images.class_names == ("a", "b", "c")
    assert images.name == "mine"
    assert torch.equal(images[[4, 0, 4]].images, memory[[4, 0, 4]].images)
    assert torch.equal(images[1:3].images, memory[1:3].images)


def test_files_need_no_labels_and_obey_the_limit(save: Callable[..., Path]) -> None:
    images = whole(str(save(images=COLOUR)), limit=2)
    assert len(images) == 2
    assert not images.has_labels


def test_bounds_of_files(save: Callable[..., Path]) -> None:
    path = save(images=COLOUR / 127.5 - 1)
    assert whole(path, bounds=(-1, 1)).images.min() < -0.5
    with pytest.raises(InputError, match=r"mine\..*outside bounds \[0, 1\]"):
        _ = whole(path).images


def test_non_finite_pixels_of_files(save: Callable[..., Path]) -> None:
    pixels = COLOUR / 255
    pixels[3, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"mine\..*1 of 6 contain NaN .*number 3"):
        _ = whole(save(images=pixels)).images


def test_unusable_files_are_named(save: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"mine\..*no 'images'; it has 'x'"):
        whole(save(x=COLOUR))
    with pytest.raises(InputError, match=r"mine\..*shape \(5,\) for 6 images"):
        whole(save(images=COLOUR, labels=MANY[:5]), limit=5)
    with pytest.raises(InputError, match=r"mine\..*shape \(6, 3, 4\).*images\[:, None\]"):
        whole(save(images=COLOUR[..., 0]))
    path = save(images=COLOUR)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"mine\..*no readable"):
        whole(path)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "evil.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"evil\.npz.*plain arrays"):
        whole(path)


def test_hdf5_pixels_are_read_when_asked_for(tmp_path: Path) -> None:
    path = save_h5(tmp_path / "late.h5", images=COLOUR, labels=MANY)
    images = whole(path)
    assert images.of_class(2).labels.tolist() == [2, 2]
    path.unlink()
    with pytest.raises(InputError, match=r"late\.h5 is not there any more"):
        _ = images.images

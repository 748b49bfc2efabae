"""Files of another kind than their place promises are called what they are, at every door."""

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from geomadv import results
from geomadv.errors import InputError
from geomadv.files import kinds
from geomadv.images import load_images
from geomadv.networks.weights import find_weights, read_checkpoint

PAGE = b"\xef\xbb\xbf\n <html lang=en><title>404</title>"
KINDS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page": (PAGE, "is a web page"),
    "declared page": (b"<!DOCTYPE html><html>", "is a web page"),
    "answer": (b'{"message": "Not Found"}', "is a JSON text"),
    "gzip": (gzip.compress(bytes(99)), "compressed by gzip"),
    "xz": (b"\xfd7zXZ\0" + bytes(99), "is packed"),
    "tar": (bytes(257) + b"ustar" + bytes(250), "is packed"),
    "nothing": (b"", "is empty"),
}
SUFFIXES = ("png", "npz", "npy", "h5", "pt")


def use(path: Path) -> object:
    """What a user does with such a file."""
    if path.suffix == ".pt":
        return read_checkpoint(find_weights(path))
    return load_images(path, "all").images


def put_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (put_link, "is a link to /nowhere/at/all, which is not there"),
    "pipe": (lambda path: os.mkfifo(path), "is a device or a pipe"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_content_of_another_kind(suffix: str, kind: str, tmp_path: Path) -> None:
    content, message = KINDS[kind]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.{suffix} .*{message}") as caught:
        use(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no such places there")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_places_that_are_no_files(suffix: str, place: str, tmp_path: Path) -> None:
    put, message = PLACES[place]
    put(tmp_path / f"a.{suffix}")
    with pytest.raises(InputError, match=message):
        use(tmp_path / f"a.{suffix}")


def test_a_folder_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a file"):
        find_weights(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_must_not_be_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"text")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    error = kinds.other_kind(path, "the file")
    assert "must not be read (Permission denied). Change its rights" in str(error)


def test_arrays_under_another_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 1, 8, 8), np.float32))
    np.savez(tmp_path / "b.npz", images=np.zeros((2, 1, 8, 8), np.float32))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["images"] = np.zeros((2, 1, 8, 8), np.float32)
    for source in ("a.npy", "b.npz", "c.h5"):
        for suffix in {".npy", ".npz", ".h5"} - {Path(source).suffix}:
            other = tmp_path / f"other{suffix}"
            other.write_bytes((tmp_path / source).read_bytes())
            with pytest.raises(InputError, match=rf"other\{suffix} .*{Path(source).suffix}"):
                load_images(other)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("lost", ["a/1.png", "b"])
def test_a_lost_link_is_no_missing_image_or_class(lost: str, tmp_path: Path) -> None:
    for name in ("a/0.png", "c/0.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert load_images(tmp_path, "all", size=8).class_names == ("a", "c")
    put_link(tmp_path / lost)
    with pytest.raises(InputError, match=f"{lost} is a link to /nowhere"):
        load_images(tmp_path, "all", size=8)


@pytest.mark.skipif(sys.platform == "win32", reason="other locks there")
def test_a_result_in_use_is_not_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    results.save(xr.Dataset({"a": ((), 1.0, {"long_name": "a", "units": "1"})}), path)
    fcntl = pytest.importorskip("fcntl")
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="is open for writing") as caught:
            results.load(path)
    assert "delete" not in str(caught.value)
    path.write_bytes(KINDS["pointer"][0])
    with pytest.raises(InputError, match="git lfs pull"):
        results.load(path)
    with pytest.raises(InputError, match="is a folder"):
        results.load(tmp_path)

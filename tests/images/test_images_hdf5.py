"""HDF5 and netCDF files that people bring: read right, or named as what they are."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from scipy.io import netcdf_file

from geomadv.errors import InputError
from geomadv.images import ImageSet, load_images

PIXELS = np.random.default_rng(1).integers(0, 255, (6, 1, 4, 4), dtype=np.uint8)


def whole(path: Path, **settings: Any) -> ImageSet:
    return load_images(path, "all", **settings)


def save(path: Path, images: Any = PIXELS, **more: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["images"] = images
        for key, value in more.items():
            file[key] = value
    return path


# netCDF


@pytest.mark.filterwarnings("ignore:saving variable")
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i4", "f4"])
def test_scale_and_offset_are_applied(dtype: str, tmp_path: Path) -> None:
    values = PIXELS / 512 + 0.25
    ds = xr.Dataset({"images": (("n", "c", "h", "w"), values), "labels": ("n", np.arange(6))})
    how = {"dtype": dtype, "_FillValue": None, "scale_factor": 1 / 512, "add_offset": 0.25}
    path = tmp_path / "packed.nc"
    ds.to_netcdf(path, engine="h5netcdf", encoding={"images": how})
    images = whole(path)
    # The values are stored exactly; scaling rounds in float64, the result in float32.
    assert np.abs(images.images.numpy() - values).max() < 2**-24
    assert images[[3, 1]].labels.tolist() == [3, 1]


def test_missing_values_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["images"].attrs["_FillValue"] = np.uint8(255)
    assert len(whole(path)) == 6
    with h5py.File(path, "a") as file:
        file["images"][4, 0, 2, 2] = 255
    with pytest.raises(InputError, match=r"1 of the 6 .* missing values \(255,.* number 4\."):
        _ = whole(path).images
    assert whole(path)[:3].images.shape == (3, 1, 4, 4)


def test_attributes_that_cannot_be_applied_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", PIXELS.view(np.int8))
    with h5py.File(path, "a") as file:
        file["images"].attrs["_Unsigned"] = "true"
    with pytest.raises(InputError, match="unsigned numbers as signed"):
        whole(path)
    path = save(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        file["images"].attrs["scale_factor"] = "1/255"
    with pytest.raises(InputError, match="scale_factor of 'images' is no number"):
        whole(path)


@pytest.mark.parametrize("version", [1, 2])
def test_classic_netcdf_is_named(version: int, tmp_path: Path) -> None:
    with netcdf_file(tmp_path / "a.nc", "w", version=version) as file:
        file.createDimension("n", 2)
        file.createVariable("images", "f4", ("n",))[:] = 0
    with pytest.raises(InputError, match="is of netCDF-3"):
        whole(tmp_path / "a.nc")


def test_big_endian_numbers(tmp_path: Path) -> None:
    values = (PIXELS / 255).astype(">f4")
    path = save(tmp_path / "a.h5", values, labels=np.arange(6, dtype=">i2"))
    memory = ImageSet(PIXELS, np.arange(6))
    for images in (whole(path), ImageSet(values, np.arange(6, dtype=">u4"))):
        assert images.sha256 == memory.sha256
        assert torch.equal(images.images, memory.images)


# What is not there, or in use


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", labels=h5py.SoftLink("/gone"))
    with pytest.raises(InputError, match="'labels' is a link to '/gone' in this file, which is"):
        whole(path)
    path = save(tmp_path / "b.h5", h5py.ExternalLink("a.h5", "/images"))
    assert whole(path).sha256 == ImageSet(PIXELS).sha256
    (tmp_path / "a.h5").unlink()
    with pytest.raises(InputError, match=r"link to '/images' in a\.h5"):
        whole(path)


def test_pixels_that_lie_elsewhere_are_never_zeros(tmp_path: Path) -> None:
    source = save(tmp_path / "source.h5")
    layout = h5py.VirtualLayout(PIXELS.shape, "u1")
    layout[:] = h5py.VirtualSource("source.h5", "images", PIXELS.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    images = whole(tmp_path / "virtual.h5")
    assert images[:2].sha256 == ImageSet(PIXELS[:2]).sha256
    source.unlink()
    with pytest.raises(InputError, match=r"put together from source\.h5, which is not there"):
        _ = images.images
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        raw = str(tmp_path / "x.raw")
        file.create_dataset("images", PIXELS.shape, "u1", external=[(raw, 0, PIXELS.size)])
    with pytest.raises(InputError, match=r"stored in .*x\.raw, which is not there"):
        whole(tmp_path / "raw.h5")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Any]:
    """Another process that opens a file for writing, and keeps it so."""
    running = []

    def start(path: Path, how: str) -> Any:
        script = f"import h5py, sys; f = h5py.File(sys.argv[1], {how}); f.flush(); "
        script += "print('open', flush=True); input()"
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="other locks there")
def test_files_in_use_are_named(tmp_path: Path, writer: Any) -> None:
    path = save(tmp_path / "a.h5")
    process = writer(path, "'a'")
    with pytest.raises(InputError, match="is open for writing in another process"):
        whole(path)
    process.kill()
    process.wait()
    assert len(whole(path)) == 6
    process = writer(path, "'w', libver='latest'); f['x'] = 1; f.swmr_mode = bool(1")
    process.kill()
    process.wait()
    with pytest.raises(InputError, match=r"was not closed when its writer was killed.*h5clear"):
        whole(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_files_that_must_not_be_read_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5")
    path.chmod(0)
    with pytest.raises(InputError, match="must not be read"):
        whole(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "zip archive"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\n<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"", "is empty"),
        (b"nonsense", "is no readable HDF5 file"),
    ],
)
def test_other_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(InputError, match=message):
        whole(tmp_path / "a.h5")


# Texts


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), "S4", h5py.string_dtype("ascii")])
def test_names_of_any_kind(dtype: Any, tmp_path: Path) -> None:
    names = np.array(["a", "bee", "c"], dtype=dtype)
    path = save(tmp_path / "a.h5", labels=np.arange(6) % 3, class_names=names)
    assert whole(path).class_names == ("a", "bee", "c")


def test_texts_are_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.h5", labels=["cat", "dog"] * 3)
    with pytest.raises(InputError, match="'labels' is of type object; expected integers"):
        whole(path)
    path = save(tmp_path / "b.h5", class_names=np.zeros(3))
    with pytest.raises(InputError, match="'class_names' is of type float64; expected texts"):
        whole(path)


def test_damaged_texts_are_given_up(tmp_path: Path) -> None:
    names = [f"class number {k}" for k in range(50)]
    path = save(tmp_path / "a.h5", labels=np.arange(6), class_names=names)
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    bad = tmp_path / "bad.h5"
    shutil.copy(path, bad)
    # Sizes of zero and beyond the end, in the first entries of the heap that holds the texts.
    for spoiled in (bytes(8), b"\xff" * 8):
        places = range(heap + 16, heap + 16 + 200)
        changed = bytearray(content)
        for place in places:
            changed[place] = spoiled[place % 8]
        bad.write_bytes(changed)
        with pytest.raises(InputError, match=r"bad\.h5 holds texts"):
            whole(bad)

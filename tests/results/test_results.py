"""Result files: round trips, provenance, reuse, and everything that can be wrong with a file."""

import errno
import json
import multiprocessing
import shutil
import socket
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geomadv.errors import InputError
from geomadv.results import check_writable, digest, load, provenance, reuse, save

NETWORK = {"weights": "ab" * 32, "behaviour": [1.0, -2.0]}
SETTINGS = {"overshoot": 0.02, "candidates": 10}
IDENTITY = {"experiment": "boundary", "network": NETWORK, "seed": 3, "settings": SETTINGS}
TOLD = {
    "config": {**SETTINGS, "seed": 3},
    "network": "lenet",
    "dataset": "digits",
    "device": "cpu",
    "dtype": "float32",
}


def label(name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": name, "units": units}


@pytest.fixture
def ds() -> xr.Dataset:
    return xr.Dataset(
        {
            "norm": ("sample", np.array([0.5, np.nan, 2.0]), label("norm", "image units")),
            "converged": ("sample", np.array([True, False, True]), label("label changed")),
            "normal": (("sample", "pixel"), np.ones((3, 4), np.float32), label("unit normal")),
        },
        coords={"class": ("class", ["zero", "one"]), "scale": ("k", [1.0, 2.0], label("scale"))},
    )


def attrs(**changes: object) -> dict[str, object]:
    return provenance(IDENTITY, **{**TOLD, **changes})


def test_what_is_saved_is_loaded(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "lenet" / "boundary.h5", attrs())
    found = load(path)
    xr.testing.assert_equal(found, ds)
    assert found["converged"].dtype == bool
    assert found["norm"].attrs == label("norm", "image units")
    assert [file.name for file in path.parent.iterdir()] == ["boundary.h5"]


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        st.sampled_from([np.bool_, np.int8, np.uint8, np.int64, np.float32, np.float64]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    )
)
def test_every_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    dims = [f"d{axis}" for axis in range(array.ndim)]
    with tempfile.TemporaryDirectory() as folder:
        found = load(save(xr.Dataset({"a": (dims, array, label("a"))}), Path(folder) / "a.h5"))["a"]
    assert found.dtype == array.dtype
    assert found.values.tobytes() == array.tobytes()


def test_plain_h5py_and_xarray_open_the_file(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "boundary.h5", attrs())
    with xr.open_dataset(path) as opened:
        xr.testing.assert_equal(opened, ds)
    with h5py.File(path) as file:
        assert [dim[0].name for dim in file["normal"].dims] == ["/sample", "/pixel"]
        assert file["normal"].attrs["units"] == "1"
        assert file.attrs["complete"] == 1


def test_the_root_says_where_the_numbers_come_from(ds: xr.Dataset, tmp_path: Path) -> None:
    root = load(save(ds, tmp_path / "a.h5", attrs(wall_time_s=1.5))).attrs
    assert root["experiment"] == "boundary"
    assert root["network"] == "lenet"
    assert (root["dataset"], root["dataset_sha256"]) == ("digits", "")
    assert json.loads(root["identity"]) == IDENTITY
    assert (root["seed"], root["device"], root["dtype"]) == (3, "cpu", "float32")
    assert (root["wall_time_s"], root["complete"]) == (1.5, 1)
    assert root["config"] == json.dumps(TOLD["config"], sort_keys=True)
    assert root["torch_version"] == torch.__version__
    assert not root["command"].startswith("/")
    assert datetime.fromisoformat(root["created"]).utcoffset() == timedelta(0)


def test_attributes_are_the_same_set_in_every_file(ds: xr.Dataset, tmp_path: Path) -> None:
    bare = load(save(ds, tmp_path / "bare.h5")).attrs
    full = load(save(ds, tmp_path / "full.h5", attrs())).attrs
    assert set(bare) == set(full)
    assert (bare["network"], bare["seed"], bare["complete"]) == ("", -1, 1)


def test_attributes_of_any_type_are_stored(ds: xr.Dataset, tmp_path: Path) -> None:
    extra = {"clip": True, "step": None, "names": ["a", "b"], "nested": {"b": (1,), "a": None}}
    root = load(save(ds, tmp_path / "a.h5", extra)).attrs
    assert root["clip"] == 1
    assert "step" not in root
    assert list(root["names"]) == ["a", "b"]
    assert root["nested"] == '{"a": null, "b": [1]}'


def test_an_identity_holds_settings_of_any_type() -> None:
    @dataclass
    class Settings:
        radii: tuple[float, ...] = (0.5, float("inf"))
        folder: Path = Path("weights")

    identity = {"settings": Settings(), "n": np.int64(2), "x": torch.ones(2), "s": {2, 1}}
    assert json.loads(provenance(identity)["identity"]) == {
        "settings": {"radii": [0.5, "inf"], "folder": "weights"},
        "n": 2,
        "x": [1.0, 1.0],
        "s": [1, 2],
    }


def test_saving_leaves_the_dataset_alone(ds: xr.Dataset, tmp_path: Path) -> None:
    before = ds.copy(deep=True)
    save(ds, tmp_path / "a.h5", attrs())
    xr.testing.assert_identical(ds, before)


def test_a_loaded_part_can_be_saved_again(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5", attrs())
    again = load(save(load(path).isel(sample=[0, 2]), path))
    assert again.sizes["sample"] == 2
    assert again.attrs["network"] == "lenet"


@pytest.mark.parametrize("key", ["long_name", "units"])
def test_a_variable_without_label_is_refused(ds: xr.Dataset, tmp_path: Path, key: str) -> None:
    del ds["norm"].attrs[key]
    with pytest.raises(InputError, match=f"'norm' has no {key}"):
        save(ds, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_coordinates_without_label_count_as_plain(ds: xr.Dataset, tmp_path: Path) -> None:
    found = load(save(ds, tmp_path / "a.h5"))
    assert found["class"].attrs == label("class")


@pytest.mark.parametrize("dtype", [np.complex64, np.float16])
def test_types_that_netcdf_lacks_are_refused(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(InputError, match="'a' has type"):
        save(xr.Dataset({"a": ("x", np.ones(2, dtype), label("a"))}), tmp_path / "a.h5")


def test_an_existing_file_is_kept_when_asked(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5")
    with pytest.raises(InputError, match="exists"):
        save(ds, path, overwrite=False)


def test_leftovers_of_dead_processes_are_removed(ds: xr.Dataset, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    own = save(ds, tmp_path / "a.h5")
    host = socket.gethostname()
    stray = tmp_path / f".a.h5.{host}.{process.pid}.tmp"
    foreign = tmp_path / ".a.h5.another-machine.1.tmp"
    for file in (stray, foreign):
        file.write_bytes(b"half a result")
    save(ds, own)
    assert not stray.exists()
    assert foreign.exists()


# --- files that are not results ---------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no result file .*nothing\.h5"):
        load(tmp_path / "nothing.h5")


def test_text_is_not_a_result(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("norm,converged")
    with pytest.raises(InputError, match="not HDF5"):
        load(tmp_path / "a.h5")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(ds: xr.Dataset, tmp_path: Path, kept: float) -> None:
    path = save(ds, tmp_path / "a.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="not a complete result file"):
        load(path)


def test_damaged_structure_is_refused(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    content[200 : len(content) // 2] = bytes(len(content) // 2 - 200)
    path.write_bytes(content)
    with pytest.raises(InputError):
        load(path)


def test_foreign_and_incomplete_hdf5_are_refused(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["complete"] = 0
    with pytest.raises(InputError, match="complete is not 1"):
        load(path)
    with h5py.File(path, "a") as file:
        del file.attrs["geomadv_version"]
    with pytest.raises(InputError, match="not a geomadv result"):
        load(path)


def test_large_files_are_read_on_demand(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(ds, tmp_path / "a.h5")
    monkeypatch.setattr("geomadv.results.files._IN_MEMORY_BYTES", 0)
    with load(path) as lazy:
        assert not lazy["normal"].variable._in_memory
        xr.testing.assert_equal(lazy, ds)


# --- reuse ------------------------------------------------------------------------------------


def test_nothing_to_reuse_yet(tmp_path: Path) -> None:
    assert reuse(tmp_path / "a.h5", IDENTITY) is None


def test_the_same_question_is_answered_from_the_file(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5", attrs())
    found = reuse(path, IDENTITY)
    assert found is not None
    xr.testing.assert_equal(found, ds)


def other_identity() -> dict[str, object]:
    settings = {"overshoot": 0.02, "tol": 1e-6}
    network = {"weights": "ef" * 32, "behaviour": [1.0, -2.0]}
    return {**IDENTITY, "seed": 4, "settings": settings, "network": network}


def test_another_question_is_refused_with_the_differences(ds: xr.Dataset, tmp_path: Path) -> None:
    path = save(ds, tmp_path / "a.h5", attrs())
    with pytest.raises(InputError) as refusal:
        reuse(path, other_identity())
    message = str(refusal.value)
    for part in (
        "seed: 3 -> 4",
        "settings.candidates: 10 -> (absent)",
        "settings.tol: (absent) -> 1e-06",
        "network.weights: abababab... -> efefefef...",
        "--refresh",
        "--results",
    ):
        assert part in message
    assert "overshoot" not in message
    assert "behaviour" not in message
    assert reuse(path, other_identity(), refresh=True) is None
    assert path.exists()


@pytest.mark.parametrize(("change", "same"), [(1e-6, True), (1e-2, False)])
def test_what_a_network_computes_is_compared_up_to_rounding(
    ds: xr.Dataset, tmp_path: Path, change: float, same: bool
) -> None:
    path = save(ds, tmp_path / "a.h5", attrs())
    behaviour = [1.0 + change, -2.0]
    identity = {**IDENTITY, "network": {**NETWORK, "behaviour": behaviour}}
    assert (reuse(path, identity, refresh=True) is not None) == same
    # Of what it is an input to, the digest says nothing of rounding.
    assert digest(identity) == digest(IDENTITY)


def test_a_digest_ignores_order_but_no_value() -> None:
    turned = dict(reversed(IDENTITY.items()))
    assert digest(turned) == digest(IDENTITY)
    assert digest(other_identity()) != digest(IDENTITY)


# --- disks that refuse ------------------------------------------------------------------------


def test_a_writable_folder_is_made(tmp_path: Path) -> None:
    folder = check_writable(tmp_path / "new" / "results", needed_bytes=1)
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_too_little_room_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=2e9, used=1e9, free=1e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"has 1 GB free, and 5 GB are needed"):
        check_writable(tmp_path, needed_bytes=5_000_000_000)


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="not writable"):
        check_writable(tmp_path)


def test_a_folder_below_a_file_is_refused(ds: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        check_writable(tmp_path / "file" / "results")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        save(ds, tmp_path / "file" / "a.h5")


def test_a_failed_rename_leaves_the_old_result(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(ds, tmp_path / "a.h5", {"note": "old"})

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InputError, match="not writable"):
        save(ds, path, {"note": "new"})
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
    assert load(path).attrs["note"] == "old"

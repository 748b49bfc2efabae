"""Files of released layouts stay readable.

Each file ``results-*`` in tests/archive/ was made by ``python`` on this file with the version in
its name, each ``normal_svd-*`` by that version's command, from 40 normals of
digits-cnn; a new layout gets further files beside them, and these are never made anew.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from test_results_store import assert_same, datasets

from geomadv import plotting
from geomadv.cli import main
from geomadv.results import Store, load, provenance
from geomadv.results.reading import read_netcdf

ARCHIVE = Path(__file__).parents[1] / "archive"
RELEASED = ["0.1.0", "0.2.0"]
CONFIG = {"overshoot": 0.02, "seed": 5}
NORMALS = np.arange(12, dtype=np.float32).reshape(4, 3)


def rows(i: int) -> xr.Dataset:
    """Two samples, and what all samples share."""
    pure = {"units": "1"}
    return xr.Dataset(
        {
            "normal": (
                ("sample", "pixel"),
                NORMALS[2 * i : 2 * i + 2],
                {"long_name": "unit boundary normal", **pure},
            ),
            "converged": ("sample", [True, False], {"long_name": "label changed", **pure}),
        },
        {"class": ("class", ["zero", "one"], {"long_name": "class name", **pure})},
    )


def make(path: Path) -> None:
    """A small result with every feature of the layout."""
    with Store(path, CONFIG) as store:
        ds = store.rows({str(i): partial(rows, i) for i in range(2)}, "sample")
        ds["step"] = ((), 0.25, {"long_name": "step", "units": "image units"})
        identity = {"experiment": "boundary", **CONFIG}
        store.finish(ds, provenance(identity, config=CONFIG, wall_time_s=0.5))


def archived(version: str) -> Path:
    return ARCHIVE / f"results-{version}.h5"


@pytest.mark.parametrize("version", RELEASED)
def test_every_released_layout_is_read(version: str) -> None:
    ds = load(archived(version))
    np.testing.assert_array_equal(ds["normal"], NORMALS)
    np.testing.assert_array_equal(ds["converged"], [True, False, True, False])
    assert ds["converged"].dtype == bool
    assert (ds["normal"].dims, float(ds["step"])) == (("sample", "pixel"), 0.25)
    assert list(ds["class"].values) == ["zero", "one"]
    assert (ds.attrs["experiment"], ds.attrs["seed"], ds.attrs["complete"]) == ("boundary", 5, 1)
    assert json.loads(ds.attrs["config"]) == CONFIG


@pytest.mark.parametrize("version", RELEASED)
def test_a_result_of_every_released_layout_opens_verifies_and_draws(
    version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ARCHIVE / f"normal_svd-{version}.h5"
    ds = load(path)
    assert (ds.attrs["geomadv_version"], ds.attrs["experiment"]) == (version, "normal_svd")
    assert main(["verify", str(path)]) == 0
    sealed = "no checksum" if version == "0.1.0" else "as it was written"
    assert sealed in capsys.readouterr().out
    axes = plotting.normal_spectrum(ds).axes[0]
    drawn = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
    assert any(np.array_equal(y, ds["spectrum"]) for y in drawn if len(y) == 40)
    pictures = [a.get_images() for a in plotting.leading_directions(ds).axes]
    assert sum(map(len, pictures)) == ds.sizes["rank"]


def test_every_released_layout_holds_the_same_numbers() -> None:
    old, new = (load(ARCHIVE / f"normal_svd-{version}.h5") for version in RELEASED)
    for name in ("spectrum", "direction", "baseline"):
        np.testing.assert_allclose(old[name], new[name], atol=1e-4)


def test_the_present_layout_is_the_last_archived_one(tmp_path: Path) -> None:
    make(tmp_path / "now.h5")
    now, then = load(tmp_path / "now.h5"), load(archived(RELEASED[-1]))
    assert set(now.attrs) == set(then.attrs)
    then.attrs = now.attrs
    xr.testing.assert_identical(now, then)


@pytest.mark.parametrize("version", RELEASED)
def test_archived_files_open_without_geomadv(version: str) -> None:
    with h5py.File(archived(version)) as file:
        assert [dim[0].name for dim in file["normal"].dims] == ["/sample", "/pixel"]
        assert all({"long_name", "units"} <= set(file[name].attrs) for name in ("normal", "class"))
    with xr.open_dataset(archived(version)) as ds:
        assert ds["normal"].attrs["long_name"] == "unit boundary normal"


@settings(deadline=None, max_examples=12)
@given(datasets(("d0", "d1", "a", "ä"), st.text("aß零 ", min_size=1)))
def test_files_are_read_as_xarray_reads_them(ds: xr.Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        try:
            ds.to_netcdf(path, engine="h5netcdf")
        except (ValueError, AttributeError):  # texts that HDF5, years that xarray cannot hold
            reject()
        found = read_netcdf(path)
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
            expected = opened.load()
    assert_same(found, expected)
    assert list(found.data_vars) == list(expected.data_vars)
    for ours, theirs in ((found, expected), *((found[n], expected[n]) for n in ds.variables)):
        assert [type(v) for v in ours.attrs.values()] == [type(v) for v in theirs.attrs.values()]


if __name__ == "__main__":
    make(archived(RELEASED[-1]))

"""Boundary points in chunks: as one call gives them, resumable, named and refused."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geomadv import Classifier, ImageSet, InputError, boundary_points, load
from geomadv.boundary import BoundaryPoints
from geomadv.experiments import boundary
from geomadv.experiments.normals.boundary import _FIELDS, SCHEMA
from geomadv.pipeline.normals import Boundary, boundary_work
from geomadv.pipeline.work import Case
from geomadv.results import Store, save


@pytest.fixture
def case():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Softplus(), nn.Linear(12, 4))
    net = Classifier(module, (1, 4, 4), name="tiny")
    images = ImageSet(torch.rand(23, 1, 4, 4), torch.arange(23) % 4, name="noise")
    return net, images


def collect(case, path, **options):
    with Store(path, {}) as store:
        store.finish(boundary(*case, keep=store, **options), {})
    return load(path)


def stored_points(ds):
    """The boundary points of a result file, as `boundary_points` returned them."""
    # Files of 0.1.0 have neither `near` nor `third`: theirs are points of pairs.
    return BoundaryPoints(
        **{name: torch.as_tensor(ds[key].to_numpy()) for name, key in _FIELDS.items() if key in ds}
    )


def test_equals_one_call_and_opens_anywhere(case, tmp_path):
    ds = collect(case, tmp_path / "boundary.h5", chunk_size=5)
    whole = boundary_points(*case)
    got = stored_points(ds)
    for name in ("source", "target", "converged", "iterations"):
        assert torch.equal(getattr(got, name), getattr(whole, name)), name
    # Chunks change the order of sums only: float32 rounding of a two-layer network.
    for name in ("points", "normals", "distance"):
        torch.testing.assert_close(
            getattr(got, name), getattr(whole, name), rtol=1e-4, atol=1e-5, equal_nan=True
        )
    with xr.open_dataset(tmp_path / "boundary.h5") as opened:
        assert opened["normal"].dims == ("sample", "pixel")
        assert opened["distance"].attrs["units"] == "image units"
    perturbation = ds["point"].to_numpy().reshape(23, -1) - case[1].images.flatten(1).numpy()
    found = ds["direction"] * ds["distance"]
    np.testing.assert_allclose(found, perturbation, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ds["direction"], axis=1), 1, atol=1e-6)


def test_chunks_may_be_of_another_size_when_it_goes_on(case, tmp_path):
    """A chunk of another size is not taken for one of the same beginning."""
    with Store(tmp_path / "a.h5", {}) as store:
        boundary(*case, keep=store, chunk_size=5)
        ds = boundary(*case, keep=store, chunk_size=7)
        assert ds.sizes["sample"] == 23
        np.testing.assert_array_equal(ds["true_label"], case[1].labels)


def test_unknown_settings_are_refused(case):
    with pytest.raises(InputError, match="max_itr"):
        boundary(*case, max_itr=3)


_SCRIPT = """
import sys, time, torch
from torch import nn
import geomadv as ga
from geomadv.experiments.normals import boundary as module
torch.manual_seed(0)
net = ga.Classifier(
    nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Softplus(), nn.Linear(12, 4)),
    (1, 4, 4), name="tiny")
images = ga.ImageSet(torch.rand(23, 1, 4, 4), torch.arange(23) % 4, name="noise")
quick = module.boundary_points
def slow(*args, **options):
    time.sleep(float(sys.argv[2]))
    return quick(*args, **options)
module.boundary_points = slow
slow.__kwdefaults__ = quick.__kwdefaults__
with ga.results.Store(sys.argv[1], {}) as store:
    store.finish(ga.experiments.boundary(net, images, keep=store, chunk_size=4), {})
"""


def test_a_killed_run_continues_with_the_same_numbers(tmp_path):
    def run(path, pause):
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(path), str(pause)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    killed, whole = tmp_path / "killed.h5", tmp_path / "whole.h5"
    process = run(killed, 0.3)
    work = tmp_path / "killed.h5.partial"
    deadline = time.monotonic() + 120
    while len(list(work.glob("part-rows-*.bin"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    kept = len(list(work.glob("part-rows-*.bin")))
    assert kept >= 2
    assert run(killed, 0).wait() == 0
    assert run(whole, 0).wait() == 0
    with xr.open_dataset(killed) as a, xr.open_dataset(whole) as b:
        xr.testing.assert_equal(a, b)
    assert not work.exists()


@pytest.mark.parametrize("in_memory", [True, False])
def test_points_follow_from_images_and_are_not_stored(case, tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr("geomadv.results.files._IN_MEMORY_BYTES", 0)
    ds = collect(case, tmp_path / "a.h5", chunk_size=5)
    assert in_memory or not ds["point"].variable._in_memory
    assert ds["point"].attrs["long_name"] == "boundary point"
    points = boundary_points(*case).points.numpy()
    # One rounding of the direction, one of its product with the distance, one of the sum.
    np.testing.assert_allclose(ds["point"], points, atol=1e-4)
    np.testing.assert_array_equal(ds["image"], case[1].images)
    whole = ds["point"].to_numpy()
    for key in (3, -1, slice(2, 9), slice(None, None, -2), [4, 0, 4], np.arange(23) % 3 == 0):
        np.testing.assert_array_equal(
            ds["point"].isel(sample=key, row=[2, 0]), whole[key][..., [2, 0], :]
        )
    with h5py.File(tmp_path / "a.h5") as file:
        assert "point" not in file
    again = load(save(ds.isel(sample=slice(3)), tmp_path / "b.h5"))
    np.testing.assert_array_equal(again["point"], whole[:3])
    assert in_memory or ds._close is not None  # it still closes its file


def test_points_may_be_left_out(case, tmp_path):
    ds = collect(case, tmp_path / "a.h5", points=False)
    assert not {"point", "image"} & {*ds.variables}
    assert ds["normal"].shape == ds["direction"].shape == (23, 16)


def test_points_of_earlier_layouts_are_read(case, tmp_path):
    ds = boundary(*case)
    stored = ds.drop_vars("image").assign(point=ds["point"].load())
    found = stored_points(load(save(stored, tmp_path / "a.h5")))
    torch.testing.assert_close(found.points, torch.tensor(ds["point"].to_numpy()))


@pytest.mark.parametrize("points", [True, False])
def test_the_size_of_a_file_is_known_before(tmp_path, points):
    """Of images that have 8 bits, in blocks that the filter sees."""
    torch.manual_seed(0)
    net = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3)), (3, 64, 64))
    smooth = torch.rand(400, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    images = ImageSet((smooth * 255).round() / 255, torch.arange(400) % 3)
    collect((net, images), tmp_path / "a.h5", points=points)
    size = (tmp_path / "a.h5").stat().st_size
    planned = Case(net, Boundary(points=points), {"images": 400})
    assert size / 1.3 < boundary_work(planned).disk(SCHEMA, planned) < 1.3 * size

"""Boundary points in chunks: as one call gives them, resumable, named and refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geomadv import Classifier, ImageSet, InputError, boundary_points, load
from geomadv.experiments import boundary
from geomadv.experiments.normals.boundary import stored_points
from geomadv.results import Store


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
        xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
    assert not work.exists()

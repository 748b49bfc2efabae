"""One process and two give the same: the seam alone, and products with the mean Hessian."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import gaussian, perceptron

from geomadv import boundary_points, distributed
from geomadv.curvature import mean_hessian
from geomadv.results import SharedKeep, Store

WORKER = Path(__file__).with_name("distributed_worker.py")


def torchrun(processes, script, *arguments):
    """Runs a script in several processes of this machine, on a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_one_process_needs_no_setting_up(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    distributed.start()
    assert (distributed.rank(), distributed.size(), distributed.is_main()) == (0, 1, True)
    assert distributed.share(7) == slice(0, 7)
    tensor = torch.arange(3.0)
    total = distributed.sum_over_processes(tensor)
    assert torch.equal(total, tensor)
    total += 1  # the caller's tensor is left alone
    assert tensor[0] == 0
    assert torch.equal(distributed.gather_rows(tensor), tensor)
    assert distributed.from_main("value") == "value"
    with distributed.main_first():
        pass
    distributed.stop()


def test_on_one_process_a_shared_store_is_the_store(tmp_path):
    with Store(tmp_path / "a.h5", {}) as store:
        keep = SharedKeep(store)
        rows = {"one": lambda: xr.Dataset({"a": ("x", [1.0])})}
        xr.testing.assert_identical(keep.rows(rows, "x").load(), keep("one", xr.Dataset))
        assert store.has("one")
        assert keep.state("solve") == store.state("solve")
    assert SharedKeep(None).state("solve") is None


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 6, 20])
def test_shares_are_a_partition_in_order(monkeypatch, n, size):
    monkeypatch.setattr(distributed, "size", lambda: size)
    shares = []
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(list(range(n))[distributed.share(n)])
    assert list(chain(*shares)) == list(range(n))
    lengths = [len(s) for s in shares]
    assert max(lengths) - min(lengths) <= 1
    # The main process is never the one without work: it knows what the operator is.
    assert lengths == sorted(lengths, reverse=True)


def test_two_processes_agree_with_one(tmp_path):
    processes = 2
    done = torchrun(processes, WORKER, tmp_path)
    assert done.returncode == 0, done.stderr
    net = perceptron(bounds=(-10.0, 10.0))
    points = boundary_points(net, gaussian(9, *net.input_shape, seed=3), target=1)
    points = points[points.converged]
    assert len(points) >= processes
    expected = mean_hessian(net, points).matmat(np.eye(net.dimension))
    first = mean_hessian(net, points[:1]).matmat(np.eye(net.dimension))
    for rank in range(processes):
        with np.load(tmp_path / f"{rank}.npz") as found:
            # Float64 sums in another order and products of other batches, whose few dozen
            # roundings of 1e-16 depend on the processor.
            assert np.abs(found["all"] - expected).max() <= 1e-12 * np.abs(expected).max()
            assert np.abs(found["one"] - first).max() <= 1e-12 * np.abs(first).max()

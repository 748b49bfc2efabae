"""One process and two give the same: the seam alone, and products with the mean Hessian."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import gaussian, perceptron
from processes_for_tests import FORK, die

from geomadv import boundary_points, distributed
from geomadv.cli import main
from geomadv.curvature import mean_hessian
from geomadv.errors import InputError
from geomadv.pipeline.study import Place
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


def together(processes, job, folder, *arguments):
    """Exit codes and words of processes that torchrun might have launched, on several machines.

    No agent watches over them: what stops them is what they notice themselves.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def run(rank):
        sys.stdout = sys.stderr = (folder / f"words-{rank}").open("w", buffering=1)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        torch.set_num_threads(1)
        sys.exit(job(folder, *arguments))

    started = [FORK.Process(target=run, args=(rank,)) for rank in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
        assert process.exitcode is not None
    said = [(folder / f"words-{rank}").read_text() for rank in range(processes)]
    return [process.exitcode for process in started], said


PARTS = 7


def work(folder, deadly):
    """What the runner does, with parts of which one kills its process."""
    distributed.start()

    def part(i):
        if i == deadly:
            die()
        (folder / f"computed-{i}").touch()
        return xr.Dataset({"a": ("x", [float(i)])})

    store = Store(folder / "a.h5", {}) if distributed.is_main() else None
    try:
        parts = {str(i): partial(part, i) for i in range(PARTS)}
        found = SharedKeep(store).rows(parts, "x")["a"].to_numpy().tolist()
        assert found == [float(i) for i in range(PARTS)]
    except distributed.LostProcessError as error:
        print(f"lost: {error}", flush=True)
        return 1
    finally:
        if store:
            store.close()
    distributed.stop()
    return 0


@pytest.mark.parametrize("deadly", [0, 2, 5])
def test_when_a_process_is_killed_the_others_stop_and_finished_parts_stay(tmp_path, deadly):
    """Part i of the first round is process i's; of those after it, process i - 3's, and so on."""
    started = time.monotonic()
    codes, said = together(3, work, tmp_path, deadly)
    assert time.monotonic() - started < 30  # not the 12 hours that a process may wait
    assert sorted(codes) == [-9, 1, 1]
    assert codes[deadly % 3] == -9
    assert [words.count("lost: ") for words in said] == [int(code == 1) for code in codes]
    kept = {path.name for path in (tmp_path / "a.h5.partial").glob("part-*")}
    assert len(kept) == deadly // 3 * 3  # all rounds before
    for made in tmp_path.glob("computed-*"):
        made.unlink()
    # It goes on with another number of processes, and computes nothing twice.
    assert together(2, work, tmp_path, None)[0] == [0, 0]
    assert len(list(tmp_path.glob("computed-*"))) == PARTS - len(kept)
    assert together(1, work, tmp_path, None)[0] == [0]
    assert len(list(tmp_path.glob("computed-*"))) == PARTS - len(kept)


def command(folder, *words):
    return main([*words, "--results", str(folder / "results"), "--quiet"])


@pytest.mark.parametrize(
    "words",
    [
        ("run", "boundary", "--boundary.count", "-3"),
        ("run", "normal_svd", "--boundary.count", "20", "--normal-svd.rank", "0"),
        ("run", "boundary", "--images", "nowhere"),
    ],
)
def test_what_is_refused_is_one_message_of_all_processes(tmp_path, words):
    codes, said = together(2, command, tmp_path, *words)
    assert codes == [2, 2]
    assert said[0].count("error: ") == 1
    assert "Traceback" not in "".join(said)
    assert said[1] == ""


@pytest.mark.parametrize(
    ("processes", "gpus", "expected"),
    [(2, 0, "gloo"), (2, 2, "cpu:gloo,cuda:nccl"), (1, 4, "cpu:gloo,cuda:nccl"), (3, 2, "gloo")],
)
def test_each_process_takes_the_gpu_of_its_number(monkeypatch, processes, gpus, expected, recwarn):
    taken, joined = [], []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, timeout: joined.append(name)
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    for rank in range(processes):
        for name, value in (("RANK", rank), ("WORLD_SIZE", processes), ("LOCAL_RANK", rank)):
            monkeypatch.setenv(name, str(value))
        distributed.start()
    assert joined == [expected] * processes
    assert taken == ([rank % gpus for rank in range(processes)] if gpus else [])
    assert [str(w.message)[:27] for w in recwarn] == (
        ["3 processes share 2 GPUs: t"] if 0 < gpus < processes else []
    )


def test_one_gpu_by_number_is_not_for_several_processes(monkeypatch):
    assert Place(device="cuda:1").device == "cuda:1"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Place(device="cuda").device == "cuda"
    with pytest.raises(InputError, match=r"'cuda:1' \(--device\)"):
        Place(device="cuda:1")


@pytest.mark.skipif(not distributed.forks_are_safe(), reason="needs forks")
def test_a_fork_that_is_ended_at_once_does_not_return_into_this_process() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for _ in range(20):
            process = distributed.fork(time.sleep, 60)
            process.terminate()
            process.join(20)
            assert process.exitcode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)

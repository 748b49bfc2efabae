"""Figures drawn beside the computation, and forks that divide it: order, failures, every death."""

import errno
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from processes_for_tests import start

from geomadv import distributed
from geomadv.cli import main
from geomadv.errors import InputError
from geomadv.pipeline.drawer import Drawer
from geomadv.pipeline.experiment import Drawing, Experiment
from geomadv.results import provenance, save


def page(ds: xr.Dataset) -> str:
    return f"{float(ds['value']):g} by {os.getpid()}"


def refused(ds: xr.Dataset) -> str:
    raise InputError(f"no picture of {float(ds['value']):g}")


class OddError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(lambda: one + two)  # no pipe takes it


def broken(ds: xr.Dataset) -> str:
    raise OddError(1, 2)


def slow(ds: xr.Dataset) -> str:
    time.sleep(60)
    return page(ds)


@dataclass(frozen=True)
class Nothing:
    """No settings."""


PLOTS = {"first": page, "bad": refused, "second": page, "odd": broken, "slow": slow}
TABLE = {
    name: Experiment(name=name, settings=Nothing, compute=page, figures={name: Drawing(plot)})
    for name, plot in PLOTS.items()
}


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(TABLE):
        value = ((), np.float64(i), {"long_name": "value", "units": "1"})
        save(xr.Dataset({"value": value}), tmp_path / f"{name}.h5", provenance({}))
    return tmp_path


def pages(folder: Path) -> dict[str, list[str]]:
    return {p.stem: p.read_text().split(" by ") for p in (folder / "figures").glob("*.html")}


def asked(said: list[str], folder: Path, *names: str) -> Drawer:
    drawer = Drawer(TABLE, said.append).__enter__()
    for name in names:
        drawer.draw(name, folder)
    return drawer


def end(drawer: Drawer, error: BaseException | None = None) -> None:
    process = drawer._process
    drawer.__exit__(None if error is None else type(error), error, None)
    assert process is None or not process.is_alive()


def test_lines_and_failures_come_in_the_order_of_asking_and_from_another_process(folder):
    said: list[str] = []
    drawer = asked(said, folder, "first", "bad", "second")
    failed = {name: str(error) for name, error in drawer.told(wait=True)}
    end(drawer)
    assert [Path(line).stem for line in said] == ["first", "second"]
    assert failed == {"bad": "no picture of 1"}
    drawn = pages(folder)
    assert {name: value for name, (value, _) in drawn.items()} == {"first": "0", "second": "2"}
    assert all(int(by) != os.getpid() for _, by in drawn.values())


@pytest.mark.parametrize(("refusal", "failed"), [(errno.EROFS, []), (errno.ENOSPC, ["first"])])
def test_figures_in_a_folder_that_may_only_be_read_fail_no_run(
    folder, monkeypatch, refusal, failed
):
    def refuse(*_):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("geomadv.pipeline.figures.save_figure", refuse)
    said: list[str] = []
    drawer = asked(said, folder, "first")
    assert [name for name, _ in drawer.told(wait=True)] == failed
    end(drawer)
    assert [line.startswith("note: no figures of first: ") for line in said] == [True] * (
        1 - len(failed)
    )


def test_an_error_of_the_drawing_itself_is_told_with_its_place(folder):
    drawer = asked([], folder, "odd")
    ((name, error),) = drawer.told(wait=True)
    assert name == "odd"
    assert isinstance(error, RuntimeError)
    assert re.search(r"figures of odd(.|\n)*in broken", str(error))
    end(drawer)


def test_what_a_dead_process_has_not_drawn_is_drawn_here(folder):
    said: list[str] = []
    drawer = asked(said, folder, "first")
    assert not list(drawer.told(wait=True))
    os.kill(drawer._process.pid, signal.SIGKILL)
    drawer._process.join()
    for name in ("second", "bad"):
        drawer.draw(name, folder)
    assert [name for name, _ in drawer.told(wait=True)] == ["bad"]
    end(drawer)
    assert [Path(line).stem for line in said] == ["first", "second"]
    assert int(pages(folder)["second"][1]) == os.getpid()


def test_a_refusal_of_the_run_leaves_no_figure_out(folder, capsys):
    said: list[str] = []
    end(asked(said, folder, "first", "bad", "second"), InputError("the run"))
    assert [Path(line).stem for line in said] == ["first", "second"]
    assert capsys.readouterr().err == "error: bad: no picture of 1\n"


def test_an_interrupted_run_waits_for_no_figure(folder):
    began = time.monotonic()
    end(asked([], folder, "slow"), KeyboardInterrupt())
    assert time.monotonic() - began < 30
    assert not pages(folder)


def gone(pid: int) -> bool:
    """Whether a process ends within seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def draws_for_ever(folder: Path) -> None:
    drawer = asked([], folder, "slow")
    (folder / "pid").write_text(str(drawer._process.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def computes_for_ever(folder: Path) -> None:
    def work() -> None:
        (folder / f"pid-{distributed.rank()}").write_text(str(os.getpid()))
        distributed.barrier()
        if distributed.is_main():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    distributed.together(2, work)


@pytest.mark.parametrize(
    ("job", "file"), [(draws_for_ever, "pid"), (computes_for_ever, "pid-1")], ids=["draw", "work"]
)
def test_nothing_is_left_of_a_killed_run(folder, job, file):
    process = start(job, folder)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert gone(int((folder / file).read_text()))


def test_forks_work_together_and_leave_everything_as_it_was():
    before = dict(os.environ), torch.get_num_threads()

    def work() -> tuple[list[int], int, int]:
        return distributed.gather(os.getpid()), distributed.size(), distributed.processes_here()

    pids, size, here = distributed.together(3, work)
    assert len({*pids}) == size == here == 3
    assert pids[0] == os.getpid()
    assert all(map(gone, pids[1:]))
    assert (dict(os.environ), torch.get_num_threads()) == before
    assert distributed.size() == 1


def test_a_command_in_two_processes_makes_the_files_of_one(tmp_path, capsys):
    command = ["run", "random_subspace_fooling", "--boundary.count", "30", "--progress", "off"]
    found = []
    for processes in ("1", "2"):
        where = tmp_path / processes
        assert main([*command, "--results", str(where), "--processes", processes]) == 0
        with xr.open_dataset(where / "digits-cnn" / "random_subspace_fooling.h5") as ds:
            found.append(ds.load())
        assert (where / "digits-cnn" / "figures" / "random_subspace_fooling.pdf").exists()
    xr.testing.assert_equal(*found)
    assert "normal_svd is computed by one process; the other waits" in capsys.readouterr().out


def test_a_fork_that_dies_ends_the_work_and_a_refusal_comes_through():
    def dies() -> None:
        if not distributed.is_main():
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()

    with pytest.raises(distributed.LostProcessError):
        distributed.together(2, dies)

    def refuses() -> None:
        raise InputError("of all")

    with pytest.raises(InputError, match="of all"):
        distributed.together(2, refuses)
    with pytest.raises(InputError, match="--processes"):
        distributed.together(0, refuses)

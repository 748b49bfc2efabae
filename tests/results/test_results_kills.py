"""Kept parts outlive kills, full disks and damaged files, and one process at a time has them."""

import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from processes_for_tests import FORK, crash_at, die, run, start
from test_results_store import CONFIG, IDENTITY, LABEL, never, number

from geomadv.errors import InputError
from geomadv.results import Store, load, provenance, reuse, save

PARTS = 3


def row(i: int, log: Path, pause: float) -> xr.Dataset:
    """Deterministic values of a part; the log tells who was computed."""
    with log.open("a") as file:
        file.write(f"row-{i}\n")
    time.sleep(pause)
    rng = np.random.default_rng(i)
    size = 0 if i == 2 else 300 * (i + 1)
    return xr.Dataset(
        {
            "norm": ("sample", np.where(rng.random(size) < 0.1, np.nan, rng.random(size)), LABEL),
            "label": ("sample", rng.integers(10, size=size), LABEL),
            "fooled": ("sample", rng.random(size) < 0.5, LABEL),
        }
    )


def job(path: Path, pause: float = 0.0) -> None:
    """What the runner does."""
    if reuse(path, IDENTITY) is not None:
        return
    log = path.with_name("log")
    with Store(path, IDENTITY) as store:
        rows = [store(f"row-{i}", partial(row, i, log, pause)) for i in range(PARTS)]
        store.finish(xr.concat(rows, "sample"), provenance(IDENTITY))


def computed(path: Path) -> list[str]:
    log = path.with_name("log")
    return log.read_text().split() if log.exists() else []


def kept(path: Path) -> set[str]:
    files = path.parent.glob(f"{path.name}.partial/part-*.bin")
    return {file.stem.removeprefix("part-") for file in files}


def values(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]).tobytes() for name in ("norm", "label", "fooled")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("reference") / "universal.h5"
    job(path)
    assert computed(path) == [f"row-{i}" for i in range(PARTS)]
    return values(path)


# --- kills ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "when", "step"),
    [
        ("replace", "before", 1),
        ("replace", "after", 1),
        ("unlink", "before", 1),
        ("unlink", "after", 1),
        ("rmdir", "before", 1),
        ("write", "after", 16),  # in the midst of a file
    ],
)
def test_a_kill_at_any_change_of_the_folder_loses_no_part(
    tmp_path: Path, uninterrupted: dict[str, bytes], call: str, when: str, step: int
) -> None:
    count = 1
    killed = True
    while killed:
        path = tmp_path / str(count) / "universal.h5"
        exitcode = run(crash_at, job, call, count, when, path)
        killed = exitcode == -signal.SIGKILL
        assert killed or exitcode == 0
        before = computed(path)
        finished = kept(path)
        if path.exists():
            assert values(path) == uninterrupted
            finished = set(before)
        elif call == "replace":  # the manifest, the parts, the manifest, the final file
            assert len(finished) == min(max(count - 1 - (when == "before"), 0), PARTS)
        job(path)
        assert values(path) == uninterrupted
        again = computed(path)[len(before) :]
        assert again == [f"row-{i}" for i in range(PARTS) if f"row-{i}" not in finished]
        leftovers = {file.name for file in path.parent.rglob("*")} - {path.name, "log"}
        # A kill between the removal of the manifest and of the empty folder leaves the latter.
        assert leftovers <= {"universal.h5.partial", "lock", "owner"}
        count += step
    assert count > 1 + step  # there was at least one kill


@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_moments_change_no_number(
    tmp_path: Path, uninterrupted: dict[str, bytes], seed: int
) -> None:
    path = tmp_path / "universal.h5"
    rng = np.random.default_rng(seed)
    for _ in range(6):
        finished, before = kept(path), len(computed(path))
        process = start(job, path, 0.01)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.join()
        assert not finished & set(computed(path)[before:])
        if path.exists():
            assert values(path) == uninterrupted
            break
        assert kept(path) >= finished
    job(path)
    assert values(path) == uninterrupted


def crash_after_the_final_file(path: Path) -> None:
    original = os.replace

    def fatal(source: Any, target: Any) -> None:
        original(source, target)
        if Path(target) == path:
            die()

    os.replace = fatal  # type: ignore[assignment]
    job(path)


def test_an_area_whose_result_is_whole_is_removed_by_reuse(
    tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    path = tmp_path / "universal.h5"
    assert run(crash_after_the_final_file, path) == -signal.SIGKILL
    assert kept(path) == {f"row-{i}" for i in range(PARTS)}
    assert values(path) == uninterrupted
    assert reuse(path, IDENTITY) is not None
    assert {file.name for file in tmp_path.iterdir()} == {"universal.h5", "log"}
    assert values(path) == uninterrupted


def test_an_area_in_work_is_not_removed_by_reuse(tmp_path: Path) -> None:
    """The result of an earlier run is read while parts of its successor wait to be continued."""
    path = save(number(), tmp_path / "a.h5", provenance(IDENTITY))
    with Store(path, IDENTITY, overwrite=True) as store:
        store("part", partial(number, 2))
        assert reuse(path, IDENTITY) is not None
    assert reuse(path, IDENTITY) is not None
    with Store(path, IDENTITY, overwrite=True) as store:
        assert store("part", never)["a"] == 2


def hold(path: Path, ready: Any) -> None:
    store = Store(path, CONFIG)
    store("part", number)
    ready.set()
    time.sleep(60)


def test_a_second_process_is_refused_and_a_dead_one_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    ready = FORK.Event()
    process = start(hold, path, ready)
    assert ready.wait(30)
    with pytest.raises(InputError, match=f"in use by process {process.pid} on "):
        Store(path, {"seed": 2}, overwrite=True)
    process.kill()
    process.join()
    with Store(path, CONFIG) as store:
        assert store("part", never)["a"] == 1


# --- disks that refuse, and damaged files -----------------------------------------------------


def fill_the_disk(path: Path) -> None:
    """Writes against a limit of file size, which refuses inside a write as a full disk does."""
    noise = np.random.default_rng(0).random((1000, 100))
    big = xr.Dataset({"a": (("x", "y"), noise, LABEL)})
    store = Store(path, CONFIG)
    store("small", number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for _ in range(2):
        with pytest.raises(InputError, match=r"part-big\.bin .*is full"):
            store("big", lambda: big)
        with pytest.raises(InputError, match=r"a\.h5 .*is full"):
            store.finish(big, {})
    store("medium", lambda: big.isel(x=slice(50)))
    assert store("small", never)["a"] == 1


def test_a_full_disk_loses_no_part(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert run(fill_the_disk, path) == 0  # HDF5 ends the process when it meets a full disk itself
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5.partial"]
    assert not list(tmp_path.rglob("*.tmp"))
    with Store(path, CONFIG) as store:
        assert store("small", never)["a"] == 1
        assert store("big", partial(number, 2))["a"] == 2
        store.finish(store("medium", never), {})
    assert load(path).sizes["x"] == 50


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        Store(tmp_path / "file" / "a.h5", CONFIG)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"text",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: data[:48] + bytes(len(data) - 48),
    ],
    ids=["empty", "text", "a byte missing", "half", "zeros", "zeros inside"],
)
def test_a_damaged_part_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    ds = xr.Dataset({"a": ("x", np.arange(100.0), LABEL)})
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store("part", lambda: ds)
        store("other", number)
    file = store.folder / "part-part.bin"
    file.write_bytes(damage(file.read_bytes()))
    with Store(tmp_path / "a.h5", CONFIG) as store:
        message = r"a\.h5\.partial.part-part\.bin is damaged.*delete it and run the same command"
        with pytest.raises(InputError, match=message):
            store("part", never)
        assert store("other", never)["a"] == 1
        file.unlink()
        assert store("part", partial(number, 2))["a"] == 2


def test_a_part_of_hdf5_that_is_read_for_ever_is_named(tmp_path: Path, data_dir: Path) -> None:
    damaged = data_dir / "field-cases" / "damaged" / "part-loop.h5"
    if not damaged.is_file():
        pytest.skip("no field-cases/ in the folder of real data")
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store("part", number)
    (store.folder / "part-part.bin").write_bytes(damaged.read_bytes())
    with Store(tmp_path / "a.h5", CONFIG) as store:
        with pytest.raises(InputError, match=r"is damaged .its bytes are not those"):
            store("part", never)
        with pytest.raises(InputError, match=r"is damaged .its bytes are not those"):
            store.rows({"part": never}, "x")

"""The work area: resuming, locking, and kills at every point where a kill can matter."""

import resource
import signal
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from processes_for_tests import FORK, crash_at, start

from geomadv.errors import InputError
from geomadv.results import ChunkStore, identity, load, provenance, reuse, save

CHUNKS = 5
CONFIG = {"seed": 1, "batch": 7}
LABEL = {"long_name": "test variable", "units": "1"}
SCHEMA = {
    "normal": (("sample", "pixel"), LABEL),
    "source": (("sample",), LABEL),
    "converged": (("sample",), LABEL),
}


def chunk(i: int) -> dict[str, np.ndarray]:
    """Deterministic arrays of i + 1 rows, but none at all in chunk 2."""
    rng = np.random.default_rng(i)
    rows = 0 if i == 2 else i + 1
    return {
        "normal": rng.standard_normal((rows, 600)).astype(np.float32),
        "source": rng.integers(10, size=rows),
        "converged": rng.random(rows) < 0.5,
    }


def job(path: Path, pause: float = 0.0) -> None:
    """What a script of analysis/ does."""
    if reuse(path, CONFIG, experiment="boundary") is not None:
        return
    with ChunkStore(path, identity("boundary", config=CONFIG), CHUNKS) as store:
        for i in sorted(set(range(CHUNKS)) - store.done()):
            time.sleep(pause)
            store.write(i, chunk(i))
        assemble(store)


def assemble(store: ChunkStore) -> Path:
    return store.assemble(
        SCHEMA,
        provenance("boundary", config=CONFIG),
        constants={"mean": ("pixel", np.arange(600.0), LABEL)},
        coords={"class": ("class", ["zero", "one"])},
    )


def values(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]).tobytes() for name in (*SCHEMA, "mean")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("reference") / "boundary.h5"
    job(path)
    return values(path)


def test_chunks_are_joined_in_order(tmp_path: Path) -> None:
    path = tmp_path / "boundary.h5"
    with ChunkStore(path, CONFIG, CHUNKS) as store:
        for i in (3, 0, 4, 2, 1):
            store.write(i, chunk(i))
        np.testing.assert_array_equal(store.read(3)["normal"], chunk(3)["normal"])
        assert store.read(3)["converged"].dtype == bool
        assert assemble(store) == path
    ds = load(path)
    for name in SCHEMA:
        expected = np.concatenate([chunk(i)[name] for i in range(CHUNKS)])
        np.testing.assert_array_equal(ds[name], expected)
        assert ds[name].dtype == expected.dtype
        assert ds[name].attrs == LABEL
    assert ds.attrs["experiment"] == "boundary"
    assert list(ds["class"].values) == ["zero", "one"]
    assert [file.name for file in tmp_path.iterdir()] == ["boundary.h5"]


def test_the_final_file_is_contiguous_and_labelled(tmp_path: Path) -> None:
    job(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["normal"].chunks is None
        assert [dim[0].name for dim in file["normal"].dims] == ["/sample", "/pixel"]
        assert file["mean"].dims[0][0] == file["pixel"]
    with xr.open_dataset(tmp_path / "a.h5") as ds:
        assert dict(ds.sizes) == {"sample": 12, "pixel": 600, "class": 2}


def test_a_result_without_any_row_is_a_result(tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "a.h5", CONFIG, 1) as store:
        store.write(0, {"normal": np.zeros((0, 4), np.float32)})
        store.assemble({"normal": SCHEMA["normal"]}, {})
    assert dict(load(tmp_path / "a.h5").sizes) == {"sample": 0, "pixel": 4}


def test_memory_is_one_array_of_one_chunk(tmp_path: Path) -> None:
    size = 200 * 5000 * 4  # bytes of one chunk
    with ChunkStore(tmp_path / "a.h5", CONFIG, 10) as store:
        for i in range(10):
            store.write(i, {"normal": np.full((200, 5000), i, np.float32)})
        tracemalloc.start()
        store.assemble({"normal": SCHEMA["normal"]}, {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2.5 * size  # the chunk, at most one copy of it, and small change


# --- resuming ---------------------------------------------------------------------------------


def test_finished_chunks_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with ChunkStore(path, CONFIG, CHUNKS) as store:
        store.write(1, chunk(1))
        stray = store.folder / "chunk-000003.h5.tmp"
        stray.write_bytes(b"half a chunk")
    with ChunkStore(path, dict(reversed(CONFIG.items())), CHUNKS) as store:
        assert store.done() == {1}
        assert not stray.exists()
    with ChunkStore(path, CONFIG, CHUNKS, overwrite=True) as store:
        assert store.done() == {1}


def test_another_configuration_is_refused_or_discarded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with ChunkStore(path, CONFIG, CHUNKS) as store:
        store.write(1, chunk(1))
    other = {**CONFIG, "seed": 2}
    with pytest.raises(InputError, match=r"chunks: 5 -> 6; config\.seed: 1 -> 2.*--overwrite"):
        ChunkStore(path, other, 6)
    with ChunkStore(path, CONFIG, CHUNKS) as store:
        assert store.done() == {1}
    with ChunkStore(path, other, 6, overwrite=True) as store:
        assert store.done() == set()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["replace", "unlink", "rmdir"])
def test_a_kill_at_any_change_of_the_folder_loses_nothing(
    tmp_path: Path, uninterrupted: dict[str, bytes], call: str, when: str
) -> None:
    count = 0
    killed = True
    while killed:
        count += 1
        path = tmp_path / str(count) / "boundary.h5"
        process = start(crash_at, job, call, count, when, path)
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        assert killed or process.exitcode == 0
        if path.exists():
            assert values(path) == uninterrupted
        elif call == "replace":  # the manifest, then one chunk at each call
            before = {f"chunk-{i:06d}.h5" for i in range(count - (when == "before") - 1)}
            assert {file.name for file in path.parent.glob("*/chunk-*.h5")} >= before & {
                f"chunk-{i:06d}.h5" for i in range(CHUNKS)
            }
        job(path)
        assert values(path) == uninterrupted
        leftovers = {file.name for file in path.parent.rglob("*")} - {path.name}
        # A kill between the removal of the manifest and of the empty folder leaves the latter.
        assert leftovers <= {"boundary.h5.partial", "lock"}
    assert count > 1  # there was at least one kill


@pytest.mark.parametrize("seed", range(6))
def test_kills_at_random_moments_change_no_number(
    tmp_path: Path, uninterrupted: dict[str, bytes], seed: int
) -> None:
    path = tmp_path / "boundary.h5"
    rng = np.random.default_rng(seed)
    finished: set[str] = set()
    for _ in range(8):
        process = start(job, path, 0.005)
        time.sleep(rng.uniform(0.0, 0.08))
        process.kill()
        process.join()
        if path.exists():
            assert values(path) == uninterrupted
            break
        now = {file.name for file in tmp_path.glob("*.partial/chunk-*.h5")}
        assert now >= finished
        finished = now
    job(path)
    assert values(path) == uninterrupted


# --- locking ----------------------------------------------------------------------------------


def hold(path: Path, ready: Any) -> None:
    store = ChunkStore(path, CONFIG, CHUNKS)
    store.write(0, chunk(0))
    ready.set()
    time.sleep(60)


def test_a_second_process_is_refused_and_a_dead_one_succeeded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    ready = FORK.Event()
    process = start(hold, path, ready)
    assert ready.wait(30)
    with pytest.raises(InputError, match=f"in use by process {process.pid} on "):
        ChunkStore(path, CONFIG, CHUNKS, overwrite=True)
    process.kill()
    process.join()
    with ChunkStore(path, CONFIG, CHUNKS) as store:
        assert store.done() == {0}


def test_a_second_store_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with (
        ChunkStore(tmp_path / "a.h5", CONFIG, CHUNKS),
        pytest.raises(InputError, match="in use"),
    ):
        ChunkStore(tmp_path / "a.h5", CONFIG, CHUNKS)
    ChunkStore(tmp_path / "a.h5", CONFIG, CHUNKS).close()


# --- disks that refuse, and wrong input -------------------------------------------------------


def fill_the_disk(folder: Path) -> None:
    """Writes against a limit of file size, which refuses inside a write as a full disk does."""
    store = ChunkStore(folder / "a.h5", CONFIG, 2)
    store.write(0, {"normal": np.ones((60, 100))})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    big = np.ones((1000, 100))
    refused: list[Callable[[], object]] = [
        lambda: store.write(1, {"normal": big}),
        lambda: save(xr.Dataset({"a": (("x", "y"), big, LABEL)}), folder / "b.h5"),
    ]
    for write in 2 * refused:
        with pytest.raises(InputError, match="is full"):
            write()
    store.write(1, {"normal": np.ones((90, 100))})
    with pytest.raises(InputError, match="is full"):
        store.assemble({"normal": SCHEMA["normal"]}, {})
    assert store.done() == {0, 1}


def test_a_full_disk_loses_no_finished_chunk(tmp_path: Path) -> None:
    process = start(fill_the_disk, tmp_path)
    process.join()
    assert process.exitcode == 0  # HDF5 ends the process when it meets a full disk itself
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5.partial"]
    assert not list(tmp_path.rglob("*.tmp"))
    with ChunkStore(tmp_path / "a.h5", CONFIG, 2) as store:
        store.assemble({"normal": SCHEMA["normal"]}, {})
    assert load(tmp_path / "a.h5").sizes["sample"] == 150


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        ChunkStore(tmp_path / "file" / "a.h5", CONFIG, CHUNKS)


def test_missing_and_damaged_chunks_are_named(tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "a.h5", CONFIG, 3) as store:
        store.write(1, chunk(1))
        with pytest.raises(InputError, match=r"lacks the chunks \[0, 2\]"):
            assemble(store)
        with pytest.raises(InputError, match=r"chunk 0 .* not computed yet"):
            store.read(0)
        with pytest.raises(InputError, match="chunk 3 does not exist"):
            store.write(3, chunk(3))
        for i in (0, 2):
            store.write(i, chunk(i))
        file = store.folder / "chunk-000001.h5"
        file.write_bytes(file.read_bytes()[:700])
        with pytest.raises(InputError, match=r"chunk-000001\.h5 is damaged.*delete it"):
            store.read(1)
        with pytest.raises(InputError, match=r"chunk-000001\.h5 is damaged.*delete it"):
            assemble(store)
        assert store.done() == {0, 1, 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.array(["text"])}, "'a' of a chunk has shape"),
        ({"a": 3.0}, "'a' of a chunk has shape"),
        ({"a": np.ones(2), "b": np.ones(3)}, "equally many rows"),
        ({}, "equally many rows"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with ChunkStore(tmp_path / "a.h5", CONFIG, 1) as store:
        with pytest.raises(InputError, match=message):
            store.write(0, arrays)
        assert store.done() == set()


@pytest.mark.parametrize(
    ("schema", "second", "constants", "message"),
    [
        ({"b": (("sample",), LABEL)}, (2, 3), {}, "must name the same variables"),
        ({"a": (("sample", "x"), {"units": "1"})}, (2, 3), {}, "'a' has no long_name"),
        ({"a": (("sample",), LABEL)}, (2, 3), {}, "correct the schema"),
        ({"a": (("sample", "x"), LABEL)}, (2, 4), {}, "all but the first axis"),
        ({"a": (("sample", "x"), LABEL)}, (2, 3), {"m": ("x", [1.0], LABEL)}, "dimension 'x'"),
        ({"a": ((), LABEL)}, (2, 3), {}, "share their first dimension"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused_and_the_chunks_remain(
    tmp_path: Path,
    schema: Any,
    second: tuple[int, ...],
    constants: dict[str, Any],
    message: str,
) -> None:
    with ChunkStore(tmp_path / "a.h5", CONFIG, 2) as store:
        store.write(0, {"a": np.ones((2, 3))})
        store.write(1, {"a": np.ones(second)})
        with pytest.raises(InputError, match=message):
            store.assemble(schema, {}, constants=constants)
        assert store.done() == {0, 1}
    assert not (tmp_path / "a.h5").exists()

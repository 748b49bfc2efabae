"""Rows in parts: joined when used, written in bounded memory, and kept through kills."""

import resource
import signal
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from processes_for_tests import crash_at, run, start

from geomadv.errors import InputError
from geomadv.keep import keep_nothing
from geomadv.results import Store, load, provenance, reuse, save

PARTS = 5
CONFIG = {"seed": 1, "batch": 7}
IDENTITY = {"experiment": "boundary", **CONFIG}
LABEL = {"long_name": "test variable", "units": "1"}
ROWS = ("normal", "source", "converged")


def part(i: int) -> xr.Dataset:
    """Deterministic arrays of i + 1 rows, but none at all in part 2."""
    rng = np.random.default_rng(i)
    rows = 0 if i == 2 else i + 1
    return xr.Dataset(
        {
            "normal": (
                ("sample", "pixel"),
                rng.standard_normal((rows, 600)).astype(np.float32),
                LABEL,
            ),
            "source": ("sample", rng.integers(10, size=rows), LABEL),
            "converged": ("sample", rng.random(rows) < 0.5, LABEL),
        },
        {"class": ["zero", "one"], "pixel": np.arange(600), "step": ((), 0.5, LABEL)},
        {"note": f"of part {i}"},
    )


def parts(numbers: Any = range(PARTS)) -> dict[str, Callable[[], xr.Dataset]]:
    return {f"rows-{i}": partial(part, i) for i in numbers}


def all_rows() -> xr.Dataset:
    return keep_nothing.rows(parts(), "sample")


def never() -> xr.Dataset:
    raise AssertionError("this part is kept already")


def job(path: Path, pause: float = 0.0) -> None:
    """What the run of an experiment does."""
    if reuse(path, IDENTITY) is not None:
        return

    def slow(i: int) -> xr.Dataset:
        time.sleep(pause)
        return part(i)

    with Store(path, IDENTITY) as store:
        ds = store.rows({f"rows-{i}": partial(slow, i) for i in range(PARTS)}, "sample")
        ds["mean"] = ("pixel", np.arange(600.0), LABEL)
        store.finish(ds, provenance(IDENTITY))


def values(path: Path) -> dict[str, bytes]:
    with h5py.File(path) as file:
        return {name: np.asarray(file[name]).tobytes() for name in (*ROWS, "mean")}


def kept(path: Path) -> set[str]:
    return {file.stem for file in path.parent.glob("*.partial/part-rows-*.bin")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("reference") / "boundary.h5"
    job(path)
    return values(path)


@pytest.fixture(params=["blocks", "whole"])
def block_bytes(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables beyond a block are written by other code than small ones: here any array is."""
    if request.param == "blocks":
        monkeypatch.setattr("geomadv.results.files._BLOCK_BYTES", 1)


# --- what is joined ---------------------------------------------------------------------------


def test_rows_are_what_keeping_nothing_gives(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        for compute in (part, lambda i: never()):
            ds = store.rows({f"rows-{i}": partial(compute, i) for i in range(PARTS)}, "sample")
            xr.testing.assert_identical(ds.load(), all_rows())
            for name in ROWS:
                assert ds[name].dtype == all_rows()[name].dtype


@pytest.mark.usefixtures("block_bytes")
def test_the_result_is_written_with_checksums_and_labelled(tmp_path: Path) -> None:
    path = tmp_path / "boundary.h5"
    job(path)
    found = load(path)
    xr.testing.assert_equal(found.drop_vars("mean"), all_rows())
    assert found["normal"].attrs == LABEL
    assert found["converged"].dtype == bool
    assert (found.attrs["experiment"], found.attrs["note"]) == ("boundary", "of part 0")
    assert [file.name for file in tmp_path.iterdir()] == ["boundary.h5"]
    with h5py.File(path) as file:
        assert all(file[name].fletcher32 for name in (*ROWS, "mean", "pixel"))
        assert [dim[0].name for dim in file["normal"].dims] == ["/sample", "/pixel"]
        assert file["mean"].dims[0][0] == file["pixel"]
    with xr.open_dataset(path) as ds:
        assert dict(ds.sizes) == {"sample": 12, "pixel": 600, "class": 2}


KEYS = {
    "one": 7,
    "last": -1,
    "slice": slice(2, 9),
    "over an empty part": slice(2, 4),
    "steps": slice(1, None, 3),
    "backwards": slice(None, None, -1),
    "nothing": slice(5, 5),
    "numbers": [11, 0, 3, 3],
    "mask": np.arange(12) % 5 == 0,
}


@pytest.mark.parametrize("rows", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("pixels", [slice(None), slice(590, 3, -7), [5, 2, 500], 17])
def test_any_choice_of_rows_is_read(tmp_path: Path, rows: Any, pixels: Any) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        ds = store.rows(parts(), "sample")
        found = ds.isel(sample=rows, pixel=pixels)
        expected = all_rows().isel(sample=rows, pixel=pixels)
        xr.testing.assert_identical(found.load(), expected)
        at = xr.DataArray([0, 3, 11], dims="sample")
        xr.testing.assert_identical(
            ds["normal"].isel(sample=at, pixel=at).load(),
            all_rows()["normal"].isel(sample=at, pixel=at),
        )


@pytest.mark.usefixtures("block_bytes")
def test_rows_may_be_changed_before_they_are_written(tmp_path: Path) -> None:
    def change(ds: xr.Dataset) -> xr.Dataset:
        ds = ds.isel(sample=ds["converged"].to_numpy(), pixel=slice(10, 20))
        ds = ds.rename(normal="unit").assign_coords(sample=np.arange(ds.sizes["sample"]) * 2)
        ds["twice"] = (ds["unit"] * 2).assign_attrs(LABEL)
        ds["mine"] = ds["source"].copy()
        ds["mine"][:1] = 77
        return ds.assign(turned=ds["unit"].T).drop_vars("converged")

    with Store(tmp_path / "a.h5", CONFIG) as store:
        store.finish(change(store.rows(parts(), "sample")), {})
    expected = change(all_rows())
    assert int(expected["mine"][0]) == 77
    found = load(tmp_path / "a.h5")
    xr.testing.assert_equal(found, expected)
    assert found["unit"].attrs == found["twice"].attrs == LABEL


def test_a_result_without_any_row_is_a_result(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store.finish(store.rows(parts([2]), "sample")[["normal"]], {})
    assert load(tmp_path / "a.h5").sizes["sample"] == 0
    assert load(tmp_path / "a.h5").sizes["pixel"] == 600


def test_a_coordinate_along_the_rows_is_joined(tmp_path: Path) -> None:
    def at(i: int) -> xr.Dataset:
        return xr.Dataset({"a": ("sample", [1.0 * i], LABEL)}, {"sample": [10 * i]})

    with Store(tmp_path / "a.h5", CONFIG) as store:
        ds = store.rows({str(i): partial(at, i) for i in range(3)}, "sample")
        assert float(ds["a"].sel(sample=20)) == 2.0
        store.finish(ds, {})
    np.testing.assert_array_equal(load(tmp_path / "a.h5")["sample"], [0, 10, 20])


# --- memory -----------------------------------------------------------------------------------


def test_rows_larger_than_memory_take_a_block_at_a_time(tmp_path: Path) -> None:
    size, count = 8 * 2**20, 20  # bytes of one part

    def big(i: int) -> xr.Dataset:
        return xr.Dataset({"normal": (("sample", "pixel"), np.full((256, 2**13), i, "f4"), LABEL)})

    with Store(tmp_path / "a.h5", CONFIG) as store:
        tracemalloc.start()
        ds = store.rows({str(i): partial(big, i) for i in range(count)}, "sample")
        rows_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        store.finish(ds.isel(sample=slice(3, None)), {})
        finish_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert rows_peak < 1.5 * size  # the part in work
    assert finish_peak < 3.5 * size  # a block of 16 MiB, a part of it, and small change
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["normal"][:, 0], np.repeat(np.arange(count), 256)[3:])


# --- resuming ---------------------------------------------------------------------------------


def test_finished_parts_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"

    def stopped() -> xr.Dataset:
        raise KeyboardInterrupt

    with Store(path, CONFIG) as store, pytest.raises(KeyboardInterrupt):
        store.rows({**parts([0, 1]), "rows-2": stopped}, "sample")
    with Store(path, CONFIG) as store:
        assert [store.has(f"rows-{i}") for i in range(4)] == [True, True, False, False]
        ds = store.rows({"rows-0": never, "rows-1": never, **parts([2, 3, 4])}, "sample")
        xr.testing.assert_identical(ds.load(), all_rows())


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
        exitcode = run(crash_at, job, call, count, when, path)
        killed = exitcode == -signal.SIGKILL
        assert killed or exitcode == 0
        if path.exists():
            assert values(path) == uninterrupted
        elif call == "replace":  # the manifest, then one part at each call
            before = min(count - (when == "before") - 1, PARTS)
            assert kept(path) >= {f"part-rows-{i}" for i in range(before)}
        job(path)
        assert values(path) == uninterrupted
        leftovers = {file.name for file in path.parent.rglob("*")} - {path.name}
        # A kill between the removal of the manifest and of the empty folder leaves the latter.
        assert leftovers <= {"boundary.h5.partial", "lock", "owner"}
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
        time.sleep(rng.uniform(0.0, 0.12))
        process.kill()
        process.join()
        if path.exists():
            assert values(path) == uninterrupted
            break
        now = kept(path)
        assert now >= finished
        finished = now
    job(path)
    assert values(path) == uninterrupted


# --- disks that refuse, and wrong input -------------------------------------------------------


def of_noise(rows: int) -> dict[str, Callable[[], xr.Dataset]]:
    ds = xr.Dataset(
        {"normal": (("sample", "pixel"), np.random.default_rng(0).random((rows, 100)), LABEL)}
    )
    return {f"rows-{rows}": lambda: ds}


def fill_the_disk(folder: Path) -> None:
    """Writes against a limit of file size, which refuses inside a write as a full disk does."""
    store = Store(folder / "a.h5", CONFIG)
    store.rows(of_noise(60), "sample")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    big = of_noise(1000)["rows-1000"]()
    refused: list[Callable[[], object]] = [
        lambda: store.rows(of_noise(1000), "sample"),
        lambda: save(big, folder / "b.h5"),
    ]
    for write in 2 * refused:
        with pytest.raises(InputError, match="is full"):
            write()
    ds = store.rows(of_noise(60) | of_noise(90), "sample")
    with pytest.raises(InputError, match="is full"):
        store.finish(ds, {})
    assert kept(store.path) == {"part-rows-60", "part-rows-90"}


@pytest.mark.usefixtures("block_bytes")
def test_a_full_disk_loses_no_finished_part(tmp_path: Path) -> None:
    assert run(fill_the_disk, tmp_path) == 0  # HDF5 ends the process when it meets a full disk
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5.partial"]
    assert not list(tmp_path.rglob("*.tmp"))
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store.finish(store.rows({"rows-60": never, "rows-90": never}, "sample"), {})
    assert load(tmp_path / "a.h5").sizes["sample"] == 150


def test_a_disk_without_room_is_told_before_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        ds = store.rows(parts(), "sample")
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 20_000}))
        with pytest.raises(InputError, match="has 2e-05 GB free"):
            store.finish(ds, {})
        assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("damage", [lambda data: data[:700], lambda data: b"", None])
def test_missing_and_damaged_parts_are_named(
    tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    message = r"part-rows-1\.bin is damaged.*delete it"
    for first in (True, False):
        with Store(tmp_path / f"{first}.h5", CONFIG) as store:
            numbers = [1, 0] if first else [0, 1]
            ds = store.rows(parts(numbers), "sample")
            file = store.folder / "part-rows-1.bin"
            if damage is None:
                file.unlink()
            else:
                file.write_bytes(damage(file.read_bytes()))
                with pytest.raises(InputError, match=message):
                    store.rows(parts(numbers), "sample")
            with pytest.raises(InputError, match=message):
                ds["normal"].load()
            with pytest.raises(InputError, match=message):
                store.finish(ds, {})
            assert store.has("rows-0")
            assert not (tmp_path / f"{first}.h5").exists()


def changed(**variables: Any) -> Mapping[str, Callable[[], xr.Dataset]]:
    ds = part(1).assign(variables)
    return parts([0]) | {"other": lambda: ds}


@pytest.mark.parametrize(
    ("unfit", "message"),
    [
        (lambda: changed(more=("sample", [1, 2], LABEL)), "in more: all but"),
        (lambda: parts([0]) | {"b": lambda: part(1).drop_vars("source")}, "in source: all but"),
        (lambda: changed(source=("sample", [1.0, 2.0], LABEL)), "in source: all but"),
        (lambda: parts([0]) | {"b": lambda: part(1).isel(pixel=slice(9))}, "in normal, pixel"),
        (lambda: changed(step=((), 0.25, LABEL)), "in step: all but"),
        (lambda: changed(step=((), np.nan, LABEL)), "in step: all but"),
        (lambda: {"a": lambda: part(1).assign(t=("sample", ["a", "b"]))}, "'t' .* are booleans"),
        (lambda: {"a": lambda: part(1).transpose()}, "'sample' as their first dimension"),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_remain(
    tmp_path: Path, unfit: Callable[[], Mapping[str, Any]], message: str
) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        with pytest.raises(InputError, match=message):
            store.rows(unfit(), "sample")
        assert len(list(store.folder.glob("part-*.bin"))) == len(unfit())


def test_labels_are_asked_of_rows_too(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        ds = store.rows(parts(), "sample")
        del ds["normal"].attrs["long_name"]
        with pytest.raises(InputError, match="'normal' has no long_name"):
            store.finish(ds, {})
        assert store.has("rows-0")

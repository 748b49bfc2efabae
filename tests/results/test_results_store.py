"""Kept parts: computed once, the same whether kept or not, mixed with no other configuration."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geomadv.errors import InputError
from geomadv.results import Store, load, provenance, reuse, save

CONFIG = {"seed": 1, "sizes": [10, 30]}
IDENTITY = {"experiment": "universal", **CONFIG}
LABEL = {"long_name": "test variable", "units": "1"}


def number(value: float = 1.0) -> xr.Dataset:
    return xr.Dataset({"a": ((), value, LABEL)})


def never() -> xr.Dataset:
    raise AssertionError("this part is kept already")


# --- what is kept -----------------------------------------------------------------------------

DATASETS = {
    "float32": xr.Dataset(
        {"a": ("x", np.array([0.1, np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32), LABEL)}
    ),
    "float64": xr.Dataset({"a": ("x", np.array([0.1, np.nan, np.inf, -np.inf, 5e-324]), LABEL)}),
    "integers": xr.Dataset(
        {
            kind: ("x", np.array([0, -1, np.iinfo(kind).min, np.iinfo(kind).max], kind), LABEL)
            for kind in ("int8", "int16", "int32", "int64")
        }
    ),
    "unsigned": xr.Dataset({"a": ("x", np.array([0, 255], np.uint8), LABEL)}),
    "boolean": xr.Dataset({"a": (("x", "y"), np.array([[True, False], [False, True]]), LABEL)}),
    "texts": xr.Dataset({"a": ("x", np.array(["zero", "", "größer", "零"]), LABEL)}),
    "single": xr.Dataset(
        {
            "number": ((), np.float32(0.1), LABEL),
            "nan": ((), np.nan, LABEL),
            "flag": ((), True, LABEL),
            "text": ((), "größer", LABEL),
            "count": ((), np.int16(-3), LABEL),
        }
    ),
    "coordinates": xr.Dataset(
        {"a": (("class", "radius"), np.arange(6, dtype=np.int8).reshape(2, 3), LABEL)},
        coords={
            "class": ["zero", "one"],
            "radius": ("radius", [0.1, 0.2, np.inf], {"long_name": "radius", "units": "pixels"}),
            "share": ("radius", np.array([1, 2, 3], np.float32), LABEL),
            "n": 5,
        },
    ),
    "attributes": xr.Dataset(
        {
            "a": ("x", [1.0], {"long_name": "Länge, ‖r‖", "units": "days since 2000-01-01"}),
            "b": ("x", [1.0], {"long_name": "time", "units": "seconds", "count": 3, "share": 0.1}),
            "c": ("x", [1.0], {"list": ["p", "q"], "array": np.array([1.0, 2.0]), "empty": ""}),
            "d": ("x", [1.0]),
        },
        attrs={"title": "text", "count": 3},
    ),
    "strided": xr.Dataset({"a": (("x", "y"), np.arange(6.0).reshape(2, 3).T[::-1], LABEL)}),
    "no rows": xr.Dataset(
        {
            "a": (("x", "y"), np.zeros((0, 4), np.float32), LABEL),
            "b": (("y", "x"), np.zeros((4, 0), bool), LABEL),
            "c": (("x", "z"), np.zeros((0, 0), np.int64), LABEL),
            "d": ("y", np.arange(4), LABEL),
        },
        coords={"x": np.zeros(0, np.int64), "z": np.zeros(0)},
    ),
    "nothing": xr.Dataset(),
}


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Identical, and of the same types, bit for bit."""
    xr.testing.assert_identical(found, expected)
    assert dict(found.sizes) == dict(expected.sizes)
    for name, variable in expected.variables.items():
        assert found[name].dtype == variable.dtype
        assert found[name].values.tobytes() == variable.values.tobytes()


@pytest.mark.parametrize("ds", DATASETS.values(), ids=DATASETS)
def test_a_part_is_computed_once_and_comes_back_the_same(ds: xr.Dataset, tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        assert_same(store("part", lambda: ds.copy(deep=True)), ds)
        assert_same(store("part", never), ds)
    with Store(tmp_path / "a.h5", CONFIG) as store:
        assert_same(store("part", never), ds)


KINDS = ("?", "i1", "u1", "<i8", ">i4", "<u8", "<f4", ">f8", "<U3", "S2", "<M8[s]")


@st.composite
def datasets(
    draw: st.DrawFn,
    names: tuple[str, ...] = ("d0", "d1", "a", "ä/b", ""),
    text: st.SearchStrategy[str] = st.text(max_size=3),  # noqa: B008
) -> xr.Dataset:
    """Variables of any type and shape, some of them coordinates, with attributes."""
    attrs = st.dictionaries(
        text,
        st.one_of(
            *(text, st.integers(-(2**63), 2**63 - 1), st.floats()),
            st.lists(text, min_size=1, max_size=3),
            hnp.arrays(st.sampled_from(["<i2", "<f4", "<f8"]), hnp.array_shapes()),
            st.floats(width=32).map(np.float32),
        ),
        max_size=2,
    )
    sizes = draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    variables = {}
    for name in draw(st.sets(st.sampled_from(names), min_size=1)):
        axes = draw(st.permutations(range(3)))[: draw(st.integers(0, 3))]
        axes = [int(name[1])] if name in ("d0", "d1") else axes
        kinds = st.sampled_from(["<i8", "<f8", "<U2"] if name in ("d0", "d1") else KINDS)
        array = draw(hnp.arrays(draw(kinds), [sizes[axis] for axis in axes]))
        variables[name] = ([f"d{axis}" for axis in axes], array, draw(attrs))
    ds = xr.Dataset(variables, attrs=draw(attrs))
    return ds.set_coords([name for name in variables if draw(st.booleans())])


@settings(deadline=None, max_examples=25)
@given(datasets())
def test_every_dataset_comes_back_bit_for_bit(ds: xr.Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for compute in (lambda: ds, never):
            with Store(Path(folder) / "a.h5", CONFIG) as store:
                found = store("part", compute)
            assert_same(found, ds)
            for name in ds.variables:
                for key, value in ds[name].attrs.items():
                    assert type(found[name].attrs[key]) is type(value)


def test_what_is_returned_does_not_depend_on_whether_it_was_kept(tmp_path: Path) -> None:
    """Also where files cannot hold exactly what was computed."""
    ds = xr.Dataset(
        {
            "text": ("x", np.array(["zero", "one"], object), {"names": ["one"], "numbers": [3]}),
            "big endian": ("x", np.array([1.0, 2.0], ">f8"), {"numpy": np.float32(0.1)}),
            "no text": ("y", np.zeros(0, "U7")),
        }
    )
    with Store(tmp_path / "a.h5", CONFIG) as store:
        first = store("part", lambda: ds)
    with Store(tmp_path / "a.h5", CONFIG) as store:
        second = store("part", never)
    assert_same(second, first)
    for name in first.variables:
        kinds = [
            {key: type(v) for key, v in found[name].attrs.items()} for found in (first, second)
        ]
        assert kinds[0] == kinds[1]


def test_how_a_dataset_was_stored_before_does_not_matter(tmp_path: Path) -> None:
    ds = xr.Dataset({"a": ("x", [0.123456, np.nan, 3.0], LABEL)})
    ds["a"].encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": 9, "chunksizes": (7,)}
    with Store(tmp_path / "a.h5", CONFIG) as store:
        whole = store("whole", lambda: ds)
        assert_same(whole, ds)
        assert_same(store("half", lambda: whole.isel(x=slice(2))), ds.isel(x=slice(2)))
        assert ds["a"].encoding["dtype"] == "int16"  # the caller's dataset is left alone


def test_changes_by_the_caller_do_not_reach_the_kept_part(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        for _ in range(2):
            found = store("part", lambda: xr.Dataset({"a": ("x", [1.0, 2.0], LABEL)}))
            np.testing.assert_array_equal(found["a"], [1.0, 2.0])
            found["a"][:] = 7.0
            found["a"].attrs["units"] = "other"


def test_parts_may_be_computed_from_parts(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        assert store("outer", lambda: store("inner", number) + 1)["a"] == 2
        assert store("inner", never)["a"] == 1


NAMES = [
    *("a", "a b", "a/b", "a-b", "a?b", "a\\b", "a:b", "a\nb", "a\0b", "a_b", "a.b", " a", "a "),
    *("ä", "a\u0308", "ü", "零", "一", "🐘", "", ".", "..", "../a", "/a", "~", "*", "-"),
    *("a.h5", "a.tmp", "a.h5.tmp", "manifest.json", "lock", "collisions-0.1", "collisions-0.10"),
    *(f"{'long ' * 80}{i}" for i in range(3)),
    *(f"{'x' * length}{end}" for length in (99, 100, 300, 5000) for end in ("", "1", "2")),
]


def test_parts_of_different_names_stay_apart(tmp_path: Path) -> None:
    for compute in (lambda i: number(i), lambda i: never()):
        with Store(tmp_path / "a.h5", CONFIG) as store:
            for i, name in enumerate(NAMES):
                assert store(name, partial(compute, i))["a"] == i
            for i, name in enumerate(NAMES):
                assert store(name, never)["a"] == i
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.parent for file in files} == {store.folder}
    assert len({file.name for file in files}) == len(NAMES) + 3  # the lock, its owner, the manifest
    assert all(file.name.isascii() and len(file.name) < 150 for file in files)


# --- computations that fail -------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, OSError, InputError, KeyboardInterrupt])
def test_an_exception_leaves_no_part(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> xr.Dataset:
        raise error("of the computation")

    store = Store(tmp_path / "a.h5", CONFIG)
    store("earlier", number)
    with store, pytest.raises(error, match=r"^of the computation$"):
        store("part", fail)
    assert sorted(file.name for file in store.folder.glob("part*")) == ["part-earlier.bin"]
    with Store(tmp_path / "a.h5", CONFIG) as store:  # the lock is free
        assert store("earlier", never)["a"] == 1
        assert store("part", partial(number, 2))["a"] == 2


def test_what_cannot_be_stored_leaves_no_part(tmp_path: Path) -> None:
    stacked = xr.Dataset({"a": (("x", "y"), np.ones((2, 2)))}, {"x": [1, 2], "y": [1, 2]})
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store("earlier", number)
        with pytest.raises(InputError, match=r"'z' holds objects: .*reset_index"):
            store("part", lambda: stacked.stack(z=("x", "y")))
        names = {file.name for file in store.folder.iterdir()}
        assert names == {"lock", "owner", "manifest.json", "part-earlier.bin"}
        assert store("part", partial(number, 2))["a"] == 2


# --- the final file ---------------------------------------------------------------------------


def test_finish_writes_the_result_and_removes_the_area(tmp_path: Path) -> None:
    path = tmp_path / "lenet" / "universal.h5"
    with Store(path, IDENTITY) as store:
        ds = xr.concat([store(f"row {i}", partial(number, i)) for i in range(3)], "size")
        attrs = provenance(IDENTITY, wall_time_s=1.5)
        assert store.finish(ds.assign_attrs(title="text"), attrs) == path
    found = load(path)
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert found["a"].attrs == LABEL
    expected = {**attrs, "title": "text", "complete": 1}
    assert {key: found.attrs[key] for key in expected} == expected
    assert found.attrs["seed"] == CONFIG["seed"]
    assert [file.name for file in path.parent.iterdir()] == ["universal.h5"]
    again = reuse(path, IDENTITY)
    assert again is not None
    xr.testing.assert_identical(again, found)


def test_a_result_without_parts_is_a_result(tmp_path: Path) -> None:
    with Store(tmp_path / "a.h5", CONFIG) as store:
        store.finish(number(), {})
    assert load(tmp_path / "a.h5")["a"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_the_earlier_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = save(number(1), tmp_path / "a.h5")
    with Store(path, CONFIG, overwrite=True) as store:
        ds = store("part", partial(number, 2))
        assert load(path)["a"] == 1
        store.finish(ds, {})
    assert load(path)["a"] == 2


def test_a_result_without_labels_is_refused_and_the_parts_remain(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        ds = store("part", number)
        with pytest.raises(InputError, match="'a' has no units"):
            store.finish(ds.assign(a=((), 1.0, {"long_name": "a"})), {})
        assert store("part", never)["a"] == 1
    assert not path.exists()
    with Store(path, CONFIG) as store:
        store.finish(store("part", never), {})
    assert load(path)["a"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_a_refused_result_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    """Whoever reads the earlier result must not remove the parts of the one that replaces it."""
    path = save(number(1), tmp_path / "a.h5", provenance({"experiment": "universal", "seed": 1}))
    other = {"experiment": "universal", "seed": 2}
    with Store(path, other, overwrite=True) as store:
        store("part", partial(number, 2))
        with pytest.raises(InputError, match="'a' has no units"):
            store.finish(xr.Dataset({"a": ((), 1.0, {"long_name": "a"})}), {})
    assert reuse(path, {"experiment": "universal", "seed": 1}) is not None
    with Store(path, other, overwrite=True) as store:
        assert store("part", never)["a"] == 2


# --- whose area it is -------------------------------------------------------------------------


def test_another_configuration_is_refused_or_discarded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        store("part", number)
        stray = store.folder / "part-half.bin.tmp"
        stray.write_bytes(b"half a part")
    other = {"seed": 2, "sizes": [10, 31], "p": 2}
    message = (
        r"config\.p: \(absent\) -> 2; config\.seed: 1 -> 2; "
        r"config\.sizes: \[10, 30\] -> \[10, 31\].*--overwrite"
    )
    with pytest.raises(InputError, match=message):
        Store(path, other)
    for overwrite in (False, True):
        reordered = dict(reversed(CONFIG.items()))
        with Store(path, reordered, overwrite=overwrite) as store:
            assert store("part", never)["a"] == 1
            assert not stray.exists()
    with Store(path, other, overwrite=True) as store:
        assert store("part", partial(number, 2))["a"] == 2
    with pytest.raises(InputError, match=r"config\.seed: 2 -> 1"):
        Store(path, CONFIG)


def test_a_second_store_of_the_same_process_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.h5", CONFIG)
    store("part", number)
    with pytest.raises(InputError, match="in use"):
        Store(tmp_path / "a.h5", CONFIG)
    store.close()
    with Store(tmp_path / "a.h5", CONFIG) as store:
        assert store("part", never)["a"] == 1
        store.finish(number(), {})
        Store(tmp_path / "a.h5", CONFIG).close()  # finish frees it

"""Work areas of a store: closed ones, finished ones, and those of another version."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from geomadv import InputError
from geomadv.results import Store, provenance, reuse, save, unfinished
from geomadv.results.store import _file_name

CONFIG = {"experiment": "e", "seed": 1}
LABEL = {"long_name": "number", "units": "1"}


def number(value: float = 1.0) -> xr.Dataset:
    return xr.Dataset({"a": ("sample", [value], LABEL)})


def never() -> xr.Dataset:
    raise AssertionError("computed anew")


def test_a_closed_store_computes_nothing_that_it_could_not_keep(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.h5", CONFIG)
    uses: list[Callable[[], object]] = [
        lambda: store("part", number),
        lambda: store.rows({"part": number}, "sample"),
        lambda: store.state("solve"),
        lambda: store.finish(number(), {}),
    ]
    for use in uses:
        use()
    for use in uses:
        with pytest.raises(InputError, match="is closed: open a new store"):
            use()
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def leave_assembled(path: Path, config: dict[str, Any]) -> Store:
    """An area as a kill between the appearance of the final file and its removal leaves it."""
    store = Store(path, config)
    store("part", number)
    store._mark_assembled()
    store.close()
    return store


def test_overwriting_does_not_take_the_parts_of_the_result_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    leave_assembled(path, CONFIG)
    with Store(path, CONFIG, overwrite=True) as store:
        assert float(store("part", lambda: number(2.0))["a"][0]) == 2.0


def test_a_run_killed_before_its_result_appeared_goes_on_with_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    folder = leave_assembled(path, CONFIG).folder
    with Store(path, CONFIG) as store:
        assert float(store("part", never)["a"][0]) == 1.0
    # The mark is gone: a result of the same name that appears by other means takes no part along.
    save(number(), path, provenance(CONFIG))
    assert reuse(path, CONFIG) is not None
    assert folder.is_dir()


def test_a_run_killed_after_its_result_appeared_leaves_no_area(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save(number(), path, provenance(CONFIG))
    folder = leave_assembled(path, CONFIG).folder
    assert reuse(path, CONFIG) is not None
    assert not folder.exists()


def test_another_result_does_not_remove_the_area_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    save(number(), path, provenance(CONFIG | {"seed": 2}))
    folder = leave_assembled(path, CONFIG).folder
    assert reuse(path, CONFIG | {"seed": 2}) is not None
    assert folder.is_dir()


def test_an_area_in_which_nothing_is_kept_is_in_nobodys_way(tmp_path: Path) -> None:
    """A computation that is refused at once, or killed, refuses no other one."""
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        (store.folder / "part-a.bin.tmp").touch()
        assert unfinished(path) is None
    assert list(tmp_path.iterdir()) == []
    store = Store(path, CONFIG)
    store._lock.release()  # as the system does after a kill
    assert store.folder.is_dir()
    with Store(path, CONFIG | {"seed": 2}) as other:
        other("part", number)
    with pytest.raises(InputError, match=r"seed: 2 -> 1.*--overwrite"):
        Store(path, CONFIG)


def test_parts_of_another_version_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        store("part", number)
    monkeypatch.setattr("geomadv.results.workarea.program_version", lambda: "99.0")
    with pytest.raises(InputError, match=r'geomadv_version: .* -> "99\.0".*--overwrite'):
        Store(path, CONFIG)


def test_parts_of_an_earlier_layout_are_refused_or_computed_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        manifest = json.loads((store.folder / "manifest.json").read_text())
        del manifest["layout_of_parts"]
        (store.folder / "manifest.json").write_text(json.dumps(manifest))
        (store.folder / "part-part.h5").write_bytes(b"HDF5")
    with pytest.raises(InputError, match=r"layout_of_parts: \(absent\) -> 2.*--overwrite"):
        Store(path, CONFIG)
    with Store(path, CONFIG, overwrite=True) as store:
        assert float(store("part", number)["a"][0]) == 1.0


@pytest.mark.parametrize("text", ["3", "null", "[1]", "{"])
def test_a_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with Store(path, CONFIG) as store:
        store("part", number)
        (store.folder / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json is damaged.*delete the folder"):
        Store(path, CONFIG)


def test_attributes_of_parts_are_stored_as_those_of_results(tmp_path: Path) -> None:
    attrs = {"truth": True, "nothing": None, "nested": {"a": [1, 2]}}
    ds = xr.Dataset({"a": ("sample", [1.0], LABEL | attrs)}, attrs=attrs)
    with Store(tmp_path / "a.h5", CONFIG) as store:
        found = store("part", lambda: ds)
    for stored in (found.attrs, found["a"].attrs):
        assert stored["truth"] == 1
        assert "nothing" not in stored
        assert json.loads(stored["nested"]) == attrs["nested"]


def test_names_stay_apart_where_the_disk_does_not_tell_capitals() -> None:
    names = ["a", "A", "resnet", "ResNet", "c-1", "C-1", "\udcff"]
    assert len({_file_name(name).lower() for name in names}) == len(names)


def test_an_unfinished_result_tells_its_memo(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert unfinished(path) is None
    with Store(path, CONFIG, memo={"count": 3}) as store:
        assert not store.has("part")
        store("part", number)
        assert store.has("part")
        assert unfinished(path) == {"count": 3}
    assert unfinished(path) == {"count": 3}
    with Store(path, CONFIG) as store:
        store.finish(store("part", never), {})
    assert unfinished(path) is None

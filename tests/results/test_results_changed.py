"""Results that somebody loaded, changed and stored: commands refuse them by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from faults.study import run_command

from geomadv import load, save
from geomadv.claims import CLAIMS, judge
from geomadv.cli import main
from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, _unpack
from geomadv.labels import derived
from geomadv.pipeline.pictures import encoded
from geomadv.results import differences, provenance, stored_identity
from geomadv.results.files import holding

ATTRS = provenance({"seed": 0}, config={"seed": 0}) | {"experiment": "label_graph", "network": "n"}


def graph() -> xr.Dataset:
    """Labels that three classes get, as of the experiment, without what it has beside."""
    label = {"long_name": "images", "units": "1"}
    return xr.Dataset({"count": (("from_class", "to_class"), np.eye(3, dtype=int), label)})


CHANGES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "class lost": lambda ds: ds.isel(to_class=slice(2)),
    "texts": lambda ds: ds.assign(count=ds["count"].astype(str)),
    "no dimension": lambda ds: ds.isel(from_class=0),
    "time": lambda ds: ds.assign_attrs(wall_time_s="noon"),
    "empty": lambda ds: ds.isel(from_class=slice(0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_commands_end_with_a_message(change: str, tmp_path: Path) -> None:
    path = save(CHANGES[change](graph()), tmp_path / "label_graph.h5", ATTRS)
    for words in (
        ["show", path],
        ["claims", tmp_path],
        ["figures", tmp_path],
        ["report", tmp_path],
    ):
        run_command([str(word) for word in words])
    assert {v.answer for v in judge({"label_graph": load(path)}, CLAIMS)} == {"not measured"}


def test_the_message_names_file_reason_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(graph(), tmp_path / "x.h5", ATTRS | {"wall_time_s": "noon"})
    assert main(["show", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} does not hold what")
    for words in ("ValueError in show.py, line", "'noon'", "--refresh"):
        assert words in said
    with pytest.raises(InputError, match="as it is"), holding(path, "a thing"):
        raise InputError("as it is")


@pytest.mark.parametrize("name", ["schema", "settings", "images", "inputs"])
def test_an_identity_with_a_text_for_a_table_is_refused(name: str, tmp_path: Path) -> None:
    identity = f'{{"experiment": "e", "{name}": "seven"}}'
    path = save(graph(), tmp_path / "e.h5", ATTRS | {"identity": identity})
    with pytest.raises(InputError, match=f"a str as {name}"):
        stored_identity(path)


def test_what_a_network_computes_may_be_no_number() -> None:
    assert differences({"behaviour": [1.0, "seven"]}, {"behaviour": [1.0, 7.0]})
    assert not differences({"behaviour": [1.0, 7.0]}, {"behaviour": [1.0, 7.0 + 1e-6]})


@pytest.mark.parametrize("name", ["a.png", "a.html"])
def test_a_damaged_figure_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")
    with pytest.raises(InputError, match=rf"{name} is damaged .*drawn anew"):
        encoded([tmp_path / name])


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz", "a.tar.bz2"])
@pytest.mark.parametrize("end", [0, 9, 60, 200])
def test_a_cut_archive_is_named(name: str, end: int, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").write_bytes(np.random.default_rng(0).bytes(4000))
    kind = {"zip": "zip", "gz": "gztar", "xz": "xztar", "bz2": "bztar"}[name.split(".")[-1]]
    made = Path(shutil.make_archive(str(tmp_path / "a"), kind, tmp_path, "data"))
    made.write_bytes(made.read_bytes()[:end])
    with pytest.raises(InputError, match="cannot be unpacked"):
        _unpack(RemoteFile(f"https://x/{name}"), made, tmp_path)


@pytest.mark.parametrize("change", ["none", "factors", "rows", "images", "number"])
def test_a_sum_is_there_where_its_terms_fit(change: str) -> None:
    gives = {"gives": "p: end = image + length * way"}
    ds = xr.Dataset(
        {
            "image": (("sample", "row", "column"), np.ones((4, 2, 3)), gives),
            "length": ("sample", np.arange(4.0)),
            "way": (("sample", "pixel"), np.ones((4, 6))),
        }
    )
    changed = {
        "factors": lambda: ds.assign(length=((), 1.0)),
        "rows": lambda: ds.isel(pixel=slice(5)),
        "images": lambda: ds.isel(row=0),
        "number": lambda: ds.isel(row=0, column=0, sample=0),
    }
    found = derived(changed[change]() if change in changed else ds)
    assert ("end" in found) == (change == "none")

"""Results as other programs take them: tables, and perturbations as plain arrays."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import geomadv as ga
from geomadv.errors import InputError, UnconvergedWarning

NAMES = ("cat", "dog", "cat", "owl")


@pytest.fixture(scope="module")
def ds():
    rng = np.random.default_rng(0)
    words = {"long_name": "class predicted at the image", "units": "1"}
    rate = {"long_name": "share of images fooled", "units": "1"}
    return xr.Dataset(
        {
            "perturbation": (("repeat", "channel", "row", "column"), rng.random((3, 2, 4, 5))),
            "rate": (("family", "d", "repeat"), rng.random((2, 4, 3)), rate),
            "share": (("family", "d"), rng.random((2, 4)), rate),
            "source": (("repeat",), np.array([3, -1, 1], np.int8), words),
            "description": (("family",), ["most positive curvature", "drawn"]),
            "count": ((), 7),
            "other": (("sample",), np.arange(6)),
        },
        {"family": ["positive", "random"], "d": [0, 1, 5, 9]},
    )


def test_every_cell_of_a_table_is_that_of_the_result(ds):
    table = ga.to_dataframe(ds)
    assert list(table) == [
        *("family", "d", "repeat", "rate", "share", "source", "description", "count")
    ]
    assert len(table) == 2 * 4 * 3
    for row in table.itertuples():
        at = ds.sel(family=row.family, d=row.d).isel(repeat=row.repeat)
        assert row.rate == at["rate"]
        assert row.share == at["share"]
        assert row.description == at["description"]
    assert table.attrs["long_name"]["rate"] == "share of images fooled"


def test_named_variables_share_a_table_of_their_dimensions(ds):
    assert list(ga.to_dataframe(ds, "share")) == ["family", "d", "share", "description"]
    both = ga.to_dataframe(ds, ["source", "other"])
    assert both.shape == (3 * 6, 4)
    pixels = ga.to_dataframe(ds, "perturbation")
    assert list(pixels)[:-1] == ["repeat", "channel", "row", "column"]
    assert ga.to_dataframe(ds, "count")["count"].tolist() == [7]


def test_classes_have_their_names_in_the_networks_order(ds):
    wanted = ["owl", None, "dog"]
    given = ga.to_dataframe(ds, "source", NAMES)["source"]
    stored = ga.to_dataframe(ds.assign(class_name=("label", [*NAMES])), "source")["source"]
    for column in (given, stored):
        assert [None if pd.isna(v) else v for v in column] == wanted
        assert list(column.cat.categories) == ["cat (0)", "dog", "cat (2)", "owl"]
    assert ga.to_dataframe(ds, "source")["source"].tolist() == [3, -1, 1]
    assert ga.to_dataframe(ds, "other", NAMES)["other"].tolist() == [*range(6)]  # no class


@pytest.mark.parametrize(
    ("variables", "names", "words"),
    [
        ("rat", None, "Did you mean 'rate'"),
        ([], None, "variables is empty"),
        ("source", ["cat"], "1 names"),
        ("source", NAMES[:3], "3 names, and source a class 3"),
    ],
    ids=["unknown", "none", "too-few-names", "one-name-too-few"],
)
def test_tables_that_cannot_be_are_refused(ds, variables, names, words):
    with pytest.raises(ga.InputError, match=words):
        ga.to_dataframe(ds, variables, names)


def test_tables_that_do_not_fit_are_refused_before_they_are_made():
    large = xr.Dataset({"v": (("a", "b"), np.broadcast_to(np.float32(0), (10**6, 51)))})
    with pytest.raises(ga.InputError, match=r"51,000,000 rows.*isel\(b"):
        ga.to_dataframe(large)


def test_a_result_of_images_alone_has_no_first_table(ds):
    with pytest.raises(ga.InputError, match="images"):
        ga.to_dataframe(ds[["perturbation"]])


def read(path):
    return np.load(path) if path.suffix == ".npy" else torch.load(path, weights_only=True).numpy()


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_perturbations_are_exported_as_they_are(suffix, tmp_path, ds):
    net = ga.load_network("digits-cnn")
    images = ga.load_images("digits", split="test")[:6]
    walk = ga.fgsm(net, images, 0.3)
    points = xr.Dataset(
        {
            "point": (("sample", "channel", "row", "column"), walk.adversarial.numpy()),
            "image": (("sample", "channel", "row", "column"), images.images.numpy()),
        }
    )
    for number, (source, wanted) in enumerate(
        [
            (walk, walk.delta.numpy()),
            (walk.delta.double(), walk.delta.numpy()),
            (walk.delta.bfloat16(), walk.delta.bfloat16().float().numpy()),
            (ds, ds["perturbation"].to_numpy().astype(np.float32)),
            (ds["perturbation"].transpose(), ds["perturbation"].transpose("repeat", ...)),
            (points, (walk.adversarial - images.images).numpy()),
        ]
    ):
        path = ga.export_perturbation(source, tmp_path / "new" / f"{number}{suffix}")
        found = read(path)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.asarray(wanted, np.float32))


@pytest.mark.parametrize(
    "source", [{"a": 1}, np.arange(3), xr.Dataset()], ids=["dict", "ints", "ds"]
)
def test_what_holds_no_perturbation_is_refused(source, tmp_path):
    with pytest.raises(ga.InputError, match="source: found a"):
        ga.export_perturbation(source, tmp_path / "v.npy")


def test_images_without_a_boundary_point_are_written_and_told(tmp_path):
    ways = torch.ones(3, 1, 2, 2)
    ways[1, 0, 1, 1] = torch.nan
    with pytest.warns(UnconvergedWarning, match="1 of 3 perturbations are not finite"):
        path = ga.export_perturbation(ways, tmp_path / "v.npy")
    assert np.isfinite(np.load(path)).all((1, 2, 3)).tolist() == [True, False, True]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ga.InputError, match="cannot write"):
        ga.export_perturbation(torch.zeros(2), tmp_path / "file" / "v.npy")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ga.InputError, match=r"'\.mat'"):
        ga.export_perturbation(torch.zeros(1, 2, 2), tmp_path / "v.mat")


def test_names_that_look_like_numbered_ones_stay_apart(ds):
    table = ga.to_dataframe(ds, "source", ("cat", "cat (2)", "cat", "cat"))["source"]
    assert [None if pd.isna(name) else name for name in table] == ["cat (3)", None, "cat (2) (1)"]


def test_numbers_that_are_no_classes_are_refused(ds):
    odd = ds.assign(source=ds["source"] - 2)
    with pytest.raises(InputError, match="a class -3"):
        ga.to_dataframe(odd, "source", NAMES)

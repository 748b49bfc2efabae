"""The scripts about universal perturbations as a user runs them, on a few digits."""

import xarray as xr
from test_scripts import one_paragraph, script

FEW = ("--count", "60", "--passes", "1")


def test_scripts_in_their_order(tmp_path):
    results = ("--results", tmp_path)
    folder = tmp_path / "digits-cnn"
    runs = (
        ("universal", *FEW, "--held-out", "50", "--sizes", "20", "--repeats", "2"),
        ("norm_comparison", "--count", "40", "--held-out", "50", "--draws", "2"),
        ("transfer", *FEW, "--held-out", "50", "--draws", "2"),
        ("categories", *FEW, "--norms", "3", "--draws", "2"),
    )
    for name, *flags in runs:
        done = script(f"analysis/{name}.py", *results, *flags)
        assert done.returncode == 0, done.stderr
        assert str(folder / f"{name}.h5") in done.stdout
    assert script("figures/all.py", folder).returncode == 0
    for name in ("universal", "label_graph", "norm_comparison", "transfer", "categories"):
        assert (folder / "figures" / f"{name}.pdf").stat().st_size > 5000
    with xr.open_dataset(folder / "universal.h5") as ds:
        assert ds["size"].values.tolist() == [20, 60]
    with xr.open_dataset(folder / "label_graph.h5") as ds:
        assert int(ds["count"].sum()) == 50
    for name in ("transfer", "categories"):
        with xr.open_dataset(folder / f"{name}.h5") as ds:
            assert ds["network"].values.tolist() == ["digits-cnn", "digits-relu"]


def test_what_is_missing_is_said(tmp_path):
    results = ("--results", tmp_path)
    assert "universal.h5" in one_paragraph(script("analysis/norm_comparison.py", *results))

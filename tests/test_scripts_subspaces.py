"""The scripts of figures 3 and 4 on the digits: results, figures, and files that do not fit."""

import shutil
from importlib import import_module

import h5py
import pytest
import xarray as xr
from test_scripts import one_paragraph, script

from geomadv import InputError


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    for name, *flags in (
        ("boundary", "--count", "300"),
        ("curvature", "--classes", "0", "3", "8", "--count", "60"),
        ("subspace_accuracy", "--count", "400"),
        ("universal", "--count", "60", "--sizes", "60", "--passes", "1", "--repeats", "1"),
        ("norm_fractions", "--count", "60"),
        ("first_order_twin", "--count", "400", "--dimensions", "0", "8", "56", "64"),
    ):
        done = script(f"analysis/{name}.py", "--results", results, *flags)
        assert done.returncode == 0, done.stderr
    return results


def test_what_the_digits_show(digits):
    """The paper's claims: curved and leading directions carry labels and norms, others do not."""
    folder = digits / "digits-cnn"
    with xr.open_dataset(folder / "subspace_accuracy.h5") as ds:
        assert ds["split"].to_numpy().tolist() == ["train", "test"]
        # Three classes have three directions each: nine of 64 dimensions.
        one = ds.sel(split="test", d=3)
        assert int(one["subspace_dimension"].sel(family="positive")) == 9
        for curved in ("positive", "negative", "both"):
            accuracy = one["accuracy"]
            assert float(accuracy.sel(family=curved)) > 2 * float(accuracy.sel(family="flat"))
        # All of image space is the image itself, but for ties to rounding.
        assert (ds["unchanged_share"].isel(d=-1).sel(family="positive") > 0.99).all()
    with xr.open_dataset(folder / "norm_fractions.h5") as ds:
        assert set(ds["kind"].to_numpy()) == {"DeepFool", "FGSM", "universal", "saliency"}
        shares, random = ds["mean_fraction"].sel(d=3), ds["random_fraction"].sel(d=3)
        for kind in ("DeepFool", "saliency"):
            assert (shares.sel(kind=kind, family="both") > random.sel(family="both")).all()
            assert (shares.sel(kind=kind, family="flat") < random.sel(family="flat")).all()
    with xr.open_dataset(folder / "first_order_twin.h5") as ds:
        for rows in ("perturbation", "normal"):
            accuracy = ds["accuracy"].sel(split="test")
            assert float(accuracy.sel(family=f"{rows}_hi", d=8)) > 0.8
            assert float(accuracy.sel(family=f"{rows}_lo", d=8)) < 0.3


def test_figures_are_drawn(digits, tmp_path):
    names = ("subspace_accuracy", "norm_fractions", "first_order_twin")
    for name in names:
        shutil.copy(digits / "digits-cnn" / f"{name}.h5", tmp_path)
    done = script("figures/all.py", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in names:
        for suffix in ("pdf", "png"):
            assert (tmp_path / "figures" / f"{name}.{suffix}").stat().st_size > 5000


def test_a_result_that_cannot_be_drawn_does_not_keep_the_others_from_it(digits, tmp_path):
    for name in ("subspace_accuracy", "first_order_twin"):
        shutil.copy(digits / "digits-cnn" / f"{name}.h5", tmp_path)
    (tmp_path / "subspace_accuracy.h5").write_bytes(b"damaged")
    message = one_paragraph(script("figures/all.py", tmp_path))
    assert "subspace_accuracy.h5 is not a complete result file" in message
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"first_order_twin.pdf", "first_order_twin.png"}


def test_a_missing_result_says_which_script_makes_it(tmp_path):
    done = script("analysis/norm_fractions.py", "--results", tmp_path / "new")
    assert "run analysis/curvature.py" in one_paragraph(done)


@pytest.mark.parametrize(
    ("name", "attribute", "words"),
    [
        ("subspace_accuracy", "weights_sha256", "other weights"),
        ("first_order_twin", "dataset", "'other', not of 'digits-train'"),
    ],
)
def test_results_of_another_network_or_data_set_are_refused(
    digits, name, attribute, words, tmp_path
):
    folder = tmp_path / "digits-cnn"
    folder.mkdir()
    source = "boundary.h5" if name == "first_order_twin" else "curvature.h5"
    shutil.copy(digits / "digits-cnn" / source, folder)
    with h5py.File(folder / source, "a") as file:
        file.attrs[attribute] = "other"
    assert words in one_paragraph(script(f"analysis/{name}.py", "--results", tmp_path))


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("direction_sweep", {"reach": 0.0}, "--reach 0"),
        ("direction_sweep", {"steps": 0}, "--steps 0: expected at least 1"),
        ("score_curves", {"reach": -1.0}, "--reach -1"),
        ("score_curves", {"steps": 2}, "--steps 2: expected at least 3"),
        ("norm_fractions", {"epsilon": 0.0}, "--epsilon 0"),
        ("norm_fractions", {"epsilon": float("nan")}, "--epsilon nan"),
        ("norm_fractions", {"count": 60, "dimensions": (65,)}, "from 0 to 64"),
        ("confined_deepfool", {"count": 0}, r"sample\(n=0\)"),
        ("resampling", {"count": 0}, r"sample\(n=0\)"),
        ("resampling", {"count": 5, "span_count": -1}, r"sample\(n=-1\)"),
    ],
)
def test_bad_flags_are_refused_before_any_attack(digits, monkeypatch, name, flags, words):
    """Zero is a number that cannot be used here, not the default."""

    def attack(*_, **__):
        raise AssertionError("the flags were not checked first")

    monkeypatch.setattr("geomadv.deepfool", attack)
    module = import_module(name)
    kind = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    with pytest.raises(InputError, match=words):
        module.run(kind(results=digits, overwrite=True, **flags))


def test_perturbations_that_were_left_out_are_counted(digits):
    with xr.open_dataset(digits / "digits-cnn" / "norm_fractions.h5") as ds:
        tried = ds["count"] + ds["zero_count"] + ds["unconverged_count"]
        expected = {"DeepFool": 60, "FGSM": 60, "universal": 1, "saliency": 60}
        assert dict(zip(ds["kind"].to_numpy(), tried.to_numpy(), strict=True)) == expected

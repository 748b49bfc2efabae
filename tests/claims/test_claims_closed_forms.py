"""Effects of claims in closed form, where made-up results would answer alike without a part."""

import numpy as np
import pytest
import xarray as xr
from claims_cases import CASES
from claims_for_tests import (
    EVEN,
    LATE,
    QUICK,
    accuracy,
    compared,
    confined,
    crossed,
    projected,
    resampled,
    tilted,
    transferred,
    twin,
    universal,
)

from geomadv import experiments
from geomadv.claims import CLAIMS, Measured, NotMeasured, Resamples, judge
from geomadv.claims.subspaces import _Projected
from geomadv.experiments.linear.hyperplanes import as_good_as_the_best

MEASURES = {claim.name: claim.measure for claim in CLAIMS}


def measured(name: str, ds: xr.Dataset) -> Measured:
    return MEASURES[name](ds, Resamples())


@pytest.mark.parametrize("low", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("high", [0.1, 0.6])
def test_flat_directions_move_images_at_all_scales_but_0(low, high):
    found = measured("flat_inert", crossed(flat=[low, high], random=[high, low]))
    expected = (low + high) / 4  # of the four scales two move any
    assert float(found.effect[0]) == pytest.approx(expected, abs=0.01)
    assert float(found.null[0]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("ends", ["perturbation_hi", "random"])
@pytest.mark.parametrize("steps", [2, 5, 8])
@pytest.mark.parametrize("rates", [QUICK, EVEN, LATE], ids=["quick", "even", "late"])
def test_areas_are_compared_up_to_where_both_families_end(ends, steps, rates):
    ds = twin(hi=rates, random=rates)
    known = (ds["family"] != ends) | (ds["d"] < steps)
    found = measured(
        "leading_accuracy", ds.assign(subspace_dimension=ds.subspace_dimension.where(known))
    )
    # Resamples of accuracies of all images differ.
    np.testing.assert_allclose(found.effect[0], found.null[0], rtol=1e-12)


class _EachDraw(Resamples):
    """Every image once, and in each row one draw alone."""

    def __init__(self, draws: int) -> None:
        self.draws = draws

    def weights(self, count: int, least: int = 0) -> np.ndarray:
        return np.eye(self.draws) if count == self.draws else np.ones((self.draws, count))

    def share(self, rows: np.ndarray, count: int) -> np.ndarray:
        return rows


@pytest.mark.parametrize("draws", [2, 7, 11])
def test_images_stand_for_the_draw_that_projected_them(draws):
    ds = projected(draws=draws, random=[1.0] * 8)
    hit = np.arange(ds.sizes["sample"]) % draws % 2 == 0
    ds = ds.assign(prediction=ds["prediction"].where(xr.DataArray(hit, dims="sample"), 3))
    _, accuracy = _Projected(ds, _EachDraw(draws)).accuracy("random")
    np.testing.assert_array_equal(accuracy, np.repeat(np.arange(draws) % 2 == 0, 8).reshape(-1, 8))


@pytest.mark.parametrize("moved", [[6, 6], [11, 1], [4, 4, 4], [2, 3, 9, 1]])
def test_pairs_of_labels_are_of_two_images(moved):
    # Images of class 0 get the other labels.
    label = np.repeat(np.arange(1, 1 + len(moved)), moved)
    names = [str(c) for c in range(1 + len(moved))]
    ds = experiments.label_graph(np.zeros(len(label), int), label, names)
    n, pairs = len(label), sum(k * (k - 1) for k in moved)
    assert float(measured("dominant_labels", ds).effect[0]) == pytest.approx(n * (n - 1) / pairs)


def test_of_two_classes_no_labels_are_dominant():
    source = np.arange(40) % 2
    with pytest.raises(NotMeasured, match="but one label"):
        measured("dominant_labels", experiments.label_graph(source, 1 - source, ["a", "b"]))


@pytest.mark.parametrize(
    ("name", "label", "clean"),
    [
        ("held_out_rate", "label", "prediction"),
        ("few_images", "label", "prediction"),
        ("transfer", "label", "prediction"),
        ("rescaled_fooling", "perturbed_label", "clean_label"),
        ("rescaled_fooling", "noise_label", "clean_label"),
    ],
)
def test_images_without_a_label_are_not_fooled(name, label, clean):
    ds = CASES[name][0][0]()
    lost = ds.assign({label: ds[label].where(ds[label] != ds[clean], -1)})
    assert (lost[label] == -1).any()
    before, after = measured(name, ds), measured(name, lost)
    np.testing.assert_array_equal(after.effect, before.effect)
    np.testing.assert_array_equal(after.null, before.null)


def test_the_units_of_a_mean_are_the_images_that_enter_it():
    def own(count: int) -> xr.Dataset:
        ds = crossed(leave=1.0, random=0.0)
        source = np.where(np.arange(ds.sizes["sample"]) < count, ds["source"], 9)
        return ds.assign(source=("sample", source))

    with pytest.raises(NotMeasured, match="9 of at least 10"):
        measured("negative_leaves", own(9))
    assert measured("negative_leaves", own(12)).count == "12 images, 3 classes"
    assert measured("positive_enters", own(12)).count == "240 images, 3 classes"
    few = confined(1, 9, 5).isel(sample=slice(20))
    few["converged"][..., 9:] = False
    with pytest.raises(NotMeasured):
        measured("leading_confined", few.isel(sample=slice(18)))
    few["converged"][:, 1, 9:12] = True
    assert measured("leading_confined", few).count == "12 images, 1 dimensions"
    wrong = tilted([5, 20, 50, 80], [9, 2.5, 1, 0.1], [0.5, 0.5, 0.5, 0.5])
    assert measured("tilt_norm", wrong).count == "120 images"


@pytest.mark.parametrize("errors", [(2, 1, 1, 2), (6, 4, 4, 6), (12, 1, 0, 1), (9, 1, 0, 9)])
def test_the_claims_on_tilting_take_the_classifiers_that_the_figure_shades(errors):
    ds = tilted([5, 20, 50, 80], [2, 1.6, 1.2, 1], np.array(errors) / 240)
    error = 1 - ((ds["test_distance"] > 0) == (ds["test_label"] == 7)).mean("test")
    c = ds["C"].to_numpy()[as_good_as_the_best(error.to_numpy(), 240)]
    assert measured("tilt_angle", ds).note == f"C from {c[0]:.2g} to {c[-1]:.2g}"


# Results of ten images in which a share is 0 or 1, and what is known of it.
ENDS = {
    "held_out_rate": lambda: universal(1.0, 1.0).isel(held_out_sample=slice(10)),
    "flat_accuracy": lambda: accuracy(flat=LATE).isel(sample=np.r_[:10, 240:250]),
    "negative_leaves": lambda: crossed(leave=1.0, random=0.0).isel(sample=slice(10)),
    "flat_inert": lambda: crossed(flat=0.0, random=0.5).isel(sample=slice(10)),
    "rescaled_fooling": lambda: resampled([[1, 1, 1]] * 3, [[0, 0, 0]] * 3).isel(sample=slice(10)),
    "universal_norm": lambda: compared([0, 1, 1, 1], [0, 0, 1, 1]).isel(held_out_sample=slice(10)),
    "transfer": lambda: transferred([[1.0, 1.0], [1.0, 1.0]]).isel(sample=slice(10)),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_share_of_all_images_is_as_uncertain_as_a_rate(name):
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    (v,) = judge({claim.experiment: ENDS[name]()}, [claim])
    assert v.low <= v.value <= v.high
    assert v.high - v.low > 0.05, v


def test_of_no_image_in_ten_wilson_knows_a_third():
    rows = Resamples().share(np.array([[0.0, 1.0, 0.5]] * 1001), 10)
    low, high = np.quantile(rows[1:], (0.025, 0.975), axis=0)
    # Wilson's interval of 0 of 10 ends at 0.28, Jeffreys' at 0.22.
    np.testing.assert_allclose(high[0], 0.22, atol=0.04)
    np.testing.assert_allclose(low[1], 0.78, atol=0.04)
    assert (rows[0].tolist(), low[2], high[2]) == ([0, 1, 0.5], 0.5, 0.5)

"""Effects of claims in closed form, where made-up results would answer alike without a part."""

import numpy as np
import pytest
import xarray as xr
from claims_cases import CASES
from claims_for_tests import EVEN, LATE, QUICK, crossed, projected, twin

from geomadv import experiments
from geomadv.claims import CLAIMS, Measured, Resamples
from geomadv.claims.subspaces import _Projected

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
    np.testing.assert_allclose(found.effect, found.null, rtol=1e-12)


class _EachDraw(Resamples):
    """Every image once, and in each row one draw alone."""

    def __init__(self, draws: int) -> None:
        self.draws = draws

    def weights(self, count: int, least: int = 0) -> np.ndarray:
        return np.eye(self.draws) if count == self.draws else np.ones((self.draws, count))


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

"""The table above each experiment says what its result holds, no less and no more."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import test_experiments_parts as small
import torch
import xarray as xr
from sklearn.svm import LinearSVC

import geomadv as ga
from geomadv import experiments
from geomadv.experiments import SCHEMAS, CurvatureSettings, keep_nothing
from geomadv.labels import described

SCALES = np.linspace(-4, 4, 9)


def predictions() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    yield experiments.predictions(net, test)


def points() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    yield experiments.boundary(net, test)


def spectrum() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    yield experiments.normal_spectrum(ga.boundary_points(net, test).normals, small.SHAPE, 5)


@cache
def curvatures() -> list[xr.Dataset]:
    """The full spectrum, and both of its ends."""
    net, _, _ = small.digits()
    images = ga.load_images("digits", split="train")
    settings = [CurvatureSettings(count=12, pairs=pairs, draws=5) for pairs in (None, 2)]
    return [experiments.curvature(net, images, [3], one) for one in settings]


@cache
def curved() -> xr.Dataset:
    return experiments.curved_directions(curvatures()[1], 1)


def curves() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    yield experiments.class_score_curves(net, test, curved(), SCALES, draws=5)


def sweep() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    yield experiments.class_direction_sweep(net, test, curved(), SCALES)


def label_graph() -> Iterator[xr.Dataset]:
    yield experiments.label_graph([0, 0, 1, 2], [1, 1, 0, 2], "abc")


def fractions() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    families = {"a": small.frame(0), "b": small.frame(1)}
    yield experiments.norm_fractions({"DeepFool": ga.deepfool(net, test).delta}, families, [0, 9])


def transfer() -> Iterator[xr.Dataset]:
    net, _, test = small.digits()
    other = net.smoothed(2.0)
    other.name = "other"
    delta = test.images[0] - test.images[1]
    yield experiments.transfer([net, other], [delta, -delta], test, draws=2)


def toy() -> Iterator[xr.Dataset]:
    model = LinearSVC(dual=False, random_state=0)
    yield experiments.tilting_toy(model, [1e-4, 1], (2, 8), 20)


def tilt() -> Iterator[xr.Dataset]:
    net, train, test = small.digits()
    yield experiments.normal_tilt(ga.boundary_points(net, test), train)


def case(name: str) -> Callable[[], Iterator[xr.Dataset]]:
    return lambda: iter([small.CASES[name](keep_nothing)])


RUNS: dict[str, Callable[[], Iterator[xr.Dataset]]] = {
    **{name: case(name) for name in SCHEMAS if name in small.CASES},
    "train": predictions,
    "boundary": points,
    "normal_svd": spectrum,
    "direction_svd": spectrum,
    "curvature": lambda: iter(curvatures()),
    "score_curves": curves,
    "direction_sweep": sweep,
    "normal_section": case("class_normal_section"),
    "first_order_twin": case("subspace_accuracy"),
    "label_graph": label_graph,
    "norm_fractions": fractions,
    "transfer": transfer,
    "tilting_toy": toy,
    "normal_tilt": tilt,
}


def test_every_experiment_is_tried():
    assert set(RUNS) == set(SCHEMAS)


@pytest.mark.filterwarnings("ignore::geomadv.errors.UnconvergedWarning")
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_result_holds_what_the_table_says(name):
    schema, produced = SCHEMAS[name], set()
    for ds in RUNS[name]():
        for variable, values in ds.variables.items():
            dims, long_name, units = schema[variable]
            assert values.dims == dims, variable
            assert (values.attrs["long_name"], values.attrs["units"]) == (long_name, units)
            assert (variable in ds.coords) == (dims == (variable,))
        produced |= set(ds.variables)
    assert set(schema) == produced


# described

TABLE = {"x": (("x",), "place", "m"), "y": (("x", "z"), "height", "1"), "w": ((), "width", "m")}


def test_values_get_dimensions_and_words_from_the_table():
    height = xr.DataArray([[1, 2], [3, 4], [5, 6]], dims=("z", "x"), attrs={"units": "feet"})
    ds = described(TABLE, {"y": height, "x": torch.tensor([0.5, 1.5])}, {"p": "2"})
    expected = xr.Dataset(
        {"y": (("x", "z"), [[1, 3, 5], [2, 4, 6]], {"long_name": "height", "units": "1"})},
        {"x": ("x", np.array([0.5, 1.5], np.float32), {"long_name": "place", "units": "m"})},
        {"p": "2"},
    )
    xr.testing.assert_identical(ds, expected)


def test_what_the_table_does_not_say_is_refused():
    with pytest.raises(KeyError, match="v"):
        described(TABLE, {"v": 1})
    with pytest.raises(ValueError, match="dimension"):
        described(TABLE, {"w": [1, 2]})

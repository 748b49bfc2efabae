"""The toy problem whose tilting plane looks the same in any number of dimensions."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from geomadv import InputError, experiments


def test_the_toy_picture_is_the_same_in_any_dimension():
    solver = LinearSVC(dual=False, tol=1e-8, max_iter=10_000)
    ds = experiments.tilting_toy(solver, [1e-4, 1e-1, 1e2], (2, 64, 300), samples=60)
    assert ds["converged"].all()
    # The problems are rotations of each other: what the solvers find differs by their tolerance
    # (relative 1e-8 of the gradient), divided by the curvature of the objective, 1 at least.
    for name in ("angle", "mean_distance", "train_z", "train_n", "trace_point"):
        spread = ds[name].max("dimension") - ds[name].min("dimension")
        assert float(spread.max()) < 1e-4, name
    angle = np.degrees(ds["angle"].sel(dimension=2).to_numpy())
    assert angle[0] < 2 < 30 < angle[1] < 70 < angle[2]
    error = ds["test_error"].sel(dimension=300)
    assert float(error[-1]) < float(error[0])


@pytest.mark.parametrize(
    ("arguments", "message"), [((3,), "even"), ((0,), "even"), ((4, 0), "samples=0")]
)
def test_bad_toy_problems(arguments, message):
    with pytest.raises(InputError, match=message):
        experiments.toy_problem(*arguments)


def test_a_toy_without_dimensions():
    with pytest.raises(InputError, match="dimensions"):
        experiments.tilting_toy(LinearSVC(), 1.0, ())

"""Where a segment crosses the boundary: bracket ends, then SciPy's brentq."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from geomadv.boundary.segment import bracketed_root, crossing
from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction

# Pixel 0 is the position t on the segment; pixels 1 to 3 are the coefficients of each function.
SHAPE = (1, 1, 4)


class Along(nn.Module):
    """f(t; a, b, c) of the four pixels of each image, any formula that broadcasts."""

    def __init__(self, formula) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(*x.flatten(1).T)


def network(formula) -> Classifier:
    return nets.classifier(nets.Pair(Along(formula)), SHAPE, bounds=(-1.0, 2.0))


def cross(formula, coefficients: Tensor, tolerance: float = 1e-12):
    """Crossings of t in [0, 1] for each row of coefficients (n, 3)."""
    n = len(coefficients)
    x = torch.cat([torch.zeros(n, 1, dtype=torch.float64), coefficients], dim=1)
    delta = torch.zeros_like(x)
    delta[:, 0] = 1
    source = torch.zeros(n, dtype=torch.int64)
    net = network(formula)
    limit = torch.full((n,), tolerance, dtype=torch.float64)
    x, delta = x.reshape(n, *SHAPE), delta.reshape(n, *SHAPE)
    return crossing(net, x, delta, BoundaryFunction(source), limit)


def constants(*values: float) -> Tensor:
    """One row of coefficients per value: (value, 0, 0)."""
    return torch.tensor([[v, 0.0, 0.0] for v in values], dtype=torch.float64)


def test_straight_lines_cross_at_the_root():
    roots = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    t, crossed = cross(lambda t, a, b, c: 3 * (t - a), constants(*roots.tolist()))
    assert crossed.all()
    # |f| <= 1e-12 with slope 3.
    torch.testing.assert_close(t, roots, rtol=0, atol=1e-12)


def test_bracket_ends():
    # Roots at the image, beyond the segment, before it, at its end; just inside the end.
    t, crossed = cross(lambda t, a, b, c: t - a, constants(0.0, 1.5, -0.5, 1.0, 1 - 1e-13))
    assert crossed.tolist() == [True, False, False, True, True]
    assert t[:4].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert t[4] == pytest.approx(1, abs=1e-12)


def test_no_crossing_where_nothing_changes():
    t, crossed = cross(lambda t, a, b, c: a + 0 * t, constants(-1.0, 1.0))
    assert not crossed.any()
    assert t.tolist() == [1.0, 1.0]


def test_end_within_tolerance_is_taken_as_it_is():
    t, crossed = cross(lambda t, a, b, c: t - a, constants(0.95, 0.5), tolerance=0.1)
    assert crossed.all()
    assert t[0] == 1
    assert abs(t[1] - 0.5) <= 0.1


@pytest.mark.parametrize(
    "formula",
    [
        lambda t, a, b, c: torch.expm1(3 * b.abs() * t) * (1 + a**2) - c.abs() - 0.01,
        lambda t, a, b, c: torch.tanh(20 * (t - torch.sigmoid(a))) + 0.1 * torch.tanh(b),
        lambda t, a, b, c: (t - torch.sigmoid(a)) ** 3 + 1e-3 * (t - torch.sigmoid(a)),
        lambda t, a, b, c: (1 + b**2) * (t - torch.sigmoid(a)) ** 9,
    ],
)
def test_monotone_functions_against_brentq(formula):
    coefficients = nets.gaussian(60, 3)
    t, crossed = cross(formula, coefficients)
    both = 0
    for k, row in enumerate(coefficients):

        def f(s: float, row: Tensor = row) -> float:
            return formula(torch.tensor(s, dtype=torch.float64), *row).item()

        assert bool(crossed[k]) == (f(1.0) >= 0)
        if not crossed[k]:
            continue
        both += 1
        root = brentq(f, 0.0, 1.0, xtol=1e-15, maxiter=1000)
        # Both are good to |f| <= 1e-12: as far apart as f lets two such points be, where f is
        # flat (its ninth power) 2 x 1e-12^(1/9) = 0.1, otherwise rounding.
        assert abs(f(float(t[k]))) <= 1e-12
        assert abs(f(root)) <= 1e-12
        assert abs(t[k] - root) <= (0.1 if abs(f(root + 1e-3)) < 1e-12 else 1e-6)
    assert both >= 20


def test_an_end_that_stays_put_counts_half():
    """t^5 = 0.1 takes 11 evaluations; 22 where the far end keeps its full weight."""
    low, high = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    places = []

    def margin(_: Tensor, t: Tensor) -> Tensor:
        places.append(float(t))
        return t**5 - 0.1

    ends = (low, high, low - 0.1, high - 0.1)
    root = bracketed_root(margin, *ends, torch.full_like(low, 1e-12))
    assert float(root) == pytest.approx(0.1**0.2, abs=1e-12)
    assert len(places) <= 15


def test_non_monotone_functions_end_at_a_root_with_a_sign_change():
    def formula(t: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return t - 0.5 + torch.sin(12 * t + a) * b + torch.cos(29 * t) * c - torch.sin(a) * b - c

    coefficients = nets.gaussian(300, 3)
    t, crossed = cross(formula, coefficients)
    ends = [formula(torch.full((300,), s, dtype=torch.float64), *coefficients.T) for s in (0, 1)]
    assert torch.equal(crossed, (ends[0] < 0) & (ends[1] >= 0))
    assert crossed.sum() > 80
    assert torch.all((t >= 0) & (t <= 1))
    step = 1e-9
    for k in crossed.nonzero().flatten().tolist():

        def f(s: float, row: Tensor = coefficients[k]) -> float:
            return formula(torch.tensor(s, dtype=torch.float64), *row).item()

        # Slopes are of order 30, so |f| <= 1e-12 puts a true root within the step.
        root = brentq(f, float(t[k]) - step, float(t[k]) + step, xtol=1e-15)
        assert abs(float(t[k]) - root) <= step


def test_a_jump_is_bracketed_to_rounding():
    jumps = [0.1234, 0.5, 0.987]
    t, crossed = cross(lambda t, a, b, c: torch.sign(t - a) + 1e-3 * t, constants(*jumps))
    assert crossed.all()
    np.testing.assert_allclose(t, jumps, rtol=1e-14)


def test_ends_of_very_unequal_size():
    # f(1) is 1e17 times -f(0): a secant alone would never leave the near end.
    t, crossed = cross(
        lambda t, a, b, c: torch.exp(60 * t) - torch.exp(a), constants(5.0, 20.0, 40.0), 1e-3
    )
    assert crossed.all()
    # |df| = 60 exp(a) |dt|: rounding of t (1e-16) moves f by more than 1e-3 for the last.
    np.testing.assert_allclose(t, np.array([5.0, 20.0, 40.0]) / 60, rtol=1e-6)


def test_secant_that_rounds_to_an_end_does_not_stop_the_search():
    # Once f(0.5) = -e^120 is an end, the secant towards f(1) = e^200 moves by e^-80: by nothing.
    limit = 1e-6 * np.exp(120.0)
    t, crossed = cross(
        lambda t, a, b, c: torch.exp(200 * t) - torch.exp(a), constants(120.0), limit
    )
    assert crossed.all()
    # |dt| = limit / (200 e^120) = 5e-9.
    assert t.item() == pytest.approx(0.6, abs=1e-8)


def test_float32():
    w = nets.gaussian(6, seed=1)
    net = nets.linear_pair(w, 0.0, dtype=torch.float32)
    x = (-w / w.norm()).reshape(1, 1, 2, 3).float()
    limit = torch.full((1,), 1e-6)
    t, crossed = crossing(net, x, -3 * x, BoundaryFunction(torch.tensor([0])), limit)
    assert crossed.all()
    assert t.dtype == torch.float32
    assert t.item() == pytest.approx(1 / 3, rel=1e-6)


def test_each_row_is_on_its_own():
    coefficients = nets.gaussian(30, 3)

    def formula(t: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.tanh(20 * (t - torch.sigmoid(a))) + 0.1 * torch.tanh(b)

    together, _ = cross(formula, coefficients)
    alone = torch.cat([cross(formula, row[None])[0] for row in coefficients])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-13)

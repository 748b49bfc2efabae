"""What a result says of itself at the prompt: one line of sizes, medians and convergence."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import networks_for_tests as nets
import numpy as np
import pytest
import torch

import geomadv as ga
from geomadv.curvature import principal_curvatures
from geomadv.linalg import extreme_eigenpairs, normal_svd, spectral_density
from geomadv.perturbations.fgsm import fgsm

MATRIX = np.diag(np.linspace(-1, 1, 64))


def of_images() -> Iterator[tuple[Any, str]]:
    """Images at distances 1, 2 and 3 from a linear boundary."""
    net = nets.linear_pair(torch.eye(6, dtype=torch.float64)[0], 0.0)
    x = torch.zeros(3, *nets.SHAPE, dtype=torch.float64)
    x[:, 0, 0, 0] = torch.tensor([-1.0, -2.0, -3.0])
    points = ga.boundary_points(net, x)
    of = "3 of images (1, 2, 3)"
    yield points, f"BoundaryPoints({of}, 3 converged, median distance 2)"
    none = replace(points, converged=torch.zeros(3, dtype=torch.bool))
    yield none, f"BoundaryPoints({of}, 0 converged)"
    walks = ga.deepfool(net, x, overshoot=0.5)
    yield walks, f"DeepFoolResult({of}, 3 labels changed, median norm 3, 3 converged)"
    yield fgsm(net, x, 1e-3), f"Perturbations({of}, 0 labels changed)"
    found = ga.universal_perturbation(net, x, 4.0, held_out=x[:2])
    yield (
        found,
        "UniversalPerturbation((1, 2, 3), 2-norm 4 of 4, fools 100.0 % of 3 images, 100.0 % held "
        "out, 1 passes)",
    )


def of_operators() -> Iterator[tuple[Any, str]]:
    words = "(2 of 64 pairs, values 1 to -1, 2 converged, median residual {:.2g}, {} products)"
    for found in (extreme_eigenpairs(MATRIX, 1), principal_curvatures(MATRIX, 1)):
        told = words.format(float(found.residuals.median()), found.products)
        yield found, type(found).__name__ + told
    svd = normal_svd(np.eye(5)[[0, 1, 1]], 2)
    bound = f"within {svd.error_bound:.1g}, {svd.method})"
    yield svd, f"NormalSVD(rank 2 of 3 rows in R^5, 0 skipped, singular values 1.41 to 1 {bound}"
    density = spectral_density(MATRIX, 2, 10, 100)
    ends = f"{density.grid[0]:.3g} to {density.grid[-1]:.3g}"
    probes = "2 probes of 10 steps, 20 products"
    yield density, f"SpectralDensity(R^64, eigenvalues {ends} from {probes})"


@pytest.mark.parametrize("results", [of_images, of_operators])
def test_a_result_tells_itself_in_one_line(results):
    for found, told in results():
        assert repr(found) == told

"""Normal spectrum and random-subspace fooling where the answer is known."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from geomadv import Classifier, InputError, boundary_points, experiments, plotting
from geomadv.linalg import uniform_directions

SHAPE = (1, 5, 5)
D = 25


class Pair(nn.Module):
    """Two classes divided by one hyperplane w.x = b."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.register_buffer("w", w)
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        f = x.flatten(1) @ self.w - self.b
        return torch.stack([-f, f], 1) / 2


def linear_pair():
    w = torch.zeros(D, dtype=torch.float64)
    w[0] = 2.0
    return Classifier(Pair(w, 1.0), SHAPE), torch.rand(400, *SHAPE, dtype=torch.float64)


def test_all_normals_of_a_half_space_lie_on_one_line():
    net, x = linear_pair()
    normals = boundary_points(net, x).normals
    ds = experiments.normal_spectrum(normals, SHAPE, rank=3)
    # N unit rows of one line: sigma_1 = sqrt(N), the others zero to float64 rounding.
    assert float(ds["singular_value"][0]) == pytest.approx(np.sqrt(len(x)), rel=1e-12)
    assert float(ds["spectrum"][1]) < 1e-10
    assert float(ds["normal_effective_rank"]) == pytest.approx(1)
    assert float(ds["normal_participation_ratio"]) == pytest.approx(1)
    assert ds["normal_energy_dimension"].values.tolist() == [1, 1, 1]
    direction = ds["direction"][0].to_numpy().ravel()
    np.testing.assert_allclose(direction, np.eye(D)[0], atol=1e-12)


def test_random_normals_look_like_the_baseline():
    normals = uniform_directions(300, D, seed=3).double()
    ds = experiments.normal_spectrum(normals, SHAPE, baseline_draws=40)
    rank = float(ds["normal_effective_rank"])
    baseline = ds["baseline_effective_rank"]
    # The draw is one more of the same distribution: five of its standard deviations.
    assert abs(rank - float(baseline.mean())) < 5 * float(baseline.std())


def test_fooling_rate_of_the_normal_direction_is_a_shifted_median():
    """Adding s e_1 fools exactly the images with x_1 between b/2 - s and b/2 (or the reverse)."""
    net, x = linear_pair()
    directions = torch.eye(D, dtype=torch.float64)[:, :2]
    s = 0.2
    ds = experiments.random_subspace_fooling(net, x, directions, [1], [s], draws=8, seed=1)
    first = x[:, 0, 0, 0]
    up = ((first <= 0.5) & (first + s > 0.5)).double().mean().item()
    down = ((first > 0.5) & (first - s <= 0.5)).double().mean().item()
    assert set(np.round(ds["fooling_rate"].values.ravel(), 9)) == {round(up, 9), round(down, 9)}


def test_uniform_directions_follow_the_projection_law():
    """The mean fooling rate of uniform vectors is that of their first coordinate."""
    net, x = linear_pair()
    norm, draws = 1.0, 4000
    ds = experiments.random_subspace_fooling(
        net, x[:50], torch.eye(D).double(), [1], [norm], draws=draws, seed=2
    )
    gap = (0.5 - x[:50, 0, 0, 0]).numpy()
    # The first coordinate t of a uniform unit vector in R^D: (t + 1) / 2 ~ Beta((D-1)/2, (D-1)/2).
    law = stats.beta((D - 1) / 2, (D - 1) / 2)
    crossing = np.where(gap >= 0, 1 - law.cdf((gap / norm + 1) / 2), law.cdf((gap / norm + 1) / 2))
    measured = float(ds["uniform_fooling_rate"].mean())
    assert measured == pytest.approx(crossing.mean(), abs=5 * 0.5 / np.sqrt(draws))


def test_shapes_seeds_and_labels():
    net, x = linear_pair()
    arguments = (net, x[:7], torch.eye(D).double(), [1, 3], [0.1, 0.2, 0.4])
    a = experiments.random_subspace_fooling(*arguments, draws=5, seed=4, batch_size=3)
    b = experiments.random_subspace_fooling(*arguments, draws=5, seed=4)
    c = experiments.random_subspace_fooling(*arguments, draws=5, seed=5)
    assert a.equals(b)
    assert not a.equals(c)
    assert dict(a.sizes) == {"m": 2, "norm": 3, "draw": 5, "sample": 7}
    for name in a.data_vars:
        assert a[name].attrs["long_name"]
        assert a[name].attrs["units"]
    np.testing.assert_allclose(a["fooling_rate"].mean("draw"), a["fooled_share"].mean("sample"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimensions": [0]}, "between 1 and the 25"),
        ({"dimensions": [26]}, "between 1 and the 25"),
        ({"dimensions": []}, "dimensions"),
        ({"norms": [0.0]}, "positive"),
        ({"norms": [float("nan")]}, "positive"),
        ({"draws": 0}, "draws=0"),
        ({"directions": torch.eye(9)}, "25 dimensions"),
    ],
)
def test_bad_input(change, message):
    net, x = linear_pair()
    arguments = {
        "directions": torch.eye(D),
        "dimensions": [1],
        "norms": [0.1],
        "draws": 2,
        **change,
    }
    with pytest.raises(InputError, match=message):
        experiments.random_subspace_fooling(net, x, **arguments)


def test_spectrum_of_another_shape_is_refused():
    with pytest.raises(InputError, match="25 columns"):
        experiments.normal_spectrum(torch.eye(D), (1, 4, 4))


def test_every_figure_draws_from_a_dataset_alone(tmp_path):
    net, x = linear_pair()
    spectrum = experiments.normal_spectrum(boundary_points(net, x).normals, SHAPE, rank=12)
    fooling = experiments.random_subspace_fooling(
        net, x, torch.eye(D).double(), [1, 3, 9], [0.1, 0.2, 0.4], draws=3
    )
    for ds, plot in (
        (spectrum, plotting.normal_spectrum),
        (spectrum, plotting.leading_directions),
        (fooling, plotting.random_subspace_fooling),
    ):
        before = ds.copy(deep=True)
        figure = plot(ds.assign_attrs(network="pair", dataset="noise"))
        figure.savefig(tmp_path / "figure.pdf")
        text = " ".join(
            t.get_text() for t in figure.findobj(match=lambda a: hasattr(a, "get_text"))
        )
        assert "pair on noise" in text
        assert ds.identical(before)
    with pytest.raises(InputError, match="no full spectrum"):
        plotting.normal_spectrum(spectrum.drop_vars("spectrum"))

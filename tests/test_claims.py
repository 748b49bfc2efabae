"""Claims: made-up results whose answers are known, and the words of the verdicts."""

import math

import numpy as np
import pytest
import xarray as xr

from geomadv.claims import CLAIMS, Claim, Measured, judge
from geomadv.claims.friends import FRIENDS
from geomadv.claims.linear import LINEAR
from geomadv.claims.universal import UNIVERSAL


def answers(experiment, ds, claims=CLAIMS):
    """Values and answers of the claims of one experiment."""
    verdicts = [v for v in judge({experiment: ds}, claims) if v.claim.experiment == experiment]
    return [v.value for v in verdicts], [v.answer for v in verdicts]


def test_every_verdict_has_its_words():
    def claim(relation):
        return Claim("paper", "sentence", "one", "number", lambda ds: ds["x"], relation, 0.5)

    ds = xr.Dataset({"x": 0.5})
    both = [claim(">="), claim("<=")]
    assert [v.answer for v in judge({"one": ds}, both)] == ["holds", "holds"]
    assert [v.answer for v in judge({"one": ds + 0.1}, both)] == ["holds", "does not hold"]
    assert [v.answer for v in judge({"one": ds - 0.1}, both)] == ["does not hold", "holds"]
    (missing,) = judge({}, both[:1])
    assert missing.answer == "not measured"
    assert missing.note == "no one.h5 yet"
    (blank,) = judge({"one": ds * math.nan}, both[:1])
    assert blank.answer == "not measured"


def test_a_bound_answers_only_what_it_suffices_for():
    def claim(relation, least):
        found = Measured(least, "half is known", at_least=True)
        return Claim("paper", "sentence", "one", "number", lambda _: found, relation, 0.5)

    cases = [claim(">=", 0.5), claim(">=", 0.4), claim("<=", 0.6), claim("<=", 0.5)]
    verdicts = judge({"one": xr.Dataset()}, cases)
    answers = ["holds", "not measured", "does not hold", "not measured"]
    assert [v.answer for v in verdicts] == answers
    assert [v.value for v in verdicts[::2]] == [0.5, 0.6]
    assert [v.note for v in verdicts[:2]] == ["half is known", "at least 0.4: half is known"]


def test_without_results_nothing_is_claimed():
    assert {v.answer for v in judge({}, CLAIMS)} == {"not measured"}
    assert len({c.sentence for c in CLAIMS}) == len(CLAIMS)


def accuracy(curved, flat, families=("positive", "negative", "flat")):
    """A sweep over 0, 1, 2, 4, 8 of D = 8 dimensions; test accuracies by family."""
    size = np.array([0, 1, 2, 4, 8])
    rows = [curved if f != "flat" else flat for f in families]
    return xr.Dataset(
        {
            "accuracy": (("split", "family", "d"), [rows]),
            "subspace_dimension": (("family", "d"), [size] * len(rows)),
            "constant_accuracy": ("split", [0.1]),
            "plain_accuracy": ("split", [1.0]),
            "description": ("family", [f"{family} ones" for family in families]),
            "image_dimension": 8,
        },
        coords={"split": ["test"], "family": list(families), "d": np.arange(5)},
    )


def test_subspace_accuracy():
    good = accuracy([0.1, 0.8, 0.96, 1.0, 1.0], [0.1, 0.1, 0.1, 0.19, 1.0])
    values, words = answers("subspace_accuracy", good)
    # 0.19 is a tenth of the way from 0.1 to 1; two of eight dimensions suffice.
    np.testing.assert_allclose(values, [0.1, 0.25, 0.25], rtol=1e-12)
    assert words[1:] == ["holds", "holds"]
    bad = accuracy([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.5, 0.9, 1.0, 1.0])
    values, words = answers("subspace_accuracy", bad)
    # All of the eight dimensions do not suffice.
    assert values == [1.0, 1.0, 1.0]
    assert words == ["does not hold"] * 3
    _, words = answers("subspace_accuracy", accuracy([0.1] * 5, [0.1] * 5, ("positive",)))
    assert words == ["not measured", "does not hold", "not measured"]
    verdicts = judge({"subspace_accuracy": bad}, FRIENDS)
    unknown = "no more directions are known"
    assert [v.note for v in verdicts[:3]] == ["flat ones", unknown, unknown]
    # Eight of 80 dimensions do not tell what 20 would do, eight of 24 more than a quarter's.
    for dimension, word in ((80, "not measured"), (24, "does not hold")):
        few = bad.assign(image_dimension=dimension)
        assert answers("subspace_accuracy", few)[1][1:] == [word, word]
    chance = good.assign(plain_accuracy=good["constant_accuracy"])
    assert answers("subspace_accuracy", chance)[1][0] == "not measured"


@pytest.mark.parametrize(
    ("curve", "rise"),
    [
        (lambda s: s**2, 1),
        (lambda s: s, 1),
        # From the minimum at -2 the ranks of the other values fall: 1, then 9, 8, ..., 2.
        (lambda s: np.where(s == -2, -9, -s), 1 - 6 * 168 / (9 * 80)),
    ],
)
def test_direction_sweeps(curve, rise):
    scale = np.linspace(-2, 2, 9)
    score = np.zeros((2, 2, 1, 1, 9, 1))
    score[:] = curve(scale)[:, None]
    prediction = np.zeros((2, 2, 1, 9, 10))
    prediction[:, 1, :, 2:] = rise < 1
    ds = xr.Dataset(
        {
            "target_score": (
                ("class", "family", "population", "direction", "scale", "quantile"),
                score,
            ),
            "prediction": (("class", "family", "direction", "scale", "sample"), prediction),
            "source": ("sample", np.zeros(10)),
        },
        coords={
            "family": ["positive", "flat"],
            "population": ["other classes"],
            "scale": scale,
            "quantile": [0.5],
        },
    )
    values, words = answers("direction_sweep", ds)
    assert values == pytest.approx([rise, 1.0 if rise == 1 else 2 / 9])
    assert words == ["holds" if rise == 1 else "does not hold"] * 2


def test_a_sweep_of_three_scales_around_its_minimum_tells_nothing():
    score = np.array([1.0, 0.0, 1.0]).reshape(1, 1, 1, 1, 3, 1)
    axes = ("class", "family", "population", "direction", "scale", "quantile")
    coords = {
        "family": ["positive"],
        "population": ["other classes"],
        "scale": [-1.0, 0.0, 1.0],
        "quantile": [0.5],
    }
    ds = xr.Dataset({"target_score": (axes, score)}, coords=coords)
    (verdict, _) = [
        v
        for v in judge({"direction_sweep": ds}, FRIENDS)
        if v.claim.experiment == "direction_sweep"
    ]
    assert verdict.answer == "not measured"
    assert "three scales" in verdict.note


def test_norms_and_resampling():
    fractions = xr.Dataset(
        {
            "random_fraction": (("family", "d"), [[0, 0.5, 0.7, 1.0]]),
            "mean_fraction": (("kind", "family", "d"), [[[0, 0.8, 0.95, 1.0]]]),
        },
        coords={"kind": ["DeepFool"], "family": ["both"]},
    )
    assert answers("norm_fractions", fractions) == ([0.95], ["holds"])
    # A quarter of the dimensions holds 0.8 of the norm: half of them may or may not hold 0.9.
    few = fractions.isel(d=slice(2))
    assert answers("norm_fractions", few)[1] == ["not measured"]
    assert answers("norm_fractions", few.assign(mean_fraction=few["mean_fraction"] + 0.1))[1] == [
        "holds"
    ]
    twin = xr.Dataset(
        {"accuracy": (("split", "family", "d"), [[[0.5, 0.9], [0.1, 0.5]]])},
        coords={"split": ["test"], "family": ["perturbation_hi", "perturbation_lo"]},
    )
    assert answers("first_order_twin", twin)[0] == pytest.approx([0.4])
    confined = xr.Dataset(
        {
            "norm": (("family", "d", "sample"), [[[3.0, 9.0], [2.0, 2.0], [1.0, 1.0]]]),
            "converged": (("family", "d", "sample"), [[[1, 0], [1, 1], [1, 1]]]),
            "projected_norm": (("family", "d", "sample"), [[[1.0] * 2, [2.0] * 2, [3.0] * 2]]),
        },
        coords={"family": ["positive"]},
    )
    assert answers("confined_deepfool", confined) == ([pytest.approx(-1)], ["holds"])
    # Where less than half of the images converge, the mean is one of the easy ones: left out.
    few = xr.Dataset(
        {
            "norm": (
                ("family", "d", "sample"),
                [[[0.1, 9, 9], *[[4.0 - d] * 3 for d in range(3)]]],
            ),
            "converged": (("family", "d", "sample"), [[[1, 0, 0], *[[1] * 3] * 3]]),
            "projected_norm": (("family", "d", "sample"), [[[d] * 3 for d in (1.0, 2, 3, 4)]]),
        },
        coords={"family": ["positive"]},
    )
    assert answers("confined_deepfool", few) == ([pytest.approx(-1)], ["holds"])
    assert answers("confined_deepfool", few.isel(d=slice(3)))[1] == ["not measured"]
    table = xr.Dataset(
        {"fooling_rate": (("d_low", "factor"), [[0.9, 0.3], [0.7, 0.2]])},
        coords={"factor": [10, 1]},
    )
    assert answers("resampling", table) == ([0.7], ["does not hold"])
    assert {c.experiment for c in FRIENDS} == {
        "subspace_accuracy",
        "direction_sweep",
        "norm_fractions",
        "first_order_twin",
        "confined_deepfool",
        "resampling",
    }


def test_universal_perturbations():
    ds = xr.Dataset(
        {
            "fooling_rate": (("size", "repeat"), [[0.5, 0.5], [0.9, 0.7]]),
            "held_out_fooling_rate": (("size", "repeat"), [[0.6, 0.6], [0.8, 0.7]]),
            "random_fooling_rate": ("draw", [0.2, 0.3]),
        },
        coords={"size": [100, 1000]},
    )
    assert answers("universal", ds)[0] == pytest.approx([0.05, 0.8, 3.0])
    small = ds.assign_coords(size=[100, 200])
    assert answers("universal", small)[1][1] == "not measured"
    transfer = xr.Dataset(
        {
            "fooling_rate": (("made_for", "network"), [[0.9, 0.5], [0.1, 0.9]]),
            "random_fooling_rate": (("network", "draw"), [[0.2, 0.2], [0.4, 0.4]]),
        }
    )
    assert answers("transfer", transfer) == ([0.5], ["does not hold"])
    graph = xr.Dataset(
        {
            "count": (("from_class", "to_class"), [[1, 5, 0], [0, 1, 0], [0, 3, 1]]),
            "dominant_labels": ("share", [1, 1]),
        },
        coords={"share": [0.5, 0.8]},
    )
    assert answers("label_graph", graph)[0] == pytest.approx([1 / 3])
    quiet = graph.assign(count=(("from_class", "to_class"), np.eye(3, dtype=int)))
    assert answers("label_graph", quiet)[1] == ["not measured"]
    spectrum = xr.Dataset(
        {"normal_effective_rank": 9.0, "baseline_effective_rank": ("draw", [60.0, 64.0])}
    )
    assert answers("normal_svd", spectrum)[0] == pytest.approx([9 / 62])
    assert answers("normal_svd", xr.Dataset())[1] == ["not measured"]
    fooling = xr.Dataset(
        {
            "fooling_rate": (("m", "norm", "draw"), [[[0.1], [0.6]], [[0.0], [0.4]]]),
            "uniform_fooling_rate": (("norm", "draw"), [[0.0], [0.2]]),
            "mean_image_norm": 10.0,
        },
        coords={"norm": [0.1, 0.9]},
    )
    assert answers("random_subspace_fooling", fooling)[0] == pytest.approx([3.0])
    assert len(UNIVERSAL) == 7


def test_linear_boundaries():
    c = 10.0 ** np.arange(-4, 5)
    ds = xr.Dataset(
        {
            "angle": ("C", [math.nan, *np.linspace(0.1, 1.2, 8)]),
            "mean_adversarial_norm": ("C", [math.nan, *np.linspace(2, 0.5, 8)]),
            "test_error": ("C", [math.nan, 0.1, 0.03, 0.025, 0.02, 0.03, 0.09, 0.02, 0.02]),
        },
        coords={"C": c},
    )
    values, words = answers("tilting_plane", ds)
    # 1e-2 to 1e1 lie within one point of 0.02.
    assert values == pytest.approx([1, -1, 3])
    assert words == ["holds"] * 3
    assert answers("tilting_plane", ds.isel(C=[0, 1, 2]))[1] == ["not measured"] * 3
    assert answers("tilting_plane", ds.isel(C=[4] * 5))[1] == ["not measured"] * 3
    layer = xr.Dataset(
        {
            "adversarial_dimension": 55,
            "published_bound": 54,
            "softmax_change": (("displacement", "adversarial"), [[1e-13], [3e-13]]),
            "rounding_bound": (("displacement", "adversarial"), [[1e-12], [1e-12]]),
            "region_unbounded": ("class", [True, True, False, True]),
            "parallel_cosine": ("relation", [0.5, 1.0]),
            "collision": (("epsilon", "pair"), [[False, False], [True, False], [True] * 2]),
            "mean_image_norm": 10.0,
        },
        coords={"epsilon": [0.1, 1.0, 2.0]},
    )
    values, words = answers("softmax_directions", layer)
    assert values == pytest.approx([1, 0.3, 0.75, 1.0, 0.5])
    assert words == ["holds", "holds", "does not hold", "does not hold", "holds"]
    # The conjecture is about small perturbations: a fifth of the norm is none.
    large = layer.assign_coords(epsilon=[2.0, 3.0, 4.0])
    assert answers("softmax_directions", large)[1][-1] == "not measured"
    assert len(LINEAR) == 8

"""Every experiment on networks and images with little to be found: told, or refused by name.

Networks without a boundary or without curvature, one image, classes that are absent or never
predicted, images without labels. What is known of these is checked; whatever a result has to say is
said without NaN, and nothing warns.
"""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pytest
import torch
import xarray as xr
from small_runs import SMALL
from torch import Tensor, nn

import geomadv as ga
from geomadv.pipeline import EXPERIMENTS
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, Study
from geomadv.pipeline.verdicts import claims

SHAPE, CLASSES = (1, 3, 4), 3
NAMES = [e.name for e in EXPERIMENTS]
FEW: dict[str, Any] = {"count": 8, "held_out": 8}

# Cases whose networks have one label everywhere, and so no boundary; and those with odd figures.
BARE = ("constant", "one label")
DRAWN = ("constant", "linear")


def settings(case: str) -> dict[str, dict[str, Any]]:
    """Those of other tests, smaller: images of 12 pixels in three classes."""
    found = {name: {k: FEW.get(k, v) for k, v in s.items()} for name, s in SMALL.items()}
    found["normal_svd"]["rank"] = found["direction_svd"]["rank"] = 1
    found["random_subspace_fooling"]["dimensions"] = [1]
    found["curvature"] = {"classes": ["2"], "count": 4, "pairs": 2}
    found["first_order_twin"]["dimensions"] = [0, 12]
    found["confined_deepfool"]["dimensions"] = [2, 12]
    found["decision_plane"] = {"count": 1, "steps": 3, "second": ["runner-up"]}
    found["resampling"] |= {"low_sizes": [2]}
    found["universal"] |= {"sizes": [8]}
    found["norm_fractions"] = {"count": 4}
    found["softmax_directions"] = {"count": 6, "collisions": {"pairs": 1, "steps": 2}}
    for name in ("score_curves", "direction_sweep", "normal_section"):
        found[name] = {"count": 4, "steps": 3}
    found["categories"]["relative_norms"] = [0.01, 0.5]
    if case == "bright":
        for given in found.values():
            given.pop("relative_norms", None)
    for name in ("transfer", "categories"):
        found[name]["networks"] = ["beside"]
    for name in ("tilting_plane", "normal_tilt"):
        found[name]["classes"] = [0, 1]
    return found


@functools.cache
def centres() -> Tensor:
    return torch.rand(CLASSES, 12, generator=torch.Generator().manual_seed(0))


def images(
    seed: int, count: int = 12, absent: int = -1, labelled: bool = True, bright: bool = False
) -> ga.ImageSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    labels = torch.where(labels == absent, (labels + 1) % CLASSES, labels)
    noise = 0.15 * torch.randn(count, 12, generator=generator)
    pixels = (centres()[labels] + noise).clamp(0, 1).reshape(-1, *SHAPE)
    pixels = 1 - 0.1 * pixels if bright else pixels
    names = list("abc") if labelled else None
    return ga.ImageSet(pixels, labels.numpy() if labelled else None, names, f"odd-{seed}")


def curved(shift: tuple[float, ...] = (0, 0, 0)) -> nn.Module:
    """Right on nearly all images; shift: of its scores."""
    hidden, last = nn.Linear(12, CLASSES), nn.Linear(CLASSES, CLASSES)
    with torch.no_grad():
        hidden.weight.copy_(3 * (centres() - centres().mean(0)))
        hidden.bias.copy_(-(hidden.weight * centres().mean(0)).sum(1))
        last.weight.copy_(4 * torch.eye(CLASSES))
        last.bias.copy_(torch.tensor(shift))
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), last)


def bright(shift: tuple[float, ...] = (0, 0, 0)) -> nn.Module:
    """Of images 1 - 0.1 x what `curved` is of x."""
    module = curved(shift)
    with torch.no_grad():
        module[1].bias += 10 * module[1].weight.sum(1)
        module[1].weight *= -10
    return module


def linear(factor: float = 1.0) -> nn.Module:
    hidden = copy.deepcopy(curved()[1])
    with torch.no_grad():
        hidden.weight *= factor
        hidden.bias.copy_(factor * hidden.bias + (1 - factor) * torch.tensor([2.0, 1, 0]))
    return nn.Sequential(nn.Flatten(), hidden)


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "constant": (functools.partial(linear, 0.0), {}),
    "linear": (linear, {}),
    "one label": (functools.partial(curved, (1e4, 0, 0)), {}),
    "one image": (curved, {"count": 1}),
    "class absent": (curved, {"absent": 2}),
    "class never predicted": (functools.partial(curved, (0, 0, -1e4)), {}),
    "unlabelled": (curved, {"labelled": False}),
    "bright": (bright, {"bright": True}),
}

# All that start from boundary points or labels, cheap since there are none; elsewhere a sample.
CHOSEN: dict[str, Sequence[str]] = {
    "constant": [n for n in NAMES if n not in ("tilting_plane", "tilting_toy", "finetuning")],
    "linear": (
        *("boundary", "normal_svd", "curvature", "normal_section", "decision_plane"),
        *("subspace_accuracy", "norm_fractions", "universal", "norm_comparison"),
        *("direction_sweep", "score_curves"),
    ),
    "one label": ("boundary", "curvature", "universal", "label_graph", "softmax_directions"),
    "one image": (
        *("train", "boundary", "normal_svd", "random_subspace_fooling", "curvature"),
        *("decision_plane", "first_order_twin", "universal", "label_graph", "tilting_plane"),
    ),
    "class absent": ("train", "curvature", "universal", "tilting_plane", "normal_tilt"),
    "class never predicted": ("boundary", "curvature", "universal", "label_graph", "transfer"),
    "unlabelled": [
        e.name for e in EXPERIMENTS if any(sample.labels for sample in e.images.values())
    ],
    # All that perturb by shares of the images' norm.
    "bright": (
        *("random_subspace_fooling", "resampling", "universal", "norm_comparison", "transfer"),
        *("finetuning", "categories", "softmax_directions"),
    ),
}

Outcome = xr.Dataset | ga.InputError


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Runner]:
    """A runner for each case, whose results are shared."""

    def net(module: nn.Module, name: str) -> ga.Classifier:
        return ga.Classifier(module, SHAPE, class_names=list("abc"), name=name)

    @functools.cache
    def runner(case: str) -> Runner:
        module, which = CASES[case]
        splits = {"train": images(1, **which), "test": images(2, **which)}
        beside = bright if which.get("bright") else curved
        study = Study(
            net(module(), "odd"),
            splits.__getitem__,
            Place(results=tmp_path_factory.mktemp("odd"), progress=False),
            "odd",
            lambda name: net(beside((0, 0.5, 0)), name),
            given=settings(case),
        )
        return Runner(study, EXPERIMENTS, heard)

    return runner


def heard(line: str) -> None:
    assert "nan" not in line.split(), line


def outcome(runner: Runner, name: str) -> Outcome:
    try:
        return runner.run(name)
    except ga.InputError as error:
        return error


def shown(runner: Runner, name: str, ds: xr.Dataset, figures: bool) -> str:
    """All words of a result: those of the terminal and those of its figures."""
    experiment = runner.table[name]
    found = [experiment.tell(ds)]
    for drawing in experiment.figures.values() if figures else ():
        if drawing.variable and not ds.get(drawing.variable, xr.DataArray()).notnull().any():
            continue
        try:
            figure = drawing.plot(ds, *[None] * len(drawing.beside))
        except ga.InputError as error:
            found.append(str(error))
            continue
        if not isinstance(figure, str):
            found += [str(text.get_text()) for text in figure.findobj(matplotlib.text.Text)]
    return "\n".join(found)


# What a refusal has to hold.
REMEDY = re.compile(r"\b(choose|give|measure|run|search)\b", re.IGNORECASE)


def no_boundary(ds: xr.Dataset) -> None:
    assert not ds["converged"].any()


def nobody_fooled(ds: xr.Dataset) -> None:
    assert not ds["fooling_rate"].any()
    assert not ds["random_fooling_rate"].any()


def exact_distances(ds: xr.Dataset) -> None:
    """The nearest of the hyperplanes where two scores are equal."""
    last = linear()[1]
    pixels = torch.from_numpy(ds["image"].to_numpy()).flatten(1)
    scores, weight = last(pixels).detach(), last.weight.detach()
    for n, top in enumerate(scores.argmax(1).tolist()):
        others = [k for k in range(CLASSES) if k != top]
        gaps = (scores[n, top] - scores[n, others]) / (weight[top] - weight[others]).norm(dim=1)
        # Float32: 1e-7 of scores of some ten, over slopes of about one.
        assert float(ds["distance"][n]) == pytest.approx(float(gaps.min()), abs=1e-5)


def no_curvature(ds: xr.Dataset) -> None:
    assert not ds["hessian_value"].any()
    assert not ds["shape_value"].any()
    assert ds["half_angle"].isnull().all()


def straight(ds: xr.Dataset) -> None:
    assert np.nanmax(np.abs(ds["offset"])) < 1e-5


def no_curved_planes(ds: xr.Dataset) -> None:
    shown = ds["margin"].notnull().any(("sample", "vertical", "horizontal"))
    assert {*ds["second"][shown].to_numpy()}.isdisjoint({"positive", "negative"})


def third_class_receives_nothing(ds: xr.Dataset) -> None:
    assert ds["received_share"][2] == 0


KNOWN: dict[tuple[str, str], Callable[[xr.Dataset], None]] = {
    **{(kind, "boundary"): no_boundary for kind in BARE},
    **{(kind, "universal"): nobody_fooled for kind in BARE},
    ("linear", "boundary"): exact_distances,
    ("linear", "curvature"): no_curvature,
    ("linear", "normal_section"): straight,
    ("linear", "decision_plane"): no_curved_planes,
    ("class never predicted", "label_graph"): third_class_receives_nothing,
}


@pytest.mark.parametrize(("case", "name"), [(k, n) for k, names in CHOSEN.items() for n in names])
@pytest.mark.filterwarnings("error")
def test_little_is_told_or_refused(runners: Callable[[str], Runner], case: str, name: str) -> None:
    runner = runners(case)
    found = outcome(runner, name)
    assert isinstance(found, ga.InputError) or case != "unlabelled"
    assert not isinstance(found, ga.InputError) or case != "bright", found
    if isinstance(found, ga.InputError):
        assert REMEDY.search(str(found)), found
        return
    words = shown(runner, name, found, figures=case in DRAWN)
    if case == "linear" and name in ("direction_sweep", "score_curves"):
        assert "no curvature, any direction would do" in words
    assert "nan" not in words.replace("\n", " ").replace("%", " ").split(), words
    KNOWN.get((case, name), lambda _: None)(found)


@pytest.mark.parametrize("case", ["constant", "linear"])
def test_claims_of_little_have_numbers_or_reasons(
    runners: Callable[[str], Runner], case: str
) -> None:
    runner = runners(case)
    runner.run("universal")
    assert "nan" not in claims(runner.study.folder).split()


def test_norms_of_categories_end_where_images_do(runners: Callable[[str], Runner]) -> None:
    def shares(case: str) -> Any:
        ds = runners(case).run("categories").isel(network=0)
        return (ds["radius"] / ds["mean_image_norm"]).to_numpy()

    mean = float(runners("bright").run("categories")["mean_image_norm"][0])
    # From 0.2 % of the mean norm to the distance of the box's corners, below 200 %.
    assert 1 < np.sqrt(12) / mean < 2
    np.testing.assert_allclose(shares("bright")[[0, -1]], [0.002, np.sqrt(12) / mean], rtol=1e-6)
    np.testing.assert_allclose(shares("linear")[[0, -1]], [0.01, 0.5], rtol=1e-6)


def test_norms_that_no_image_has_are_refused_before_work(
    runners: Callable[[str], Runner], tmp_path: Path
) -> None:
    study = runners("bright").study
    given = {**settings("bright"), "categories": {"networks": [], "relative_norms": [3.0, 5.0]}}
    far = dataclasses.replace(study, place=Place(results=tmp_path, progress=False), given=given)
    with pytest.raises(ga.InputError, match=r"relative_norms.*smaller shares"):
        Runner(far, EXPERIMENTS, heard).run("categories")


@pytest.mark.parametrize("points", [2, 3])
def test_halves_of_few_points_are_not_compared(points):
    net, train = ga.load_network("digits-cnn"), ga.load_images("digits", "train")
    settings = ga.experiments.CurvatureSettings(count=points, pairs=2, density_steps=5)
    line = told("curvature")(ga.experiments.curvature(net, train, [0, 1], settings))
    assert "nan" not in line
    assert ("too few to compare" in line) == (points < 4)


def told(name: str) -> Callable[[xr.Dataset], str]:
    return next(e.tell for e in EXPERIMENTS if e.name == name)


def test_the_line_on_resampling_names_its_factors_whatever_their_order():
    net, test = ga.load_network("digits-cnn"), ga.load_images("digits", "test")[:20]
    lines = [
        told("resampling")(ga.experiments.resampling(net, test, sizes, factors)).splitlines()[-1]
        for sizes, factors in (([8, 6], [1.0, 5.0]), ([6], [5.0, 1.0]), ([6], [5.0, 3.0]))
    ]
    assert lines[0] == lines[1]
    assert lines[0].startswith("at 6 pixels a side ")
    assert " still fool, " in lines[0]
    assert " still fool at 3 times the norm, " in lines[2]


def test_hidden_shares_are_told_of_the_same_images():
    net, test = ga.load_network("digits-cnn"), ga.load_images("digits", "test")[:8]
    ds = ga.experiments.softmax_directions(net, test)
    reached = np.arange(8) < 4
    noise = ds["noise_hidden_share"].copy(data=np.where(reached, 0.2, 0.9))
    converged = ds["perturbation_converged"].copy(data=reached)
    given = ds.assign(noise_hidden_share=noise, perturbation_converged=converged)
    assert "noise 20 %" in told("softmax_directions")(given)

"""Every public function refuses what is not of its kind, before it begins, and says what to do."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import geomadv as ga
from geomadv.errors import InputError

SHAPE = (1, 4, 4)


@functools.cache
def module() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


@functools.cache
def net() -> ga.Classifier:
    return ga.Classifier(module(), SHAPE, class_names=["cat", "dog", "eel"], name="small")


@functools.cache
def images() -> ga.ImageSet:
    pixels = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    return ga.ImageSet(pixels, net().predict(pixels), ["cat", "dog", "eel"])


@functools.cache
def points() -> ga.BoundaryPoints:
    return ga.boundary_points(net(), images(), target=1)


@functools.cache
def curvatures() -> ga.PrincipalCurvatures:
    return ga.principal_curvatures(ga.mean_hessian(net(), points()), k=3)


def rows() -> np.ndarray:
    return np.eye(16)[:4]


# A value for every parameter that has no default, by its name.
GOOD: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("images", "held_out", "train", "test"), images),
    **dict.fromkeys(("rows", "normals", "directions"), rows),
    **dict.fromkeys(("radii", "norms", "factors", "scales"), lambda: [0.1, 0.2]),
    **dict.fromkeys(("radius", "epsilon"), lambda: 0.1),
    **dict.fromkeys(("ds", "curved", "curvature"), xr.Dataset),
    **dict.fromkeys(("target", "d", "d_low", "draws", "count"), lambda: 1),
    **dict.fromkeys(("dimensions", "low_sizes", "half_dimensions", "classes"), lambda: [0, 1]),
    **dict.fromkeys(("curvatures", "curvatures_per_class"), lambda: [curvatures()] * 3),
    "net": net,
    "nets": lambda: [net(), net()],
    "points": points,
    "doubt": lambda: None,
    "family": lambda: "positive",
    "H": lambda: np.eye(16),
    "C": lambda: 1.0,
    "dimension": lambda: 2,
    "which": lambda: "positive",
    "classifier": lambda: "svm",
    "input_shape": lambda: SHAPE,
    "mean": lambda: np.zeros(SHAPE),
    "perturbation": lambda: np.zeros(SHAPE) + 0.1,
    "perturbations": lambda: {"a": torch.rand(4, *SHAPE)},
    "families": lambda: ga.experiments.singular_families(rows()),
    "results": lambda: {"transfer": xr.Dataset()},
    "claims": lambda: list(ga.claims.CLAIMS),
    **dict.fromkeys(("folder", "path"), lambda: "results/none"),
    "model": module,
    "source": lambda: torch.rand(4, *SHAPE),
}
# Functions of the package's own machinery and of names and files, which have tests of their own.
OTHERS = {
    *(
        "compare",
        "run",
        "load",
        "save",
        "load_network",
        "load_images",
        "list_images",
        "list_networks",
    ),
    *("within", "keep_nothing", "random_subspace_angles", "toy_problem", "label_graph"),
}


def functions() -> Iterator[tuple[str, Any]]:
    for room in (ga, ga.experiments, ga.claims):
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.isfunction(value) and name not in OTHERS:
                yield name, value


FUNCTIONS = dict(functions())


def required(name: str) -> list[str]:
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in several]


WRONG: dict[str, Callable[[], Any]] = {
    "module": module,
    "function": lambda: len,
    "object": object,
    "mapping": lambda: {"images": 1},
    "text": lambda: "cat",
    "dataset of another experiment": lambda: xr.Dataset({"speed": ("car", [1.0, 2.0])}),
}


# Datasets of older versions lack the doubt that these tell, and then there is none to tell.
ACCEPTED = {
    *((name, "dataset of another experiment") for name in ("cancellation", "line_doubt")),
    ("to_dataframe", "dataset of another experiment"),  # every dataset is a table
    *(("family_doubt", kind) for kind in ("text", "dataset of another experiment")),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_things_are_refused(name: str, kind: str) -> None:
    for wrong in required(name):
        if (name, kind) in ACCEPTED:
            continue
        arguments = {p: GOOD[p]() for p in required(name)} | {wrong: WRONG[kind]()}
        with pytest.raises(InputError):
            FUNCTIONS[name](**arguments)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "net" in required(n)])
def test_a_module_is_told_how_to_become_a_network(name: str) -> None:
    arguments = {p: GOOD[p]() for p in required(name)}
    for wrong in (module(), module().forward):
        with pytest.raises(InputError, match=rf"{name}: net is .*geomadv\.Classifier\(module"):
            FUNCTIONS[name](**{**arguments, "net": wrong})


SEEDED = [n for n, f in FUNCTIONS.items() if "seed" in inspect.signature(f).parameters]


@pytest.mark.parametrize("name", [*SEEDED, "label_graph", "sample"])
def test_seeds_are_whole_numbers_from_0_on(name: str) -> None:
    own = {"label_graph": ga.experiments.label_graph, "sample": images().sample}
    given: dict[str, Any] = {"prediction": [0], "label": [1], "class_names": ["a", "b"]}
    given = {"sample": {"n": 2}, "label_graph": given}.get(name) or {
        p: GOOD[p]() for p in required(name)
    }
    if name == "transfer":
        given["perturbations"] = [np.zeros(SHAPE)] * 2
    for wrong in (-1, np.int64(-1), 1.5):
        with pytest.raises(InputError, match=r"^seed=.*expected a whole number, at least 0"):
            {**FUNCTIONS, **own}[name](**given, seed=wrong)


@pytest.mark.parametrize("wrong", [3, None, b"results", ["results"], "a\0b"], ids=repr)
@pytest.mark.parametrize("name", ["load", "report", "compare", "reproduce", "run"])
def test_what_is_no_path_is_refused(name: str, wrong: Any) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "compare": lambda: ga.compare("results/none", wrong),
        "report": lambda: ga.report("results/none", compare=[wrong]),
        "run": lambda: ga.run("boundary", results=wrong),
    }
    with pytest.raises(InputError, match=rf"^{name}: \w+ is of type "):
        calls.get(name, lambda: getattr(ga, name)(wrong))()


# Values of the right kind that mean something else


def test_classes_go_by_name() -> None:
    x = images().images
    found = ga.deepfool(net(), x, target=2)
    assert torch.equal(ga.deepfool(net(), x, target="eel").delta, found.delta)
    assert torch.equal(ga.saliency(net(), x, ["dog"] * 8), ga.saliency(net(), x, 1))
    for wrong in ("cow", ["cat"] * 7 + ["Dog"]):
        with pytest.raises(InputError, match=r"'(cow|Dog)' is no class .*cat, dog, eel"):
            ga.boundary_points(net(), x, target=wrong)


@pytest.mark.parametrize("size", [8, 16.0, 2000])
def test_sizes_in_8_bit_units_are_refused(size: float) -> None:
    x = images().images
    with pytest.raises(InputError, match=rf"epsilon={size:g} is more .*give {size:g}/255"):
        ga.fgsm(net(), x, size)
    for p in (2, float("inf")):
        with pytest.raises(InputError, match=rf"radius={size:g} is more .*give {size:g}/255"):
            ga.universal_perturbation(net(), x, size, p=p)
        with pytest.raises(InputError, match="8-bit"):
            ga.experiments.universal(net(), x, x, size, p=p)
    wide = ga.Classifier(module(), SHAPE, bounds=(0, 255))
    if size < 255:
        assert ga.fgsm(wide, 255 * x, size).delta.abs().max() == size


def test_tensors_without_values_are_refused() -> None:
    meta = torch.zeros(2, *SHAPE, device="meta")
    calls: list[Callable[[], object]] = [
        lambda: net()(meta),
        lambda: ga.deepfool(net(), meta),
        lambda: ga.ImageSet(meta),
        lambda: ga.ImageSet(images().images[:2], meta[:, 0, 0, 0].long()),
        lambda: ga.saliency(net(), images(), torch.zeros(8, device="meta").long()),
        lambda: ga.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to("meta"), SHAPE),
    ]
    for call in calls:
        with pytest.raises(InputError, match="on the device meta"):
            call()


PIXELS: dict[str, tuple[Callable[[], Any], str]] = {
    "0..255": (lambda: 255 * images().images, r"divided? by 255"),
    "integers": (lambda: (255 * images().images).to(torch.uint8), "/ 255"),
    "channels last": (lambda: np.zeros((2, 4, 4, 1), np.float32), r"takes \(N, 1, 4, 4\)"),
    "one image": (lambda: images().images[0], r"images\[None\]"),
    "normalised": (lambda: 4 * images().images - 2, "mean and std belong to the Classifier"),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_pixels_of_another_form_are_refused(kind: str) -> None:
    make, message = PIXELS[kind]
    for call in (ga.deepfool, ga.saliency, ga.boundary_points, lambda n, x: ga.fgsm(n, x, 0.1)):
        with pytest.raises(InputError, match=message):
            call(net(), make())

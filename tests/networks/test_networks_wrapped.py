"""Models of Foolbox, ART and RobustBench: as they are where installed, and as small likenesses."""

import enum
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from test_networks_packages import package
from torch import nn

import geomadv as ga

SHAPE = (3, 6, 6)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture
def module():
    torch.manual_seed(4)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return nn.Sequential(*layers).eval()


class LikeFoolbox:
    """Has of `foolbox.PyTorchModel` what is used: Foolbox is no dependency."""

    def __init__(self, module, bounds, mean=None, std=None, flip=None):
        def _model(x):
            return model(x)

        model, self._model, self.bounds = module, _model, bounds
        numbers = [None if v is None else torch.tensor(v).view(-1, 1, 1) for v in (mean, std)]
        self._preprocess_args = (*numbers, flip)

    def __call__(self, x):
        mean, std, flip = self._preprocess_args
        x = x if flip is None else x.flip(flip)
        x = x if mean is None else x - mean
        return self._model(x if std is None else x / std)


class LikeArt:
    """Has of ART's `PyTorchClassifier` what is used."""

    def __init__(self, module, clip_values, preprocessing, defence=lambda x: x):
        self.model, self.clip_values, self.preprocessing = module, clip_values, preprocessing
        self.input_shape, self._defence = SHAPE, defence

    def predict(self, x):
        mean, std = (np.reshape(v, (-1, 1, 1)) for v in self.preprocessing)
        x = torch.from_numpy((self._defence(x) - mean) / std).float()
        return self.model(x).detach().numpy()


def foolbox_model(module, bounds):
    preprocessing = {"mean": MEAN, "std": STD, "axis": -3}
    return package("foolbox").PyTorchModel(module, bounds, "cpu", preprocessing)


def art_model(module, bounds):
    made = package("art.estimators.classification").PyTorchClassifier
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (MEAN, STD))
    given = {"preprocessing": (mean, std), "device_type": "cpu"}
    return made(module, nn.CrossEntropyLoss(), SHAPE, 5, clip_values=bounds, **given)


MAKERS = {
    "foolbox": foolbox_model,
    "art": art_model,
    "like-foolbox": lambda module, bounds: LikeFoolbox(module, bounds, MEAN, STD),
    "like-art": lambda module, bounds: LikeArt(module, bounds, (MEAN, STD)),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)], ids=["unit", "other"])
def test_scores_bounds_and_normalisation_are_the_wrappers(kind, bounds, module):
    net = ga.wrap(MAKERS[kind](module, bounds), SHAPE, list("abcde"), "mine")
    assert (net.bounds, net.name, net.class_names[1]) == (bounds, "mine", "b")
    x = bounds[0] + (bounds[1] - bounds[0]) * torch.rand(5, *SHAPE)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    torch.testing.assert_close(net(x), module((x - mean) / std), rtol=1e-4, atol=1e-5)
    assert net.is_piecewise_linear  # the module itself is inside, not a call of the wrapper


def test_a_foolbox_model_without_preprocessing(module):
    net = ga.wrap(LikeFoolbox(module, (0, 1)), SHAPE)
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(net(x), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda module: LikeFoolbox(module, (0, 1), MEAN, STD, flip=1),
        lambda module: LikeArt(module, (0, 1), (MEAN, STD), lambda x: np.round(4 * x) / 4),
    ],
    ids=["flipped", "defended"],
)
def test_what_a_wrapper_does_beside_is_not_lost_in_silence(make, module):
    with pytest.raises(ga.InputError, match="gives other scores"):
        ga.wrap(make(module), SHAPE)


def test_what_cannot_be_wrapped_is_refused(module):
    with pytest.raises(ga.InputError, match=r"found a Sequential.*geomadv\.Classifier"):
        ga.wrap(module, SHAPE)
    with pytest.raises(ga.InputError, match="input_shape is needed"):
        ga.wrap(LikeFoolbox(module, (0, 1)))
    hidden = LikeFoolbox(module, (0, 1))
    hidden._model = lambda x: x
    with pytest.raises(ga.InputError, match="no module was found"):
        ga.wrap(hidden, SHAPE)


# RobustBench


class Data(enum.Enum):
    cifar_10 = "cifar10"
    imagenet = "imagenet"


class Threat(enum.Enum):
    Linf = "Linf"
    L2 = "L2"


@pytest.fixture
def robustbench(monkeypatch):
    """A likeness of the package; what was asked of it."""
    asked = []

    def small():
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))

    def load_model(*words):
        asked.append((*words, os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")))
        return small()

    kinds = {"A2020_a": {"model": small}}
    both = {Threat.Linf: {**kinds, "B": {"model": small}}, Threat.L2: kinds}
    modules = {
        "robustbench": ModuleType("robustbench"),
        "robustbench.model_zoo": SimpleNamespace(model_dicts={Data.cifar_10: both}),
        "robustbench.utils": SimpleNamespace(load_model=load_model),
    }
    for name, made in modules.items():
        monkeypatch.setitem(sys.modules, name, made)
    return asked


@pytest.mark.parametrize(
    ("name", "threat"),
    [("B", Threat.Linf), ("cifar10/L2/A2020_a", Threat.L2)],
    ids=["alone", "placed"],
)
def test_robustbench(name, threat, robustbench, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    net = ga.load_network(f"robustbench:{name}")
    last = name.split("/")[-1]
    assert robustbench == [(last, tmp_path / "robustbench", Data.cifar_10, threat, "1")]
    assert (net.name, net.input_shape, net.class_names[3]) == (last, (3, 32, 32), "cat")
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_robustbench_with_weights_of_a_file(robustbench, tmp_path):
    weights = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10)).state_dict()
    torch.save(weights, tmp_path / "w.pt")
    net = ga.load_network("robustbench:B", tmp_path / "w.pt")
    x = torch.rand(2, 3, 32, 32)
    wanted = nn.functional.avg_pool2d(x, 8).flatten(1) @ weights["2.weight"].T + weights["2.bias"]
    torch.testing.assert_close(net(x), wanted, rtol=1e-4, atol=1e-5)
    assert robustbench == []  # nothing is downloaded


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A2020_a", "'robustbench:cifar10/Linf/A2020_a', 'robustbench:cifar10/L2/A2020_a'"),
        ("imagenet/Linf/B", "give one of 'robustbench:cifar10/Linf/B'"),
        ("A2020_b", "Did you mean 'A2020_a'"),
    ],
    ids=["several", "elsewhere", "unknown"],
)
def test_names_that_robustbench_has_not_or_twice_are_refused(name, words, robustbench):
    with pytest.raises(ga.InputError, match=words):
        ga.load_network(f"robustbench:{name}")

"""A result whose network, images or inputs have changed is no answer any more."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import geomadv as ga
from geomadv.results import digest, identity, is_of_network, provenance

ANALYSIS = Path(__file__).parent.parent / "analysis"


class Net(nn.Module):
    """The same weights under different forwards."""

    def __init__(self, function=F.relu, stride: int = 1, mask: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(16, 4)
        self.function, self.stride, self.mask = function, stride, mask

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.conv.weight, self.conv.bias, self.stride, 1)
        scores = self.head(F.adaptive_avg_pool2d(self.function(x), 2).flatten(1))
        if self.mask is not None:
            scores = torch.cat([scores[:, :3], torch.full_like(scores[:, 3:], self.mask)], 1)
        return scores


def classifier(**how) -> ga.Classifier:
    return ga.Classifier(Net(**how), (1, 8, 8))


def attributes(net: ga.Classifier, **config) -> dict:
    return provenance("some", net=net, images=None, config=config)


@pytest.mark.parametrize(
    "how", [{"function": torch.sin}, {"function": F.leaky_relu}, {"stride": 2}]
)
@pytest.mark.parametrize("mask", [None, -1e9])
def test_what_a_forward_computes_belongs_to_the_network(how, mask):
    net, other = classifier(mask=mask), classifier(mask=mask, **how)
    assert net.weights_sha256 == other.weights_sha256
    assert is_of_network(attributes(net), classifier(mask=mask))
    assert not is_of_network(attributes(net), other)
    assert not is_of_network(attributes(net), net.smoothed(1.0))


def test_rounding_of_another_batch_is_no_other_network():
    net = classifier()
    shifted = type("Shifted", (), {"name": net.name, "weights_sha256": net.weights_sha256})()
    shifted.behaviour = tuple(value * (1 + 1e-6) for value in net.behaviour)
    assert is_of_network(attributes(net), shifted)


def test_a_digest_stands_for_all_results_before_it():
    net = classifier()
    first, second = attributes(net, count=60), attributes(net, count=1500)
    after = attributes(net, upstream=digest(first)), attributes(net, upstream=digest(second))
    assert digest(first) == digest(attributes(net, count=60))
    assert len({digest(first), digest(second), digest(after[0]), digest(after[1])}) == 4
    assert identity("some", net=net, config={})["behaviour"] == list(net.behaviour)


def script(name: str, monkeypatch: pytest.MonkeyPatch, **flags) -> None:
    monkeypatch.syspath_prepend(str(ANALYSIS))
    module = importlib.import_module(name)
    settings = "".join(word.capitalize() for word in name.split("_"))
    module.run(getattr(module, settings)(**flags))


def test_results_of_an_earlier_boundary_are_not_reused(tmp_path, monkeypatch, capsys):
    small = {"dimensions": (1, 2), "relative_norms": (0.4,), "draws": 2, "count": 50}
    place = {"results": tmp_path}
    try:
        script("boundary", monkeypatch, count=30, **place)
        script("normal_svd", monkeypatch, rank=5, baseline_draws=2, **place)
        script("random_subspace_fooling", monkeypatch, **place, **small)
        script("random_subspace_fooling", monkeypatch, **place, **small)  # reused
        script("boundary", monkeypatch, count=60, seed=7, overwrite=True, **place)
        with pytest.raises(ga.InputError, match=r"config.boundary"):
            script("normal_svd", monkeypatch, rank=5, baseline_draws=2, **place)
        script("normal_svd", monkeypatch, rank=5, baseline_draws=2, overwrite=True, **place)
        with pytest.raises(ga.InputError, match=r"config.directions"):
            script("random_subspace_fooling", monkeypatch, **place, **small)
    finally:
        for name in ("boundary", "normal_svd", "random_subspace_fooling", "common"):
            sys.modules.pop(name, None)
    assert "boundary:" in capsys.readouterr().out

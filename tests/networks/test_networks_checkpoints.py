"""Checkpoints as people have them: whatever the suffix, the key and the prefix, equal scores.

The network is Conv-BN-ReLU-pool-Linear; every checkpoint here holds the same weights, so that each
one that loads must give the same scores, bit by bit.
"""

import argparse
import contextlib
import json
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.networks import load_network
from geomadv.networks.weights import read_checkpoint
from geomadv.pipeline.study import Place, Subject, study

State = dict[str, Tensor]

MODULE = """
import torch.nn as nn
def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10))
class Wrapper(nn.Module):
    def __init__(self, normalises):
        super().__init__()
        self.model = plain()
        if normalises:
            self.normalize = nn.Module()
            for name in ("mean", "std"):
                self.normalize.register_buffer(name, nn.Parameter(self.model[0].bias[:3] * 0 + 1))
    def forward(self, x):
        if hasattr(self, "normalize"):
            mean, std = (t.reshape(1, 3, 1, 1) for t in self.normalize.buffers())
            x = (x - mean) / std
        return self.model(x)
def wrapped():
    return Wrapper(False)
def normalised():
    return Wrapper(True)
def features():
    module = nn.Sequential()
    module.features = plain()[:5]
    module.head = plain()[5]
    return module
def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
"""
NAME = "checkpointed_networks:plain"
SHAPE = (3, 32, 32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the networks, and nothing else."""
    (tmp_path / "checkpointed_networks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "checkpointed_networks", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def plain() -> nn.Module:
    module = __import__("checkpointed_networks").plain()
    assert isinstance(module, nn.Module)
    return module


@pytest.fixture
def state() -> State:
    """Weights of an own seed, batch-norm statistics that count."""
    torch.manual_seed(7)
    state = plain().state_dict()
    state["1.running_mean"] += torch.linspace(-0.3, 0.3, 8)
    return {k: v.clone() for k, v in state.items()}


def x() -> Tensor:
    return torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))


def expected(state: State, mean: float = 0.0, std: float = 1.0) -> Tensor:
    module = plain()
    module.load_state_dict(state)
    return Classifier(module, SHAPE, mean, std)(x())


def prefixed(prefix: str, state: State) -> State:
    return {prefix + k: v for k, v in state.items()}


def averaged(state: State) -> State:
    """Other weights that fit as well."""
    return {k: v * 0.5 if v.is_floating_point() else v for k, v in state.items()}


def trained_beside() -> dict[str, Any]:
    """What training scripts save beside the weights: an optimizer's state, numbers, flags."""
    module = plain()
    optimizer = torch.optim.Adam(module.parameters())
    module(x()).sum().backward()
    optimizer.step()
    return {
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "acc": 91.7,
        "best": np.float64(0.9),
        "args": argparse.Namespace(lr=0.1, mean=[0.1, 0.2, 0.3]),
        "history": [0.1, 0.2, 0.3],
    }


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "parameters": lambda s: {k: nn.Parameter(v, requires_grad=False) for k, v in s.items()},
    **{
        key: lambda s, key=key: {key: s, **trained_beside()}
        for key in ("net", "model", "state_dict", "module", "ema", "generator", "weights")
    },
    "nested": lambda s: {"checkpoint": {"model": {"state": s}}, **trained_beside()},
    "in a list": lambda s: [{"epoch": 1}, {"state_dict": s}],
    **{
        prefix: lambda s, prefix=prefix: {"state_dict": prefixed(prefix, s)}
        for prefix in ("module.", "model.", "net.", "backbone.", "_orig_mod.", "a.b.c.")
    },
    "all at once": lambda s: {"state_dict": prefixed("module._orig_mod.model.net.", s)},
    "top-level prefix": lambda s: prefixed("module.backbone.", s),
    "averaged model": lambda s: {"n_averaged": torch.tensor(9), **prefixed("module.", s)},
    "each layer wrapped": lambda s: {k.replace(".", "._orig_mod.", 1): v for k, v in s.items()},
    "no counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "twice the same": lambda s: {"model": s, "ema": {k: v.clone() for k, v in s.items()}},
    "a loss beside": lambda s: {**prefixed("model.", s), "criterion.weight": torch.ones(10)},
    "another network beside": lambda s: {
        **prefixed("generator.", s),
        **prefixed("discriminator.", {"0.weight": torch.ones(2, 3), "5.bias": torch.ones(10)}),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_found_under_any_key_and_prefix(layout: str, new: bool, state: State) -> None:
    torch.save(LAYOUTS[layout](state), "w.pt", _use_new_zipfile_serialization=new)
    net = load_network(NAME, weights="w.pt", input_shape=SHAPE)
    assert torch.equal(net(x()), expected(state))
    assert net.mean is None


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt", "w.pth.tar", "w.ckpt", "w.bin", "w"])
def test_the_suffix_decides_nothing(file: str, state: State) -> None:
    for save in (save_file, torch.save, partial(torch.save, _use_new_zipfile_serialization=False)):
        save(prefixed("model.", state), file)
        net = load_network(NAME, weights=file, input_shape=SHAPE)
        assert torch.equal(net(x()), expected(state))


def test_a_bare_state_dict_fits_the_wrapped_network(state: State) -> None:
    for content in (state, prefixed("module.", state), prefixed("model.", state)):
        torch.save(content, "w.pt")
        net = load_network("checkpointed_networks:wrapped", weights="w.pt", input_shape=SHAPE)
        assert torch.equal(net(x()), expected(state))


def test_wrappers_inside_the_names(state: State) -> None:
    """As of the classic AlexNet and VGG, whose features alone were spread over devices."""
    torch.manual_seed(3)
    module = __import__("checkpointed_networks").features()
    inside = {k.replace("features.", "features.module."): v for k, v in module.state_dict().items()}
    torch.save({"state_dict": inside}, "w.pt")
    net = load_network("checkpointed_networks:features", weights="w.pt", input_shape=SHAPE)
    assert torch.equal(net(x()), Classifier(module, SHAPE)(x()))


def test_tensors_beside_are_named(state: State) -> None:
    torch.save(LAYOUTS["a loss beside"](state), "w.pt")
    net = load_network(NAME, weights="w.pt", input_shape=SHAPE)
    assert net.note == "not used of w.pt: criterion.weight"


# Averages beside the raw weights


@pytest.mark.parametrize(
    ("content", "raw", "average"),
    [
        (lambda s, a: {"model": s, "model_ema": a}, "model", "model_ema"),
        (lambda s, a: {"module": s, "ema": a, "epoch": 3}, "module", "ema"),
        (
            lambda s, a: {"net": prefixed("module.", s), "ema": prefixed("module.", a)},
            "net",
            "ema",
        ),
        (
            lambda s, a: {"state_dict": {**prefixed("model.", s), **prefixed("ema_model.", a)}},
            "state_dict.model",
            "state_dict.ema_model",
        ),
        (lambda s, a: {**prefixed("ema.module.", a), **s}, ".", "ema"),
        (lambda s, a: {"state_dict": [s, a]}, "state_dict.0", "state_dict.1"),
    ],
    ids=["keys", "module", "DataParallel", "one mapping", "top level", "cascade"],
)
def test_two_that_differ_are_refused_and_chosen_by_key(
    content: Callable[[State, State], Any], raw: str, average: str, state: State
) -> None:
    torch.save(content(state, averaged(state)), "w.pt")
    with pytest.raises(InputError, match="weights_key") as error:
        load_network(NAME, weights="w.pt", input_shape=SHAPE)
    assert repr(raw) in str(error.value)
    assert repr(average) in str(error.value)
    for key, values in ((raw, state), (average, averaged(state))):
        net = load_network(NAME, weights="w.pt", weights_key=key, input_shape=SHAPE)
        assert torch.equal(net(x()), expected(values))
    with pytest.raises(InputError, match=r"weights_key='emma' names nothing.*Fitting: "):
        load_network(NAME, weights="w.pt", weights_key="emma", input_shape=SHAPE)


def test_key_of_a_mapping_around(state: State) -> None:
    torch.save({"a": prefixed("net.", state), "b": prefixed("net.", averaged(state))}, "w.pt")
    net = load_network(NAME, weights="w.pt", weights_key="b", input_shape=SHAPE)
    assert torch.equal(net(x()), expected(averaged(state)))


def test_key_without_a_file() -> None:
    with pytest.raises(InputError, match="weights_key='ema' chooses a part of a weight file"):
        load_network(NAME, weights_key="ema", input_shape=SHAPE)


def test_key_belongs_to_the_recorded_command() -> None:
    torch.manual_seed(2)
    weights = __import__("checkpointed_networks").linear().state_dict()
    torch.save({"raw": weights, "ema": averaged(weights)}, "w.pt")
    subject = Subject(
        network="checkpointed_networks:linear",
        weights=Path("w.pt"),
        weights_key="ema",
        images="images.npz",
    )
    np.savez("images.npz", images=np.zeros((8, 3, 8, 8), "f4"), labels=np.arange(8) % 4)
    flags = study(subject, Place(device="cpu")).flags
    assert flags is not None
    assert flags["weights_key"] == "ema"


# A normalisation beside the weights


def mean_and_std(prefix: str, mean: Any, std: Any, shape: tuple[int, ...]) -> State:
    return {
        f"{prefix}{name}": torch.full(shape, value)
        for name, value in (("mean", mean), ("std", std))
    }


NORMALISED: dict[str, Callable[[State], Any]] = {
    "normalize.": lambda s: {
        **mean_and_std("normalize.", 0.4, 0.25, (1, 3, 1, 1)),
        **prefixed("model.", s),
    },
    "module.normalizer.": lambda s: {
        **mean_and_std("module.normalizer.", 0.4, 0.25, (3,)),
        **prefixed("module.model.", s),
    },
    "Sequential(normalise, network)": lambda s: {
        **mean_and_std("0.", 0.4, 0.25, (3, 1, 1)),
        **prefixed("1.", s),
    },
    "mu and sigma": lambda s: {
        "mu": torch.full((1, 3, 1, 1), 0.4),
        "sigma": torch.full((1, 3, 1, 1), 0.25),
        **prefixed("model.", s),
    },
    "beside names without a prefix": lambda s: {
        **mean_and_std("normalize._", 0.4, 0.25, (3,)),
        **s,
    },
    "for 0..255": lambda s: {
        "pixel_mean": torch.full((3, 1, 1), 102.0),
        "pixel_std": torch.full((3, 1, 1), 63.75),
        **prefixed("backbone.", s),
    },
    "a key of its own": lambda s: {
        "state_dict": s,
        "normalizer": mean_and_std("", 0.4, 0.25, (1,)),
    },
    "numbers": lambda s: {"net": s, "normalizer": {"mean": [0.4] * 3, "std": [0.25] * 3}},
    "one number each": lambda s: {"net": s, "normalize": {"mean": 0.4, "std": 0.25}},
}


@pytest.mark.parametrize("layout", NORMALISED)
def test_normalisation_inside_is_applied(layout: str, state: State) -> None:
    torch.save(NORMALISED[layout](state), "w.pt")
    net = load_network(NAME, weights="w.pt", input_shape=SHAPE)
    assert net.mean == pytest.approx((0.4,) * 3)
    assert net.std == pytest.approx((0.25,) * 3)
    assert "is applied" in net.note
    # Rounding of the stored mean, in float32, through the network.
    torch.testing.assert_close(net(x()), expected(state, 0.4, 0.25), rtol=1e-5, atol=1e-5)
    wide = load_network(NAME, weights="w.pt", input_shape=SHAPE, bounds=(0.0, 255.0))
    torch.testing.assert_close(wide(255 * x()), net(x()), rtol=1e-4, atol=1e-4)


def test_normalisation_inside_gives_way_to_the_users_and_is_named(state: State) -> None:
    torch.save(NORMALISED["normalize."](state), "w.pt")
    net = load_network(NAME, weights="w.pt", input_shape=SHAPE, mean=0.1, std=0.5)
    assert (net.mean, net.std) == (pytest.approx((0.1,)), (0.5,))
    assert "normalize.mean and normalize.std) is not applied" in net.note


def test_normalisation_inside_goes_into_a_network_that_has_it(state: State) -> None:
    torch.save(NORMALISED["normalize."](state), "w.pt")
    with pytest.raises(InputError, match=r"normalize\.mean is"):  # (1, 3, 1, 1) there, (3,) here
        load_network("checkpointed_networks:normalised", weights="w.pt", input_shape=SHAPE)
    torch.save({**mean_and_std("normalize.", 0.4, 0.25, (3,)), **prefixed("model.", state)}, "w.pt")
    net = load_network("checkpointed_networks:normalised", weights="w.pt", input_shape=SHAPE)
    assert net.mean is None
    torch.testing.assert_close(net(x()), expected(state, 0.4, 0.25), rtol=1e-5, atol=1e-5)


def test_two_normalisations_that_differ_are_refused(state: State) -> None:
    content = {
        **NORMALISED["normalize."](state),
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    torch.save(content, "w.pt")
    with pytest.raises(InputError, match=r"different normalisations: normalize\.mean and"):
        load_network(NAME, weights="w.pt", input_shape=SHAPE)


def test_means_of_other_things_are_no_normalisation(state: State) -> None:
    torch.save({"net": state, "accuracy": {"mean": 0.9, "std": 0.01}}, "w.pt")
    assert load_network(NAME, weights="w.pt", input_shape=SHAPE).mean is None


# Misfits


def test_misfit_lists_what_is_there_and_the_nearest_fix(state: State) -> None:
    wide = {**state, "5.weight": torch.zeros(100, 128), "5.bias": torch.zeros(100)}
    torch.save({"model": prefixed("module.", wide), "epoch": 3}, "w.pt")
    with pytest.raises(InputError) as error:
        load_network(NAME, weights="w.pt", input_shape=SHAPE)
    message = str(error.value)
    assert "the file holds model, epoch" in message
    assert "Shapes: 5.weight is (100, 128), expected (10, 128)" in message
    assert "They give 100 scores, the network 10: build it with 100 classes." in message


def test_other_names_of_the_same_shapes_are_said(state: State) -> None:
    other = {k.replace("5.", "fc.").replace("0.", "conv."): v for k, v in state.items()}
    torch.save(other, "w.pt")
    with pytest.raises(InputError, match=r"names alone seem to differ.*conv\.weight to 0\.weight"):
        load_network(NAME, weights="w.pt", input_shape=SHAPE)


def test_missing_normalisation_of_the_network_is_said(state: State) -> None:
    torch.save(prefixed("model.", state), "w.pt")
    with pytest.raises(InputError, match=r"Missing: normalize\.mean.*without it and mean and std"):
        load_network("checkpointed_networks:normalised", weights="w.pt", input_shape=SHAPE)


def test_one_more_layer_is_unexpected(state: State) -> None:
    torch.save({"net": {**state, "6.weight": torch.ones(3), "6.bias": torch.ones(3)}}, "w.pt")
    with pytest.raises(InputError, match=r"Unexpected: net\.6\.weight, net\.6\.bias"):
        load_network(NAME, weights="w.pt", input_shape=SHAPE)


def test_a_lone_layer_goes_by_its_name(state: State) -> None:
    torch.save({"9.weight": torch.ones(4, 192), "9.bias": torch.ones(4)}, "w.pt")
    with pytest.raises(InputError, match=r"Missing: 1\.weight"):
        load_network("checkpointed_networks:linear", weights="w.pt", input_shape=(3, 8, 8))


# What is no state dict


def save_script(path: str) -> None:
    torch.jit.script(plain().eval()).save(path)  # type: ignore[no-untyped-call]


def save_numpy(path: str) -> None:
    with Path(path).open("wb") as file:
        np.savez(file, a=np.ones(3))


def save_keras(path: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")


FILES: dict[str, tuple[Callable[[str], Any], str]] = {
    "TorchScript": (save_script, r"TorchScript archive.*Classifier\(torch\.jit\.load\('w\.pt'\)"),
    "module": (lambda p: torch.save(plain(), p), r"Sequential.*a whole network.*state_dict\(\)"),
    "legacy module": (
        lambda p: torch.save(plain(), p, _use_new_zipfile_serialization=False),
        r"a whole network.*state_dict\(\)",
    ),
    "module beside": (lambda p: torch.save({"net": plain(), "epoch": 1}, p), "a whole network"),
    "HDF5": (lambda p: Path(p).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "HDF5.*Keras"),
    "Keras": (save_keras, "a Keras archive"),
    "NumPy": (save_numpy, r"NumPy \.npz archive"),
    "web page": (lambda p: Path(p).write_text("\n<!DOCTYPE html><html>"), "a web page"),
    "LFS": (lambda p: Path(p).write_text("version https://git-lfs.github.com/spec/v1"), "LFS"),
    "index": (lambda p: Path(p).write_text(json.dumps({"weight_map": {}})), "a JSON text"),
    "gzip": (lambda p: Path(p).write_bytes(b"\x1f\x8b" + bytes(20)), "compressed by gzip"),
    "no tensors": (lambda p: torch.save({"epoch": 3}, p), r"no state dict.*the file holds epoch"),
    "a tensor": (lambda p: torch.save(torch.ones(3), p), "no state dict"),
    "nothing": (lambda p: Path(p).touch(), "is empty"),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_named_with_the_remedy(case: str) -> None:
    write, message = FILES[case]
    write("w.pt")
    with pytest.raises(InputError, match=message):
        load_network(NAME, weights="w.pt", input_shape=SHAPE)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_are_read_or_refused(kind: str, state: State) -> None:
    if kind == "safetensors":
        save_file(state, "w.pt")
    else:
        torch.save(state, "w.pt", _use_new_zipfile_serialization=kind == "zip")
    whole, random = Path("w.pt").read_bytes(), np.random.default_rng(0)
    for i in range(60):
        part = np.frombuffer(whole, np.uint8).copy()
        part[random.integers(len(part), size=1 + 9 * (i % 3))] = random.integers(256)
        Path("w.pt").write_bytes(part[: None if i % 2 else random.integers(len(part))].tobytes())
        with contextlib.suppress(InputError):
            read_checkpoint(Path("w.pt"))


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "meta": (lambda t: t.to("meta"), "on the device meta"),
    "sparse": (lambda t: t.to_sparse(), "sparse.*to_dense"),
    "quantised": (
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        "quantised.*dequantize",
    ),
    "complex": (lambda t: t + 1j, "complex64.*float32"),
    "whole": (lambda t: t.to(torch.int8), "int8.*float32"),
    "truth values": (lambda t: t > 0, "bool.*float32"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_tensors_that_are_no_plain_weights_are_refused_by_name(
    kind: str, twice: bool, state: State
) -> None:
    odd, message = ODD[kind]
    changed = {**state, "5.weight": odd(state["5.weight"])}
    torch.save({"net": changed, "ema": changed} if twice else changed, "w.pt")
    with pytest.raises(InputError, match=rf"w\.pt: \S*5\.weight is .*{message}"):
        load_network(NAME, weights="w.pt", input_shape=SHAPE)


def test_odd_tensors_beside_the_weights_do_not_matter(state: State) -> None:
    beside = {str(k): odd(torch.ones(4)) for k, (odd, _) in enumerate(ODD.values())}
    torch.save({"net": state, "beside": beside}, "w.pt")
    load_network(NAME, weights="w.pt", input_shape=SHAPE)


def test_a_scripted_network_works_as_the_message_says(state: State) -> None:
    module = plain().eval()
    module.load_state_dict(state)
    torch.jit.script(module).save("w.pt")  # type: ignore[no-untyped-call]
    net = Classifier(torch.jit.load("w.pt"), SHAPE)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(net(x()), expected(state))

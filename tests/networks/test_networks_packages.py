"""Networks of torchvision, timm and transformers as they are, wherever the packages import.

They have initial weights, whose batch-norms take their statistics from images; nothing is
downloaded.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from geomadv import Classifier, boundary_points, load_network, mean_hessian

SIDE = 32

TORCHVISION = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]
TIMM = [
    "ghostnet_100",
    "mobilevit_xxs",
    "poolformer_s12",
    "regnetx_002",
    "resnet10t",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_nfnet",
    "test_vit",
]
HUGGING_FACE = {
    "ConvNext": {"depths": [1, 1, 1, 1], "hidden_sizes": [4, 6, 8, 8], "image_size": 32},
    "ResNet": {
        "depths": [1, 1],
        "hidden_sizes": [4, 6],
        "embedding_size": 4,
        "layer_type": "basic",
    },
    "ViT": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "image_size": 32,
        "patch_size": 8,
    },
}


def package(name: str) -> Any:
    """The package; a test that needs it is skipped, and says why, where it does not import."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # torchvision for another build of torch raises a RuntimeError
        pytest.skip(f"{name} cannot be imported ({error}); it comes with geomadv[zoo]")


def scores(module: nn.Module, x: Tensor) -> Tensor:
    found = module(x)
    return getattr(found, "logits", found)


def settled(module: nn.Module, side: int) -> nn.Module:
    """In evaluation mode; batch-norms and the last bias know noise, as training would have it."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    x = torch.randn(8, 3, side, side)
    with torch.no_grad():
        module.train()(x)
        found = scores(module.eval(), x)
        *_, head = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
        head.bias -= found.mean(0)
    return module


def check(net: Classifier, module: nn.Module, mean: Any, std: Any) -> None:
    """Scores are the module's, a boundary point converges, a Hessian product is its gradient's."""

    def original(x: Tensor) -> Tensor:
        m, s = (torch.tensor(v, dtype=x.dtype).view(-1, 1, 1) for v in (mean, std))
        return scores(module, (x - m) / s)

    x = torch.rand(2, *net.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rounded = original(x)
        module = module.double()
        expected = original(x.double())
    spread = float(expected.std())
    assert spread > 0
    # Some networks amplify the rounding of float32: as much as of the module itself is right.
    rounding = float((rounded - expected).abs().max())
    atol = 1e-4 * spread + 10 * rounding
    torch.testing.assert_close(net(x).double(), expected, rtol=0, atol=atol)
    net = net.to(dtype=torch.float64)
    torch.testing.assert_close(net(x.double()), expected, rtol=0, atol=1e-9 * spread)
    points = boundary_points(net, x[:1].double())
    assert points.converged.all()
    # Differences: whether exact products hold everything is measured elsewhere, and takes long.
    step = 0.1
    hessian = mean_hessian(net, points, hvp="finite-difference", step=step)
    v = torch.randn(1, *net.input_shape, generator=torch.Generator().manual_seed(2)).double()
    v /= v.norm()
    near, far = int(points.near), int(points.target)

    def slope(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        f = original(at)[0]
        return torch.autograd.grad(f[far] - f[near], at)[0].flatten()

    ahead, behind = (slope(points.points + s * step * v) for s in (1, -1))
    wanted = (ahead - behind) / (2 * step)
    found = torch.from_numpy(hessian @ v.flatten().numpy())
    assert (found - wanted).norm() <= 1e-6 * wanted.norm() + 1e-10 * ahead.norm()


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str, tmp_path: Path) -> None:
    models = package("torchvision.models")
    torch.manual_seed(3)
    module = settled(models.get_model(name, weights=None), SIDE)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    net = load_network(
        f"torchvision:{name}", tmp_path / "w.safetensors", input_shape=(3, SIDE, SIDE)
    )
    assert net.class_names[0] == "tench"
    check(net, module, net.mean, net.std)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str, tmp_path: Path) -> None:
    timm = package("timm")
    torch.manual_seed(3)
    module = timm.create_model(name)
    side = timm.data.resolve_model_data_config(module)["input_size"][1] if "vit" in name else SIDE
    module = settled(module, side)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    net = load_network(f"timm:{name}", tmp_path / "w.safetensors", input_shape=(3, side, side))
    check(net, module, net.mean, net.std)


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face(name: str, tmp_path: Path) -> None:
    hub = package("transformers")
    torch.manual_seed(3)
    labels = dict(enumerate(["cat", "dog", "owl", "fly", "bee"]))
    config = getattr(hub, f"{name}Config")(**HUGGING_FACE[name], id2label=labels)
    module = settled(getattr(hub, f"{name}ForImageClassification")(config), 32)
    module.save_pretrained(tmp_path / "net")
    processor = hub.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path / "net")
    net = load_network(str(tmp_path / "net"))
    assert (net.input_shape, net.class_names[1]) == ((3, 32, 32), "dog")
    assert "logits" in net.note
    check(net, module, processor.image_mean, processor.image_std)

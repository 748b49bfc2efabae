"""Networks as public repositories of CIFAR, MNIST and adversarial training write them, made small.

Here those of yaodongyu/TRADES, MadryLab/robustness, P2333/Bag-of-Tricks-for-AT, DeepMind and
davidcpage, transformers and mixers; `PUBLISHED` has all families.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from published_cifar import (
    CIFAR,
    MEAN,
    OF_CIFAR,
    STD,
    BasicBlock,
    Headed,
    conv,
    conv_bn,
    conv_bn_relu,
    published,
)
from published_cifar100 import OF_CIFAR_100
from torch import Tensor, nn

MNIST = (1, 12, 12)


class SmallCNN(nn.Module):
    """Layers in ordered dictionaries, the last one set to 0."""

    def __init__(self) -> None:
        super().__init__()
        layers = OrderedDict(
            [
                ("conv1", nn.Conv2d(1, 4, 3)),
                ("relu1", nn.ReLU(True)),
                ("maxpool1", nn.MaxPool2d(2, 2)),
                ("conv2", nn.Conv2d(4, 6, 3)),
                ("relu2", nn.ReLU(True)),
            ]
        )
        self.feature_extractor = nn.Sequential(layers)
        head = [("fc1", nn.Linear(54, 8)), ("relu1", nn.ReLU(True)), ("drop", nn.Dropout(0.5))]
        self.classifier = nn.Sequential(OrderedDict([*head, ("fc2", nn.Linear(8, 5))]))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)
        nn.init.constant_(self.classifier.fc2.bias, 0)

    def forward(self, input: Tensor) -> Tensor:
        features = self.feature_extractor(input)
        return self.classifier(features.view(-1, 54))


class NetMnist(nn.Module):
    """PyTorch's MNIST example: pooling, then ReLU; dropout of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 2)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(24, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 24)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return self.fc2(x)


class WideBlock(nn.Module):
    """The shortcut is a convolution, None or False; the input is replaced by its activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop: float = 0.0) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv1, self.bn2 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.relu2, self.conv2 = nn.ReLU(inplace=True), conv(outputs, outputs)
        self.droprate, self.equal = drop, inputs == outputs
        self.convShortcut = ((not self.equal) and conv(inputs, outputs, 1, stride)) or None

    def forward(self, x: Tensor) -> Tensor:
        if not self.equal:
            x = self.relu1(self.bn1(x))
        else:
            out = self.relu1(self.bn1(x))
        out = self.relu2(self.bn2(self.conv1(out if self.equal else x)))
        if self.droprate > 0:
            out = F.dropout(out, p=self.droprate, training=self.training)
        out = self.conv2(out)
        return torch.add(x if self.convShortcut is None else self.convShortcut(x), out)


class WideResNet(nn.Module):
    """TRADES' network has a block that the forward pass leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 4)
        self.block1 = nn.Sequential(WideBlock(4, 6, 2, 0.3), WideBlock(6, 6, 1, 0.3))
        self.sub_block1 = nn.Sequential(WideBlock(4, 6, 1))
        self.bn1, self.relu, self.fc = nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Linear(6, 5)
        self.nChannels = 6
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.data.normal_(0, math.sqrt(2.0 / (9 * m.out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.block1(self.conv1(x))))
        out = F.avg_pool2d(out, 6)
        return self.fc(out.view(-1, self.nChannels))


class FakeReLU(torch.autograd.Function):
    """For pictures of features only: a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Tensor:  # type: ignore[override]
        return g[0]


class LatentBlock(BasicBlock):
    def forward(self, x: Tensor, fake_relu: bool = False) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        return FakeReLU.apply(out) if fake_relu else F.relu(out)


class SequentialWithArgs(nn.Sequential):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        *first, last = self._modules.values()
        for layer in first:
            x = layer(x)
        return last(x, *args, **kwargs)


class WithLatent(nn.Module):
    """Gives (scores, features); options of the forward pass reach the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = SequentialWithArgs(conv_bn_relu(3, 4, 3, 2), LatentBlock(4, 6, 2))
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor, with_latent: bool = True, fake_relu: bool = False) -> Any:
        out = F.adaptive_avg_pool2d(self.layers(x, fake_relu=fake_relu), 1)
        latent = out.view(out.size(0), -1)
        return (self.linear(latent), latent) if with_latent else self.linear(latent)


class InputNormalize(nn.Module):
    """Clamps to [0, 1] and has its numbers as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("new_mean", torch.tensor(MEAN)[..., None, None])
        self.register_buffer("new_std", torch.tensor(STD)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(x, 0, 1)
        return (x - self.new_mean) / self.new_std


class Swish(torch.autograd.Function):
    """A backward pass by hand that saves memory, and can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g[0] * (s * (1 + x * (1 - s)))


class Activation(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class SmoothPreAct(nn.Module):
    """Of Gowal et al.: mean and std are plain tensors, the image is padded, any activation."""

    def __init__(self, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        self.init_conv, self.act = nn.Conv2d(3, 4, 3, bias=False), act()
        self.layer = nn.Sequential(
            OrderedDict(
                [("batchnorm_0", nn.BatchNorm2d(4)), ("act_0", act()), ("conv_0", conv(4, 6))]
            )
        )
        self.shortcut, self.logits = nn.Conv2d(4, 6, 1, bias=False), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2,) * 4)
        out = (x - self.mean) / self.std
        out = self.init_conv(out)
        out = self.act(self.layer(out) + self.shortcut(out))
        return self.logits(F.avg_pool2d(out, 14).view(-1, 6))


class ParametricSiLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(1e-3))

    def forward(self, x: Tensor) -> Tensor:
        beta = torch.clamp(self.beta, min=1e-4)
        return x * (torch.sigmoid(self.alpha * x) - beta) / (1 - beta)


class Hypersphere(nn.Module):
    """Cosines between normalised features and normalised weights, times a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = conv_bn_relu(3, 6, 3, 2), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        out = F.adaptive_avg_pool2d(self.body(x), 1).squeeze(-1).squeeze(-1)
        return F.linear(F.normalize(out), F.normalize(self.weight, dim=1)) * 15.0


class Graph(nn.Module):
    """Of cifar10-fast: layers in a graph of names, results in a dictionary, a scaled last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.graph: dict[str, tuple[Any, list[str]]] = {
            "prep": (conv_bn(3, 4), ["input"]),
            "act": (nn.CELU(alpha=0.3), ["prep"]),
            "left": (conv_bn(4, 4), ["act"]),
            "sum": (torch.add, ["left", "act"]),
            "pool": (nn.MaxPool2d(12), ["sum"]),
            "flat": (lambda x: x.view(x.size(0), x.size(1)), ["pool"]),
            "linear": (nn.Linear(4, 5, bias=False), ["flat"]),
            "logits": (lambda x: x * 0.125, ["linear"]),
        }
        for name, (layer, _) in self.graph.items():
            if isinstance(layer, nn.Module):
                setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        values = {"input": x}
        for name, (function, inputs) in self.graph.items():
            layer = getattr(self, name, function)
            values[name] = layer(*[values[i] for i in inputs])
        return values["logits"]


class HardBlock(nn.Module):
    """Of MobileNet-v3: hard sigmoid and hard swish from ReLU6, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = conv_bn(4, 4, 5, g=4), conv_bn(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = y * F.relu6(y + 3, inplace=True) / 6
        w = self.gate(y.mean([2, 3], keepdim=True))
        return x + y * (F.relu6(w + 3.0, inplace=True) / 6.0)


class Residual(nn.Module):
    """Of ConvMixer."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


class Attention(nn.Module):
    """Of the small ViTs: one projection in three chunks, heads by view and transpose."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_qkv, self.to_out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.norm, self.attend = nn.LayerNorm(dim), nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = (
            y.view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for y in self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        )
        dots = torch.einsum("bhid,bhjd->bhij", q, k) * self.scale
        out = torch.matmul(self.attend(dots), v)
        return self.to_out(out.transpose(1, 2).reshape(n, t, d))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls = nn.Linear(48, 8), nn.Parameter(torch.randn(1, 1, 8))
        self.pos, self.dropout = nn.Parameter(torch.randn(1, 10, 8)), nn.Dropout(0.1)
        mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.layers = nn.ModuleList([Attention(8, 2), mlp])
        self.mlp_head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5))

    def forward(self, img: Tensor) -> Tensor:
        n, c, h, w = img.shape
        x = img.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 48)
        x = torch.cat((self.cls.expand(n, -1, -1), self.patch(x)), dim=1)
        x += self.pos[:, : x.size(1)]
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x) + x
        return self.mlp_head(x[:, 0])


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm1, self.norm2 = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(9, 6), nn.GELU(), nn.Linear(6, 9))
        self.channels = nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = y + self.tokens(self.norm1(y).transpose(1, 2)).transpose(1, 2)
        y = y + self.channels(self.norm2(y))
        return self.head(y.mean(dim=1))


class Cbam(nn.Module):
    """Attention over pixels from the mean and the maximum of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        largest, _ = torch.max(x, 1, keepdim=True)
        maps = torch.cat([torch.mean(x, 1, keepdim=True), largest], dim=1)
        return x * torch.sigmoid(self.conv(maps))


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.models = nn.ModuleList([NetMnist(), SmallCNN()])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([model(x) for model in self.models]).mean(0)


PUBLISHED = {
    **OF_CIFAR,
    **OF_CIFAR_100,
    "mobilenet-v3": published(lambda: Headed(4, conv_bn(3, 4), nn.Hardswish(), HardBlock())),
    "small cnn": published(SmallCNN, MNIST, note="channels-last"),
    "mnist example": published(NetMnist, MNIST, "channels-last", mean=0.1307, std=0.3081),
    "wide resnet": published(WideResNet, **CIFAR),
    "with latent": published(WithLatent, output=0, note="the output '0'"),
    "normaliser inside": published(
        lambda: nn.Sequential(
            InputNormalize(), Headed(4, conv_bn_relu(3, 4, 3, 2), BasicBlock(4, 4))
        )
    ),
    "swish by hand": published(lambda: SmoothPreAct(lambda: Activation(Swish.apply))),
    "parametric silu": published(lambda: SmoothPreAct(ParametricSiLU)),
    "hypersphere": published(Hypersphere),
    "graph": published(Graph),
    "convmixer": published(
        lambda: Headed(
            4,
            nn.Conv2d(3, 4, 3, 3),
            nn.GELU(),
            Residual(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, padding="same"), nn.GELU())),
            nn.BatchNorm2d(4),
        )
    ),
    "vit": published(ViT),
    "mixer": published(Mixer),
    "cbam": published(lambda: Headed(4, conv_bn_relu(3, 4), Cbam())),
    "ensemble": published(Ensemble, MNIST, note="channels-last"),
}

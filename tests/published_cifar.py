"""Networks of kuangliu/pytorch-cifar, and what all families of published networks share.

Each entry has the constructs of one published definition, written anew with a few channels; the
tables have the arguments of `odd_networks.Odd` for each.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
CIFAR = {"mean": MEAN, "std": STD}


def conv(a: int, b: int, k: int = 3, s: int = 1, g: int = 1) -> nn.Conv2d:
    return nn.Conv2d(a, b, k, stride=s, padding=k // 2, groups=g, bias=False)


def conv_bn(a: int, b: int, k: int = 3, s: int = 1, g: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(a, b, k, s, g), nn.BatchNorm2d(b))


def conv_bn_relu(a: int, b: int, k: int = 3, s: int = 1, g: int = 1) -> nn.Sequential:
    return nn.Sequential(*conv_bn(a, b, k, s, g), nn.ReLU(inplace=True))


class Headed(nn.Module):
    """Layers, then the mean over pixels, a view and a linear layer."""

    def __init__(self, channels: int, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.linear = nn.Sequential(*layers), nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        out = F.avg_pool2d(out, out.size(2))
        out = out.view(out.size(0), -1)
        return self.linear(out)


def published(
    build: Callable[[], nn.Module], shape: Shape = (3, 12, 12), note: str = "", **options: Any
) -> dict[str, Any]:
    """An entry; batch-norms and the last layer's bias know images, as after training."""

    def settled() -> nn.Module:
        module = build().train()
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0
        x = torch.rand(16, *shape) * torch.rand(16, 1, 1, 1) + torch.rand(16, shape[0], 1, 1) - 0.5
        with torch.no_grad():
            module(x)
            scores = module.eval()(x)
            scores = scores[0] if isinstance(scores, tuple) else scores
            *_, head = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
            if head.bias is not None and len(head.bias) == scores.shape[1]:
                head.bias -= scores.mean(0)
        return module

    return {"build": settled, "shape": shape, "note": note, "options": options}


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(24, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = F.max_pool2d(F.relu(self.conv1(x)), 2)
        out = F.max_pool2d(F.relu(self.conv2(out)), 2)
        out = out.view(out.size(0), -1)
        out = F.relu(self.fc1(out))
        out = F.relu(self.fc2(out))
        return self.fc3(out)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for x in (4, "M", 6, 6, "M", 8, "M"):
            if isinstance(x, int):
                layers += [nn.Conv2d(channels, x, 3, padding=1), nn.BatchNorm2d(x)]
                layers += [nn.ReLU(inplace=True)]
                channels = x
            else:
                layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
        layers += [nn.AvgPool2d(kernel_size=1, stride=1)]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = self.features(x)
        out = out.view(out.size(0), -1)
        return self.classifier(out)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes), nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != self.expansion * planes:
            self.shortcut = conv_bn(inputs, planes, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class PreActBlock(nn.Module):
    """The shortcut exists only where shapes change."""

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, planes, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), conv(planes, planes)
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(conv(inputs, planes, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        out += shortcut
        return out


class SEBlock(nn.Module):
    """Squeeze and excitation by 1 x 1 convolutions."""

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn_relu(inputs, planes, 3, stride), *conv_bn(planes, planes)
        )
        self.shortcut = nn.Sequential(conv_bn(inputs, planes, 1, stride))
        self.fc1, self.fc2 = nn.Conv2d(planes, 2, kernel_size=1), nn.Conv2d(2, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        w = F.avg_pool2d(out, out.size(2))
        w = F.relu(self.fc1(w))
        w = F.sigmoid(self.fc2(w))
        out = out * w
        out += self.shortcut(x)
        return F.relu(out)


class Inception(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.b1 = nn.Sequential(
            nn.Conv2d(inputs, 3, kernel_size=1), nn.BatchNorm2d(3), nn.ReLU(True)
        )
        self.b2 = nn.Sequential(*conv_bn_relu(inputs, 2, 1), *conv_bn_relu(2, 3))
        self.b3 = nn.Sequential(
            *conv_bn_relu(inputs, 2, 1), *conv_bn_relu(2, 2), *conv_bn_relu(2, 2)
        )
        self.b4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *conv_bn_relu(inputs, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b1(x), self.b2(x), self.b3(x), self.b4(x)], 1)


class DenseBlock(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, 4 * growth, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(4 * growth), conv(4 * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([out, x], 1)


class Transition(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DualPath(nn.Module):
    """One part of the channels is added, the other one appended."""

    def __init__(self, inputs: int, d: int, first: bool) -> None:
        super().__init__()
        self.d, last = d, d + 2
        self.body = nn.Sequential(
            *conv_bn_relu(inputs, 4, 1), *conv_bn_relu(4, 4, g=2), *conv_bn(4, last, 1)
        )
        self.shortcut = conv_bn(inputs, last, 1) if first else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        out, x, d = self.body(x), self.shortcut(x), self.d
        out = torch.cat([x[:, :d, :, :] + out[:, :d, :, :], x[:, d:, :, :], out[:, d:, :, :]], 1)
        return F.relu(out)


class InvertedResidual(nn.Module):
    """Of MobileNet-v2: expansion, depthwise, linear."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, planes = stride, 2 * inputs
        self.conv1, self.bn1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride, planes), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride == 1 and inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self.bn1(self.conv1(x)))
        out = F.relu6(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out + self.shortcut(x) if self.stride == 1 else out


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        g = self.groups
        return x.view(n, g, c // g, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


class ShuffleBottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.body = nn.Sequential(
            *conv_bn_relu(inputs, 4, 1, g=2), Shuffle(2), *conv_bn_relu(4, 4, 3, stride, 4)
        )
        self.last = conv_bn(4, outputs - inputs if stride == 2 else outputs, 1, g=2)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut = nn.Sequential(nn.AvgPool2d(3, stride=2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out, res = self.last(self.body(x)), self.shortcut(x)
        return F.relu(torch.cat([out, res], 1)) if self.stride == 2 else F.relu(out + res)


class SplitBlock(nn.Module):
    """Of ShuffleNet-v2: half of the channels pass by, or both halves are made anew."""

    def __init__(self, channels: int, down: bool) -> None:
        super().__init__()
        self.down, self.shuffle, half = down, Shuffle(2), channels // 2
        inputs, stride = (channels, 2) if down else (half, 1)
        self.right = nn.Sequential(
            conv_bn_relu(inputs, half, 1), conv_bn(half, half, 3, stride, half), nn.ReLU()
        )
        if down:
            self.left = nn.Sequential(conv_bn(inputs, inputs, 3, 2, inputs), conv(inputs, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        half = int(x.size(1) * 0.5)
        a, b = (self.left(x), x) if self.down else (x[:, :half, :, :], x[:, half:, :, :])
        return self.shuffle(torch.cat([a, self.right(b)], 1))


def swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def drop_connect(x: Tensor, ratio: float) -> Tensor:
    keep = 1.0 - ratio
    mask = torch.empty([x.shape[0], 1, 1, 1], dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x.div_(keep).mul_(mask)


class MBConv(nn.Module):
    """Of EfficientNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.has_skip, planes = stride == 1 and inputs == outputs, 2 * inputs
        self.conv1, self.bn1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride, planes), nn.BatchNorm2d(planes)
        self.se1, self.se2 = nn.Conv2d(planes, 2, 1), nn.Conv2d(2, planes, 1)
        self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = swish(self.bn1(self.conv1(x)))
        out = swish(self.bn2(self.conv2(out)))
        w = swish(self.se1(F.adaptive_avg_pool2d(out, (1, 1))))
        out = out * self.se2(w).sigmoid()
        out = self.bn3(self.conv3(out))
        if self.has_skip:
            if self.training:
                out = drop_connect(out, 0.2)
            out = out + x
        return out


class SeparableCell(nn.Module):
    """Of PNASNet: a 7 x 7 separable convolution beside max-pooling."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.sep = conv_bn(inputs, outputs, 7, stride, inputs)
        if stride == 2:
            self.conv1, self.bn1 = conv(inputs, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y1 = self.sep(x)
        y2 = F.max_pool2d(x, kernel_size=3, stride=self.stride, padding=1)
        if self.stride == 2:
            y2 = self.bn1(self.conv1(y2))
        return F.relu(y1 + y2)


class Tree(nn.Module):
    """Of deep layer aggregation: two subtrees and a root that joins them."""

    def __init__(self, inputs: int, outputs: int, level: int, stride: int) -> None:
        super().__init__()
        kind: Any = BasicBlock if level == 1 else lambda i, o, s: Tree(i, o, level - 1, s)
        self.left, self.right = kind(inputs, outputs, stride), kind(outputs, outputs, 1)
        self.conv, self.bn = conv(2 * outputs, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out1 = self.left(x)
        out2 = self.right(out1)
        return F.relu(self.bn(self.conv(torch.cat([out1, out2], 1))))


OF_CIFAR = {
    "lenet": published(LeNet, note="channels-last"),
    "vgg": published(VGG, (3, 8, 8), **CIFAR),
    "resnet": published(
        lambda: Headed(6, conv_bn_relu(3, 4), BasicBlock(4, 4), BasicBlock(4, 6, 2)), **CIFAR
    ),
    "pre-activation": published(
        lambda: Headed(6, conv(3, 4), PreActBlock(4, 4), PreActBlock(4, 6, 2)), **CIFAR
    ),
    "senet": published(lambda: Headed(6, conv_bn_relu(3, 4), SEBlock(4, 6, 2), SEBlock(6, 6))),
    "googlenet": published(
        lambda: Headed(10, conv_bn_relu(3, 4), Inception(4), nn.MaxPool2d(3, 2, 1), Inception(10))
    ),
    "densenet": published(
        lambda: Headed(8, conv(3, 4), DenseBlock(4, 3), Transition(7, 5), DenseBlock(5, 3))
    ),
    "dual path": published(
        lambda: Headed(10, conv_bn_relu(3, 4), DualPath(4, 4, True), DualPath(8, 4, False))
    ),
    "mobilenet-v2": published(
        lambda: Headed(6, conv(3, 3), InvertedResidual(3, 4, 1), InvertedResidual(4, 6, 2))
    ),
    "shufflenet": published(
        lambda: Headed(
            8, conv_bn_relu(3, 4, 1), ShuffleBottleneck(4, 8, 2), ShuffleBottleneck(8, 8, 1)
        )
    ),
    "shufflenet-v2": published(
        lambda: Headed(8, conv_bn_relu(3, 8), SplitBlock(8, True), SplitBlock(8, False))
    ),
    "efficientnet": published(lambda: Headed(4, conv(3, 4), MBConv(4, 4, 1), MBConv(4, 4, 2))),
    "pnasnet": published(
        lambda: Headed(8, conv_bn_relu(3, 4), SeparableCell(4, 4, 1), SeparableCell(4, 8, 2))
    ),
    "deep layer aggregation": published(lambda: Headed(6, conv_bn_relu(3, 4), Tree(4, 6, 2, 2))),
}

"""Networks as public repositories of CIFAR, MNIST and adversarial training write them, made small.

Each entry has the constructs of one published definition (named beside it), written anew with a
few channels; `PUBLISHED` has the arguments of `odd_networks.Odd` for each.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


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


# kuangliu/pytorch-cifar


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
        self.sep = nn.Sequential(
            nn.Conv2d(inputs, outputs, 7, stride, padding=3, bias=False, groups=inputs),
            nn.BatchNorm2d(outputs),
        )
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


# bearpaw/pytorch-classification and akamaster's ResNets


class OptionA(nn.Module):
    """Shortcuts without weights: every other pixel, channels padded with zeros."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn_relu(inputs, planes, 3, 2), *conv_bn(planes, planes))
        self.pad = (planes - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        out += F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad), "constant", 0)
        return F.relu(out)


class PreResNet(nn.Module):
    """In-place ReLUs after the norm; the residual is the block's own input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu = conv(3, 4), nn.ReLU(inplace=True)
        self.bn1, self.conv2, self.downsample = (
            nn.BatchNorm2d(4),
            conv(4, 6, 3, 2),
            conv(4, 6, 1, 2),
        )
        self.bn, self.avgpool, self.fc = nn.BatchNorm2d(6), nn.AvgPool2d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        residual = x
        out = self.conv2(self.relu(self.bn1(x)))
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        x = self.avgpool(self.relu(self.bn(out)))
        x = x.view(x.size(0), -1)
        return self.fc(x)


class NonLocal(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(planes, 3, kernel_size=1) for _ in range(3))
        self.z = nn.Conv2d(3, planes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.size()
        pooled = F.max_pool2d(x, 2)
        q, k, v = (
            f(y).view(n, 3, -1) for f, y in ((self.theta, x), (self.phi, pooled), (self.g, pooled))
        )
        p = F.softmax(torch.matmul(q.permute(0, 2, 1), k) * 3**-0.5, dim=2)
        vp = torch.matmul(v, p.permute(0, 2, 1))
        return self.z(vp.view(n, 3, h, w)) + x


class ResNeXt(nn.Module):
    """Blocks with names made on the way, called by their `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.bn_1 = conv(3, 4), nn.BatchNorm2d(4)
        self.stage_1 = nn.Sequential()
        for i in range(2):
            block = nn.Sequential(*conv_bn_relu(4, 4, 1), *conv_bn(4, 4, g=2))
            self.stage_1.add_module(f"stage_1_bottleneck_{i}", block)
        self.classifier = nn.Linear(4, 5)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn_1.forward(self.conv_1.forward(x)), inplace=True)
        x = self.stage_1.forward(x)
        x = F.avg_pool2d(x, 12, 1)
        return self.classifier(x.view(-1, 4))


# weiaicunzai/pytorch-cifar100


class SoftMask(nn.Module):
    """Of the residual attention network: a mask from a smaller map, (1 + mask) * trunk."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk, self.down, self.up = (conv_bn_relu(channels, channels) for _ in range(3))
        self.sigmoid = nn.Sequential(
            nn.BatchNorm2d(channels), conv(channels, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        s = self.down(F.max_pool2d(x, kernel_size=3, stride=2, padding=1))
        s = F.interpolate(self.up(s), size=size, mode="bilinear", align_corners=False)
        return (1 + self.sigmoid(s)) * self.trunk(x)


class StochasticDepth(torch.jit.ScriptModule):
    """A scripted block whose probability is a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.p = torch.tensor(0.75).float()
        self.residual, self.shortcut = conv_bn_relu(4, 4), nn.Sequential()

    def survival(self):  # type: ignore[no-untyped-def]
        return torch.equal(torch.bernoulli(self.p), torch.tensor(1.0))

    @torch.jit.script_method
    def forward(self, x):  # type: ignore[no-untyped-def]
        if self.training:
            x = self.residual(x) + self.shortcut(x) if self.survival() else self.shortcut(x)
        else:
            x = self.residual(x) * self.p + self.shortcut(x)
        return x


class TwoStreams(nn.Module):
    """Of ResNet in ResNet: takes and gives a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.rr, self.rt, self.tt, self.tr = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.bn_r, self.bn_t = (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(True)) for _ in range(2))

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        r, t = pair
        return self.bn_r(self.rr(r) + self.tr(t) + r), self.bn_t(self.rt(r) + self.tt(t))


class ResNetInResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pre_r, self.pre_t = conv_bn_relu(3, 4, 3, 2), conv_bn_relu(3, 4, 3, 2)
        self.rir = nn.Sequential()
        for i in range(2):
            self.rir.add_module(f"generalized layers{i}", TwoStreams())
        self.conv1 = nn.Sequential(nn.Conv2d(8, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(True))
        self.classifier = nn.Sequential(
            nn.Linear(20, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        r, t = self.rir((self.pre_r(x), self.pre_t(x)))
        h = self.conv1(torch.cat([r, t], 1))
        return self.classifier(h.view(h.size()[0], -1))


class Fit(nn.Module):
    """Of NASNet: two shifted grids of every other pixel, by padding and negative padding."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.p1 = nn.Sequential(nn.AvgPool2d(1, stride=2), nn.Conv2d(inputs, filters // 2, 1))
        self.p2 = nn.Sequential(
            nn.ConstantPad2d((0, 1, 0, 1), 0), nn.ConstantPad2d((-1, 0, -1, 0), 0), *self.p1
        )
        self.bn = nn.BatchNorm2d(filters)

    def forward(self, inputs: tuple[Tensor, Tensor | None]) -> Tensor:
        x, prev = inputs
        if prev is None:
            return x
        if x.size(2) != prev.size(2):
            prev = F.relu(prev)
            prev = self.bn(torch.cat([self.p1(prev), self.p2(prev)], 1))
        return prev


class NasCell(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.ReLU(), conv(inputs, inputs, 5, stride, inputs), *conv_bn(inputs, outputs, 1)
        )
        self.right, self.fit = nn.AvgPool2d(3, stride, 1), Fit(3, outputs)

    def forward(self, pair: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
        x, prev = pair
        h = self.left(x)
        return torch.cat([h + self.fit((h, prev)), self.right(x)], 1), x


class NasNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Sequential(NasCell(3, 4, 1), NasCell(7, 4, 2))
        self.avg, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.cells((x, None))
        x = self.avg(F.relu(x))
        return self.fc(x.view(x.size(0), -1))


class Fire(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Conv2d(inputs, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        )
        self.expand_1x1 = nn.Conv2d(3, outputs // 2, 1)
        self.expand_3x3 = nn.Conv2d(3, outputs // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.expand_1x1(x), self.expand_3x3(x)], 1)


class SqueezeNet(nn.Module):
    """Its last layer is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fire2, self.fire3 = conv_bn_relu(3, 4), Fire(4, 6), Fire(6, 6)
        self.maxpool, self.conv10 = nn.MaxPool2d(2, 2), nn.Conv2d(6, 5, 1)
        self.avg = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        f2 = self.fire2(self.maxpool(self.stem(x)))
        c10 = self.conv10(self.fire3(f2) + f2)
        x = self.avg(c10)
        return x.view(x.size(0), -1)


class Factorised(nn.Module):
    """Of Inception-v3: 1 x 7 and 7 x 1 convolutions, branches in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.branch1x1 = conv_bn_relu(4, 3, 1)
        self.branch7x7 = nn.Sequential(
            nn.Conv2d(4, 3, (1, 7), padding=(0, 3)),
            nn.Conv2d(3, 3, (7, 1), padding=(3, 0)),
            nn.ReLU(),
        )
        self.branch_pool = nn.Sequential(
            nn.AvgPool2d(3, stride=1, padding=1), conv_bn_relu(4, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.branch1x1(x), self.branch7x7(x), self.branch_pool(x)]
        return torch.cat(outputs, 1)


class Excited(nn.Module):
    """Squeeze and excitation by linear layers, spread with `expand_as`."""

    def __init__(self, channels: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.residual, self.squeeze = conv_bn_relu(channels, channels), nn.AdaptiveAvgPool2d(1)
        self.excitation = nn.Sequential(
            nn.Linear(channels, 2), nn.ReLU(inplace=True), nn.Linear(2, channels), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.residual(x)
        squeeze = self.squeeze(residual)
        squeeze = squeeze.view(squeeze.size(0), -1)
        excitation = self.excitation(squeeze)
        excitation = excitation.view(residual.size(0), residual.size(1), 1, 1)
        return F.relu(residual * excitation.expand_as(residual) + x)


# yaodongyu/TRADES, MadryLab/robustness, P2333/Bag-of-Tricks-for-AT, DeepMind, davidcpage


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


CIFAR = {"mean": MEAN, "std": STD}
MNIST = (1, 12, 12)

PUBLISHED = {
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
    "mobilenet": published(
        lambda: Headed(6, conv_bn_relu(3, 4), conv_bn_relu(4, 4, 3, 2, 4), conv_bn_relu(4, 6, 1))
    ),
    "mobilenet-v2": published(
        lambda: Headed(6, conv(3, 3), InvertedResidual(3, 4, 1), InvertedResidual(4, 6, 2))
    ),
    "mobilenet-v3": published(lambda: Headed(4, conv_bn(3, 4), nn.Hardswish(), HardBlock())),
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
    "option A": published(lambda: Headed(8, conv_bn_relu(3, 4), OptionA(4, 8)), **CIFAR),
    "pre-resnet": published(PreResNet),
    "non-local": published(lambda: Headed(6, conv_bn_relu(3, 6, 3, 2), NonLocal(6))),
    "resnext": published(ResNeXt),
    "residual attention": published(lambda: Headed(4, conv_bn_relu(3, 4, 3, 2), SoftMask(4))),
    "stochastic depth": published(lambda: Headed(4, conv_bn_relu(3, 4, 3, 2), StochasticDepth())),
    "resnet in resnet": published(ResNetInResNet, note="channels-last"),
    "nasnet": published(NasNet),
    "squeezenet": published(SqueezeNet),
    "inception-v3": published(lambda: Headed(8, conv_bn_relu(3, 4), Factorised())),
    "excitation": published(lambda: Headed(4, conv_bn_relu(3, 4), Excited(4, nn.Sigmoid))),
    "hard excitation": published(lambda: Headed(4, conv_bn_relu(3, 4), Excited(4, nn.Hardsigmoid))),
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
    "silu": published(lambda: SmoothPreAct(nn.SiLU)),
    "softplus": published(lambda: SmoothPreAct(lambda: nn.Softplus(beta=10))),
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

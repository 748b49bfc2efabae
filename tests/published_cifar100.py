"""Networks of bearpaw/pytorch-classification, akamaster and weiaicunzai/pytorch-cifar100."""

import torch
import torch.nn.functional as F
from published_cifar import CIFAR, Headed, conv, conv_bn, conv_bn_relu, published
from torch import Tensor, nn


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
        self.bn1, self.conv2 = nn.BatchNorm2d(4), conv(4, 6, 3, 2)
        self.downsample = conv(4, 6, 1, 2)
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

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual, self.squeeze = conv_bn_relu(channels, channels), nn.AdaptiveAvgPool2d(1)
        self.excitation = nn.Sequential(
            nn.Linear(channels, 2), nn.ReLU(inplace=True), nn.Linear(2, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.residual(x)
        squeeze = self.squeeze(residual)
        squeeze = squeeze.view(squeeze.size(0), -1)
        excitation = self.excitation(squeeze)
        excitation = excitation.view(residual.size(0), residual.size(1), 1, 1)
        return F.relu(residual * excitation.expand_as(residual) + x)


OF_CIFAR_100 = {
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
    "excitation": published(lambda: Headed(4, conv_bn_relu(3, 4), Excited(4))),
}

"""The architectures of the zoo: modules from normalised images (N, C, H, W) to logits (N, classes).

Parameter names are those of the published weight files, so that these load with strict names.
Every activation and pooling layer is a registered submodule: tracing and printing show them all.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[], nn.Module]


def digits_cnn(activation: Activation = nn.GELU) -> nn.Sequential:
    """A small network for the 8x8 handwritten digits of scikit-learn.

    Two 3x3 convolutions (the second halves the side by its stride, so there is no pooling and no
    other kink than the activation's) and one hidden linear layer. Input (N, 1, 8, 8), 10 logits.
    With GELU (Hendrycks and Gimpel 2016) the network is infinitely differentiable; with ReLU it
    is piecewise linear.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            act1=activation(),
            conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1),
            act2=activation(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * 4 * 4, 64),
            act3=activation(),
            fc2=nn.Linear(64, 10),
        )
    )


def lenet() -> nn.Sequential:
    """LeNet for MNIST as distributed with Caffe (Jia et al. 2014, examples/mnist/lenet).

    A variant of LeNet-5 (LeCun et al. 1998): convolution 5x5 with 20 and 50 channels, each
    followed by 2x2 max-pooling and no other activation, then 500 ReLU units. Input (N, 1, 28, 28),
    10 logits, 431,080 parameters.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, 10),
        )
    )


def lenet_softplus() -> nn.Sequential:
    """The layers of `lenet` made infinitely differentiable. Input (N, 1, 28, 28), 10 logits.

    Average pooling and softplus take the places of max-pooling and ReLU. The convolutions have a
    softplus of their own: the max-pooling was their only non-linearity. Softplus(4) is at most
    log(2)/4 = 0.17 above ReLU.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            softplus1=nn.Softplus(beta=4),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            softplus2=nn.Softplus(beta=4),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            softplus3=nn.Softplus(beta=4),
            fc2=nn.Linear(500, 10),
        )
    )


def nin() -> nn.Sequential:
    """Network in Network for CIFAR-10 (Lin, Chen and Yan 2013, section 4.2) with batch norm.

    Three blocks of a wide convolution and two 1x1 ones, overlapping 3x3/2 pooling (maximum, then
    average) between them, and a global mean in place of linear layers. As in the published
    network (micronet, nin.py) batch norm and ReLU stand behind every convolution, the last one
    too: no score is negative. Input (N, 3, 32, 32), 972,658 parameters and statistics.
    """
    channels, kernels = (3, 192, 160, 96, *(192,) * 5, 10), (5, 1, 1, 5, 1, 1, 3, 1, 1)
    pools = {3: nn.MaxPool2d(3, 2, padding=1), 6: nn.AvgPool2d(3, 2, padding=1)}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, kernel in enumerate(kernels, start=1):
        before, after = channels[i - 1 : i + 1]
        layers[f"conv{i}"] = nn.Conv2d(before, after, kernel, padding=kernel // 2)
        layers[f"bn{i}"] = nn.BatchNorm2d(after)
        layers[f"relu{i}"] = nn.ReLU()
        if i in pools:
            layers[f"pool{i}"] = pools[i]
    return nn.Sequential(OrderedDict(layers, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))


def alexnet_cifar() -> nn.Sequential:
    """AlexNet (Krizhevsky 2014, one column) for 32x32 images, as in bearpaw/pytorch-classification.

    The five convolutions have the published widths (64, 192, 384, 256, 256); the first has stride
    4, so that one linear layer on 256 features of the whole image is left. Piecewise linear. Input
    (N, 3, 32, 32), 2,495,396 parameters.
    """
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 100)),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a parameter-free shortcut (He et al. 2016, 4.2, option A).

    (N, channels_in, H, W) -> (N, channels_out, H/stride, W/stride). Where the shape changes the
    shortcut takes every second pixel and adds zero channels, half of them on each side.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.new_channels = channels_out - channels_in

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and not self.new_channels:
            return x
        below = self.new_channels // 2
        above = self.new_channels - below
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, below, above))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, H/stride, W/stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        out: Tensor = self.relu2(h + self._shortcut(x))
        return out


def _stage(channels_in: int, channels_out: int, stride: int, blocks: int) -> nn.Sequential:
    rest = [BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels_out, stride), *rest)


def cifar_resnet(n: int) -> nn.Sequential:
    """Residual network of 6n + 2 layers for CIFAR (He, Zhang, Ren and Sun 2016, section 4.2).

    n = 3, 5, 9 are ResNet-20, -32 and -56, with 271,098, 466,426 and 857,082 parameters and
    batch-norm statistics. Input (N, 3, 32, 32).
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            layer1=_stage(16, 16, 1, n),
            layer2=_stage(16, 32, 2, n),
            layer3=_stage(32, 64, 2, n),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(64, 10),
        )
    )


def conv_small(channels: int, side: int) -> nn.Sequential:
    """The small convolutional network of Wong and Kolter (2018), section 4 and appendix.

    channels, side: of the input image (N, channels, side, side), side divisible by 4. Two 4x4/2
    convolutions and 100 hidden units.
    """
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class Fire(nn.Module):
    """Fire module (Iandola et al. 2016, section 3.1): (N, C, H, W) -> (N, 2 expand, H, W)."""

    def __init__(self, channels_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeeze, 1)
        self.squeeze_relu = nn.ReLU()
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand_relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, 2 expand, H, W)."""
        h = self.squeeze_relu(self.squeeze(x))
        out: Tensor = self.expand_relu(torch.cat([self.expand1(h), self.expand3(h)], 1))
        return out


class ReversedChannels(nn.Module):
    """RGB to BGR, for networks trained with Caffe."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same with the last channel first."""
        return x.flip(1)


# Input channels, squeeze and expand widths of fire modules 2 to 9; pooling behind 3 and 5.
_FIRES = (
    (64, 16, 64),
    (128, 16, 64),
    (128, 32, 128),
    (256, 32, 128),
    (256, 48, 192),
    (384, 48, 192),
    (384, 64, 256),
    (512, 64, 256),
)


def squeezenet() -> nn.Sequential:
    """SqueezeNet 1.1 (Iandola et al. 2016; version 1.1 of DeepScale) as of Caffe: BGR inside.

    It ends in ReLU and a mean: no score is negative. Input (N, 3, 224, 224), 1,235,496 parameters.
    """

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers: OrderedDict[str, nn.Module] = OrderedDict(bgr=ReversedChannels())
    layers.update(conv1=nn.Conv2d(3, 64, 3, stride=2), relu1=nn.ReLU(), pool1=pool())
    for i, widths in enumerate(_FIRES, start=2):
        layers[f"fire{i}"] = Fire(*widths)
        if i in (3, 5):
            layers[f"pool{i}"] = pool()
    layers.update(conv10=nn.Conv2d(512, 1000, 1), relu10=nn.ReLU())
    return nn.Sequential(OrderedDict(layers, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))

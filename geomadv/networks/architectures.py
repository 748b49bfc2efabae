"""The architectures of the zoo: modules from normalised images (N, C, H, W) to logits (N, classes).

Parameter names are those of the published weight files, so that these load with strict names.
Every activation and pooling layer is a registered submodule: tracing and printing show them all.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

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


def _mlpconv(channels_in: int, widths: Sequence[int], kernel: int) -> list[nn.Module]:
    """A k x k convolution followed by 1x1 convolutions, each with ReLU (Lin et al. 2013, 3.1)."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        size = kernel if i == 0 else 1
        layers += [nn.Conv2d(channels_in, width, size, padding=size // 2), nn.ReLU()]
        channels_in = width
    return layers


def nin(classes: int = 10) -> nn.Sequential:
    """Network in Network for CIFAR-10 (Lin, Chen and Yan 2013, section 4.2).

    Three mlpconv blocks with the authors' published widths, overlapping 3x3/2 pooling (maximum,
    then average) and dropout 0.5 between them, and a global mean in place of linear layers. The
    last ReLU is left out: scores clipped at zero would have no gradient for the losing classes.
    Input (N, 3, 32, 32), 966,986 parameters for ten classes.
    """
    return nn.Sequential(
        *_mlpconv(3, (192, 160, 96), 5),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.Dropout(0.5),
        *_mlpconv(96, (192, 192, 192), 5),
        nn.AvgPool2d(3, stride=2, ceil_mode=True),
        nn.Dropout(0.5),
        *_mlpconv(192, (192, 192, classes), 3)[:-1],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def alexnet_cifar(classes: int = 100) -> nn.Sequential:
    """AlexNet (Krizhevsky, Sutskever and Hinton 2012) for 32x32 images.

    The five convolutions have the widths of the one-column version (Krizhevsky 2014: 64, 192,
    384, 256, 256); their strides are those that bring 32 pixels to a 4x4 map. Dropout stands
    before both hidden linear layers as in section 4.2 of the first paper, 1,024 units wide
    since the images are smaller. Local response normalisation is left out, as in the version
    of 2014. Input (N, 3, 32, 32).
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, stride=2, padding=1),
            conv2=nn.Conv2d(64, 192, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, stride=2, padding=1),
            conv3=nn.Conv2d(192, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 256, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(256, 256, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, stride=2, padding=1),
            flatten=nn.Flatten(),
            drop6=nn.Dropout(0.5),
            fc6=nn.Linear(256 * 4 * 4, 1024),
            relu6=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc7=nn.Linear(1024, 1024),
            relu7=nn.ReLU(),
            fc8=nn.Linear(1024, classes),
        )
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


def cifar_resnet(n: int, classes: int = 10) -> nn.Sequential:
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
            linear=nn.Linear(64, classes),
        )
    )


def conv_small(channels: int, side: int, classes: int = 10) -> nn.Sequential:
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
        nn.Linear(100, classes),
    )


# Depthwise stride and pointwise width of the 13 separable convolutions at width 1 (Howard et al.
# 2017, table 1).
_MOBILENET_PAIRS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *((1, 512),) * 5,
    (2, 1024),
    (1, 1024),
)


def _same_padding(stride: int) -> nn.ZeroPad2d:
    """TensorFlow's "same" padding of a 3x3 convolution on an even side."""
    return nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)


def mobilenet_v1(width: float = 0.75, classes: int = 1000) -> nn.Sequential:
    """MobileNet v1 (Howard et al. 2017) with the padding and epsilon of its Keras version.

    A 3x3/2 convolution, then 13 pairs of depthwise 3x3 and pointwise 1x1 convolutions with batch
    norm and ReLU6 after each, a global mean and a linear layer. Input (N, 3, 224, 224).
    width 0.75: 2,601,976 parameters and batch-norm statistics.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()

    def add(name: str, norm: str, convolution: nn.Conv2d) -> None:
        stride, kernel = convolution.stride[0], convolution.kernel_size[0]
        if kernel > 1:
            layers[f"{name}_pad"] = _same_padding(stride)
        layers[name] = convolution
        layers[norm] = nn.BatchNorm2d(convolution.out_channels, eps=1e-3)
        layers[f"{name}_relu"] = nn.ReLU6()

    channels = int(32 * width)
    add("conv1", "bn1", nn.Conv2d(3, channels, 3, stride=2, bias=False))
    for i, (stride, full_width) in enumerate(_MOBILENET_PAIRS, start=1):
        depthwise = nn.Conv2d(channels, channels, 3, stride, groups=channels, bias=False)
        add(f"dw{i}", f"dw{i}_bn", depthwise)
        out = int(full_width * width)
        add(f"pw{i}", f"pw{i}_bn", nn.Conv2d(channels, out, 1, bias=False))
        channels = out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)

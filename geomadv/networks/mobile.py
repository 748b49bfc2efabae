"""Mobile architectures of the zoo: depthwise convolutions, ReLU6, TensorFlow's padding.

Modules from normalised images (N, 3, 224, 224) to logits (N, classes). Parameter names are those
of the published weight files, so that these load with strict names.
"""

from collections import OrderedDict

from torch import Tensor, nn

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


def _same_padding(stride: int, kernel: int = 3) -> nn.ZeroPad2d:
    """TensorFlow's "same" padding of a convolution of stride 1 or 2 on an even side."""
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return nn.ZeroPad2d((before, after, before, after))


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


class InvertedResidual(nn.Sequential):
    """1x1 expansion, depthwise convolution, 1x1 projection (Sandler et al. 2018, section 3.3).

    (N, channels_in, H, W) -> (N, channels_out, H/stride, W/stride); added to the input where the
    shapes agree.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        norm: bool,
    ) -> None:
        """norm: batch norm behind each convolution, which then has no bias."""
        super().__init__()
        self.skip = stride == 1 and channels_in == channels_out
        wide = channels_in * expansion

        def add(name: str, convolution: nn.Conv2d, relu: bool = True) -> None:
            self.add_module(name, convolution)
            if norm:
                self.add_module(f"{name}_bn", nn.BatchNorm2d(convolution.out_channels, eps=1e-3))
            if relu:
                self.add_module(f"{name}_relu", nn.ReLU6())

        if expansion > 1:
            add("expand", nn.Conv2d(channels_in, wide, 1, bias=not norm))
        self.pad = _same_padding(stride, kernel)
        add("dw", nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=not norm))
        add("project", nn.Conv2d(wide, channels_out, 1, bias=not norm), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, H/stride, W/stride)."""
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + out if self.skip else out


Stages = tuple[tuple[int, int, int, int, int], ...]  # kernel, stride, expansion, width, blocks


def _inverted_residuals(channels: int, stages: Stages, norm: bool) -> nn.Sequential:
    blocks = []
    for kernel, stride, expansion, width, count in stages:
        for i in range(count):
            first = stride if i == 0 else 1
            blocks.append(InvertedResidual(channels, width, kernel, first, expansion, norm))
            channels = width
    return nn.Sequential(*blocks)


# Sandler et al. 2018, table 2.
_MOBILENET_V2: Stages = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (3, 2, 6, 32, 3),
    (3, 2, 6, 64, 4),
    (3, 1, 6, 96, 3),
    (3, 2, 6, 160, 3),
    (3, 1, 6, 320, 1),
)
# EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze-and-excitation.
_LITE0: Stages = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def _mobile(stages: Stages, norm: bool, classes: int) -> nn.Sequential:
    """Stem, inverted residuals and 1,280 features of ReLU6 networks of 224x224 images."""

    def normed(name: str, convolution: nn.Conv2d) -> dict[str, nn.Module]:
        batch_norm = nn.BatchNorm2d(convolution.out_channels, eps=1e-3)
        parts = {name: convolution, **({f"{name}_bn": batch_norm} if norm else {})}
        return {**parts, f"{name}_relu": nn.ReLU6()}

    return nn.Sequential(
        OrderedDict(
            stem_pad=_same_padding(2),
            **normed("stem", nn.Conv2d(3, 32, 3, stride=2, bias=not norm)),
            blocks=_inverted_residuals(32, stages, norm),
            **normed("head", nn.Conv2d(320, 1280, 1, bias=not norm)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(1280, classes),
        )
    )


def mobilenet_v2(classes: int = 1000) -> nn.Sequential:
    """MobileNet v2 (Sandler et al. 2018), TensorFlow's padding, batch norm folded into weights.

    Input (N, 3, 224, 224), 3,487,816 parameters.
    """
    return _mobile(_MOBILENET_V2, norm=False, classes=classes)


def efficientnet_lite0(classes: int = 1000) -> nn.Sequential:
    """EfficientNet-Lite0 (Google 2020): ReLU6, no squeeze-and-excitation, TensorFlow's padding.

    Input (N, 3, 224, 224), 4,694,024 parameters and batch-norm statistics.
    """
    return _mobile(_LITE0, norm=True, classes=classes)

"""Networks whose geometry is known in closed form, as classifiers with wide bounds.

All take flattened images; buffers are float64 and `dtype` casts them. Pairs have the scores
[-f(x), f(x)] / 2, so that F_1 - F_0 = f: class 0 where f < 0.
"""

import dataclasses
import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.images import load_images
from geomadv.networks import ZOO, load_network, train

WIDE = (-1e3, 1e3)
SHAPE = (1, 2, 3)


def classifier(
    module: nn.Module,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
    bounds: tuple[float, float] = WIDE,
    name: str = "closed form",
) -> Classifier:
    return Classifier(module, shape, bounds=bounds, name=name, dtype=dtype)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers from a generator of their own; drawn in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def orthogonal_frame(dimension: int, columns: int, seed: int = 0) -> Tensor:
    """Random orthonormal columns (dimension, columns), float64."""
    return torch.linalg.qr(gaussian(dimension, columns, seed=seed)).Q


class Linear(nn.Module):
    """Scores W x + b. weight (C, D), bias (C,)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


class Quadric(nn.Module):
    """f(x) = x^T A x / 2 + b^T x + c with A symmetric: gradient A x + b, Hessian A. (N,)."""

    matrix: Tensor
    slope: Tensor

    def __init__(self, matrix: Tensor, slope: Tensor, constant: float) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("slope", slope)
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return ((x @ self.matrix) * x).sum(1) / 2 + x @ self.slope + self.constant


class Cubic(nn.Module):
    """f(x) = sum a_i x_i^3 / 6 + b^T x + c: gradient a x^2 / 2 + b, Hessian diag(a x). (N,)."""

    coefficients: Tensor
    slope: Tensor

    def __init__(self, coefficients: Tensor, slope: Tensor, constant: float) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients)
        self.register_buffer("slope", slope)
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return x**3 @ self.coefficients / 6 + x @ self.slope + self.constant


class Pair(nn.Module):
    """Scores [-f(x), f(x)] / 2."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        f = self.f(x)
        return torch.stack([-f, f], dim=1) / 2


class Dead(nn.Module):
    """Constant scores whose gradient is zero, not absent."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        return self.values + 0 * x.flatten(1)[:, :1]


class Perceptron(nn.Module):
    """Scores W2 tanh(W1 x + b1) + b2: smooth, small, random."""

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __init__(self, dimension: int, hidden: int, classes: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("w1", gaussian(hidden, dimension, seed=seed) / math.sqrt(dimension))
        self.register_buffer("b1", gaussian(hidden, seed=seed + 1))
        self.register_buffer("w2", gaussian(classes, hidden, seed=seed + 2) / math.sqrt(hidden))
        self.register_buffer("b2", gaussian(classes, seed=seed + 3) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ self.w1.T + self.b1) @ self.w2.T + self.b2


def linear(
    weight: Tensor,
    bias: Tensor,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
    bounds: tuple[float, float] = WIDE,
) -> Classifier:
    """Linear classifier with scores W x + b; one row per class."""
    return classifier(Linear(weight, bias), shape, dtype, bounds, "linear")


def linear_pair(
    w: Tensor,
    b: float,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
) -> Classifier:
    """Two classes with F_1 - F_0 = w^T x + b, normal w / ||w||."""
    bias = torch.tensor([-b, b], dtype=torch.float64) / 2
    return linear(torch.stack([-w, w]) / 2, bias, shape, dtype)


def quadric(
    matrix: Tensor,
    slope: Tensor,
    constant: float,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
) -> Classifier:
    """Two classes with F_1 - F_0 = x^T A x / 2 + b^T x + c."""
    return classifier(Pair(Quadric(matrix, slope, constant)), shape, dtype, name="quadric")


def sphere(
    radius: float,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
    inside_target: bool = False,
) -> Classifier:
    """F_1 - F_0 = ||x||^2 - r^2, class 1 outside; with `inside_target` the opposite sign.

    Normals +x/r (-x/r); every tangent curvature +1/r (-1/r).
    """
    sign = -1.0 if inside_target else 1.0
    dimension = math.prod(shape)
    matrix = 2 * sign * torch.eye(dimension, dtype=torch.float64)
    slope = torch.zeros(dimension, dtype=torch.float64)
    return quadric(matrix, slope, -sign * radius**2, shape, dtype)


def cubic(
    coefficients: Tensor,
    slope: Tensor,
    constant: float,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
) -> Classifier:
    """Two classes with F_1 - F_0 = sum a_i x_i^3 / 6 + b^T x + c."""
    return classifier(Pair(Cubic(coefficients, slope, constant)), shape, dtype, name="cubic")


def dead(classes: int = 3, shape: tuple[int, int, int] = SHAPE) -> Classifier:
    """Scores that do not depend on the image; class 0 is on top."""
    values = torch.arange(classes + 1, 1, -1, dtype=torch.float64)
    return classifier(Dead(values), shape, name="dead")


def perceptron(
    classes: int = 5,
    hidden: int = 16,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    dtype: torch.dtype = torch.float64,
    bounds: tuple[float, float] = WIDE,
) -> Classifier:
    """A random smooth network; its weights are in `.module.module` as w1, b1, w2, b2."""
    module = Perceptron(math.prod(shape), hidden, classes, seed)
    return classifier(module, shape, dtype, bounds, "perceptron")


def resnet20_cifar10(n: int) -> tuple[Classifier, Tensor]:
    """The pretrained ResNet-20 and the first n test images, from GEOMADV_DATA."""
    net = load_network("resnet20-cifar10", progress=False)
    return net, load_images("cifar10", split="test", limit=n).images


def nearest_on_quadric(
    matrix: NDArray[np.float64], slope: NDArray[np.float64], constant: float, x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Point of x^T A x / 2 + b^T x + c = 0 nearest to x, where f(x) < 0 and A has an a_i > 0. (D,).

    Stationary points are y(l) = (I + l A)^-1 (x - l b); the nearest one has I + l A > 0. There
    f(y(l)) falls with l: the root of the secular equation f(y(l)) = 0 lies in (-1 / max a_i, 0).
    """
    values, vectors = np.linalg.eigh(matrix)
    b, z = vectors.T @ slope, vectors.T @ x

    def point(multiplier: float) -> NDArray[np.float64]:
        return np.asarray((z - multiplier * b) / (1 + multiplier * values))

    def f(multiplier: float) -> float:
        y = point(multiplier)
        return float(values @ y**2 / 2 + b @ y + constant)

    root = brentq(f, -(1 - 1e-12) / values[-1], 0, xtol=1e-15, rtol=1e-14)
    return np.asarray(vectors @ point(root))


def random_quadric(seed: int, n: int = 8) -> tuple[Classifier, Tensor, Tensor]:
    """A quadric, n images on its negative side and the points of it nearest to them."""
    dimension = math.prod(SHAPE)
    a = gaussian(dimension, dimension, seed=4 * seed)
    a, b, x = (
        (a + a.T) / 2,
        gaussian(dimension, seed=4 * seed + 1),
        gaussian(n, dimension, seed=4 * seed + 2),
    )
    c = -float((((x @ a) * x).sum(1) / 2 + x @ b).max()) - 0.5
    nearest = np.stack([nearest_on_quadric(a.numpy(), b.numpy(), c, row) for row in x.numpy()])
    return quadric(a, b, c), x.reshape(n, *SHAPE), torch.from_numpy(nearest).reshape(n, *SHAPE)


@functools.cache
def quick_lenet(name: str) -> Classifier:
    """A LeNet of the zoo after a fifteenth of an epoch in small batches: seconds, not a minute."""
    spec = ZOO[name]
    assert spec.recipe is not None
    recipe = dataclasses.replace(spec.recipe, epochs=1, batch_size=32)
    images = load_images(spec.dataset, split="train", limit=4000, progress=False)
    module = train(dataclasses.replace(spec, recipe=recipe), False, images=images)
    return Classifier(module, spec.input_shape, spec.mean, spec.std, name=name)

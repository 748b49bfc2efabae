"""Mean Hessian and mean shape operator of the decision boundary as linear operators."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from geomadv.boundary import BoundaryPoints, boundary_gradient
from geomadv.classifier import Classifier
from geomadv.classifier.precision import computes
from geomadv.curvature.choice import Choice, Hvp, check_memory, choose
from geomadv.curvature.measured import Verdict, measure
from geomadv.curvature.methods import Method, method_for
from geomadv.curvature.products import Products, batches_of, check_points
from geomadv.curvature.tangent import ExactTangent, FiniteDifferenceTangent, Tangent
from geomadv.errors import InputError
from geomadv.progress import tqdm

# Bytes of vectors in flight behind the stem; larger blocks are cut.
_BLOCK_BYTES = 2**26


class BoundaryOperator(LinearOperator):  # type: ignore[misc]
    """A symmetric (D, D) operator: a mean over boundary points.

    Products take NumPy arrays (`matvec`, `matmat`, `@`) or, without a copy to the host, tensors
    (`products_sum`). Points are summed in the network's precision inside a batch and in float64
    over batches. Exact operators are symmetric to rounding; a finite difference is symmetric up to
    its truncation error (on a piecewise-linear network only roughly), and its adjoint is taken to
    be itself. Nor is it linear there: the product with a sum of vectors crosses other kinks than
    the products with each of them.

    Attributes:
        kind: "exact", "finite-difference" or "smoothed".
        step: length of the finite difference, image units; None for the other kinds.
        step_distances: the step over the median distance of the points to their images; NaN for the
            other kinds. Above 1 it is coarser than the boundary's distance.
        beta: sharpness of the softplus, 1 / activation units; None for the other kinds.
        points_used: boundary points in the mean.
        products: Hessian-vector products so far, one per vector.
        note: what was done otherwise than asked for; "" for nothing.
        scales: (points_used,) factor on each point's Hessian: 1, or 1 / ||grad f|| for the shape.
    """

    def __init__(
        self,
        net: Classifier,
        products: Products,
        numbers: Tensor,
        method: Method,
        distance: float,
        tangent: Tangent | None = None,
        progress: bool = False,
        scales: Tensor | None = None,
    ) -> None:
        choice = method.choice
        self.kind, self.step, self.beta = choice.kind, choice.step, choice.beta
        self.points_used, self.products, self.note = len(numbers), 0, method.note
        self.step_distances = math.nan if self.step is None else self.step / distance
        self._net, self._products, self._tangent = net, products, tangent
        self._numbers = numbers
        self.scales = torch.ones(len(numbers), dtype=net.dtype) if scales is None else scales
        self._block = max(1, _BLOCK_BYTES // (16 * products.width))
        self._bar = tqdm(desc="curvature", unit="product", disable=not progress)
        dtype = torch.empty(0, dtype=net.dtype).numpy().dtype
        super().__init__(dtype=dtype, shape=(net.dimension, net.dimension))

    @property
    def linear(self) -> bool:
        """Whether products are linear in the vector to rounding; finite differences are not."""
        return self.kind != "finite-difference"

    def _matmat(self, X: NDArray[Any]) -> NDArray[Any]:
        vectors = torch.from_numpy(np.array(X, dtype=self.dtype))
        mean = self.products_sum(vectors) / self.points_used
        result: NDArray[Any] = mean.cpu().numpy().astype(self.dtype)
        return result

    def _matvec(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._matmat(x.reshape(-1, 1))

    def _adjoint(self) -> "BoundaryOperator":
        return self

    _transpose = _adjoint

    @computes
    def products_sum(self, vectors: Tensor) -> Tensor:
        """Sum, not mean, over the points of the products with vectors (D, k): (D, k) float64.

        Raises:
            InputError: vectors of another shape or not finite, or a product that is not finite.
        """
        units, norms = self._units(vectors)
        parts = [self._sum(part) for part in units.split(self._block)]
        return torch.cat(parts).T * norms if parts else units.T.double()

    @computes
    def matrix_sums(self, factors: Tensor) -> Tensor:
        """Sums over the points of factor_i H_i: (m, points_used) -> (m, D, D) float64.

        All of them cost D products of the points' Hessians, where each alone would. For linear
        products; of a shape operator, H_i is scaled by the gradient (see `from_hessians`).
        """
        factors = factors.to(self._net.device)
        parts = []
        identity = torch.eye(self.shape[0], dtype=self._net.dtype, device=self._net.device)
        for units in identity.split(max(1, self._block // len(factors))):
            images = units.unflatten(1, self._net.input_shape)
            parts.append(self._products.sums(images, factors).flatten(2))
            self._check(parts[-1], units)
        return torch.cat(parts, dim=1).mT

    def from_hessians(self, total: Tensor) -> Tensor:
        """The sum of this operator over its points, from the sum of `scales`_i H_i, (D, D).

        For linear products.
        """
        tangent = self._tangent
        return tangent.matrix(total) if isinstance(tangent, ExactTangent) else total

    @computes
    def per_point_quadratic(self, vectors: Tensor) -> Tensor:
        """v^T M_i v of every used point and vector: (D, k) -> (points_used, k) float64."""
        units, norms = self._units(vectors)
        parts = [self._quadratic(part) for part in units.split(self._block)]
        return torch.cat(parts, dim=1) * norms.square()

    def dense(self) -> NDArray[np.float64]:
        """The whole matrix (D, D) float64, made exactly symmetric. Costs D products."""
        identity = torch.eye(self.shape[0], dtype=self._net.dtype, device=self._net.device)
        matrix = (self.products_sum(identity) / self.points_used).cpu().numpy()
        return np.asarray((matrix + matrix.T) / 2, dtype=np.float64)

    def _units(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors as rows (k, D) and their lengths (k,) float64; zeros stay zeros."""
        if vectors.ndim != 2 or len(vectors) != self.shape[0]:
            raise InputError(
                f"vectors have shape {tuple(vectors.shape)}; expected ({self.shape[0]}, k), one "
                "column per vector."
            )
        rows = vectors.detach().to(self._net.device).T.double()
        if not rows.isfinite().all():
            raise InputError("vectors contain NaN or infinite entries; give finite ones.")
        norms = rows.norm(dim=1)
        safe = torch.where(norms > 0, norms, 1.0)
        return (rows / safe[:, None]).to(self._net.dtype).contiguous(), norms

    def _sum(self, units: Tensor) -> Tensor:
        """Unit rows (k, D) -> sums (k, D) float64."""
        if self._tangent is not None:
            result = self._tangent.sums(self._products, units)
        else:
            images = units.unflatten(1, self._net.input_shape)
            result = self._products.sums(images).flatten(1)
        self._check(result, units)
        return result

    def _quadratic(self, units: Tensor) -> Tensor:
        if self._tangent is not None:
            result = self._tangent.quadratics(self._products, units)
        else:
            result = self._products.quadratics(units.unflatten(1, self._net.input_shape))
        self._check(result, units)
        return result

    def _check(self, result: Tensor, units: Tensor) -> None:
        self.products += len(units)
        self._bar.update(len(units))
        if result.isfinite().all():
            return
        bad = self._products.first_bad(units.unflatten(1, self._net.input_shape))
        where = "their sum" if bad is None else f"boundary point {int(self._numbers[bad])}"
        raise InputError(
            f"a Hessian-vector product of network {self._net.name!r} is not finite at {where}. "
            "Leave that point out, or use dtype=torch.float64."
        )


@computes
def mean_hessian(
    net: Classifier,
    points: BoundaryPoints,
    hvp: Hvp = "auto",
    step: float | None = None,
    *,
    beta: float | None = None,
    batch_size: int | None = None,
    memory: int | None = None,
    verdict: Verdict | None = None,
    progress: bool = False,
) -> BoundaryOperator:
    """Mean Hessian of the boundary function over boundary points, as a (D, D) LinearOperator.

    H(x) = hessian of f = F_target - F_near at x, in score units / image units squared, averaged
    over the converged points. Positive along v: f grows along +v and -v, into the target class.

    Args:
        net: the network.
        points: boundary points of it; source and target classes may be mixed.
        hvp: "exact": second derivatives by automatic differentiation, for smooth networks. They
                leave out the curvature in kinks; `note` says so where some were measured.
            "finite-difference": (grad f(x + step v) - grad f(x - step v)) / (2 step), ||v|| = 1:
            curvature at that scale, for any network.
            "smoothed": exact on `net.smoothed(beta)`, at the same points.
            "auto": exact if the network is smooth, else finite differences. That is measured, in
                float64 at eight of the points: exact products must agree with central differences
                at 1e-3 and 1e-4 of the pixel range, and the gradient must not jump along lines
                through the points as long as the default step. Names of calls do not decide.
        step: length of the finite difference, image units; None: 10 sqrt(D) (max - min) / 512, as
            in the released code of "With Friends Like These" (factor 10).
        beta: sharpness of "smoothed", 1 / activation units; None: 10.
        batch_size: points at a time; None: from memory. It bounds the peak memory and does not
            change the result.
        memory: bytes in which linearisations are kept for reuse; None: a quarter of the free
            memory. What does not fit is made anew for every block of vectors.
        verdict: what `smoothness` found at these or more points, where several operators share it;
            None: it is measured.
        progress: show a bar that counts Hessian-vector products.

    Returns:
        The operator, in the network's dtype. Its `note` tells if the network could not be traced
        (products then cost twice as much), if exact products leave out curvature in kinks, with
        the measured size, and why "auto" took finite differences where that was not plain (a
        network with curvature beside its kinks, or without second derivatives). Cost of a
        product, in gradients over the same points: below 1 (exact, smoothed) after a set-up of 2,
        some 90 gradients at eight points to measure smoothness ("auto", "exact"), and a trace of
        some seconds; below 2 (finite difference).

    Raises:
        InputError: hvp="exact" on a piecewise-linear network, unless it bends at the points, or on
            one without second derivatives;
            hvp="smoothed" on one that keeps kinks without smooth form;
            step or beta not positive and finite, or given with another hvp; no converged point;
            points of another network; memory < 0, batch_size < 1; a network neither in float32
            nor in float64.
    """
    used, choice, numbers, batch_size, memory = _prepare(
        net, points, hvp, step, beta, batch_size, memory
    )
    chosen = points[numbers]
    batches = batches_of(used, chosen, batch_size)
    method = method_for(used, batches, choice, verdict)
    products = Products(method.stem, batches, method.lineariser, memory)
    distance = median_distance(chosen)
    return BoundaryOperator(used, products, numbers, method, distance, progress=progress)


@computes
def mean_shape_operator(
    net: Classifier,
    points: BoundaryPoints,
    hvp: Hvp = "auto",
    step: float | None = None,
    *,
    beta: float | None = None,
    batch_size: int | None = None,
    memory: int | None = None,
    verdict: Verdict | None = None,
    progress: bool = False,
) -> BoundaryOperator:
    """Mean shape operator of the decision boundary, as a (D, D) LinearOperator.

    S(x) = P H(x) P / ||grad f(x)||, P = I - n n^T, averaged over the converged points. Its
    eigenvalues are curvatures in 1 / image units: for f = ||x||^2 - r^2 every tangent curvature
    at a point is +1/r. With finite differences the step is taken along P v at each point.

    Arguments, errors and cost are those of `mean_hessian`; exact operators also hold one image
    per point.

    Raises:
        InputError: as `mean_hessian`; or the gradient vanishes at a point.
    """
    used, choice, numbers, batch_size, memory = _prepare(
        net, points, hvp, step, beta, batch_size, memory
    )
    chosen = points[numbers]
    normals, lengths = _normals(used, chosen, numbers, batch_size)
    scales = 1 / lengths
    batches = batches_of(used, chosen, batch_size, scales)
    method = method_for(used, batches, choice, verdict)
    products = Products(method.stem, batches, method.lineariser, memory)
    tangent: Tangent
    if method.choice.kind == "finite-difference":
        tangent = FiniteDifferenceTangent(products, normals)
    else:
        tangent = ExactTangent(products, normals)
    distance = median_distance(chosen)
    return BoundaryOperator(used, products, numbers, method, distance, tangent, progress, scales)


@computes
def smoothness(
    net: Classifier, points: BoundaryPoints, hvp: Hvp, batch_size: int | None = None
) -> Verdict | None:
    """Whether exact products hold all curvature at the converged points; None if hvp asks not.

    For several operators over parts of the points, which then all apply Hessians alike.

    Raises:
        InputError: as `mean_hessian`.
    """
    numbers = check_points(net, points)
    choice = choose(net, hvp, None, None)
    if choice.kind != "exact":
        return None
    return measure(net, batches_of(net, points[numbers], net.batch_size(batch_size)))


def median_distance(points: BoundaryPoints) -> float:
    """Median distance of boundary points to their images, image units; NaN if zero or none."""
    if len(points.distance) == 0:
        return math.nan
    return float(points.distance.double().quantile(0.5)) or math.nan


def _prepare(
    net: Classifier,
    points: BoundaryPoints,
    hvp: str,
    step: float | None,
    beta: float | None,
    batch_size: int | None,
    memory: int | None,
) -> tuple[Classifier, Choice, Tensor, int, int]:
    """The network to differentiate, how, which points, batch size and memory budget."""
    numbers = check_points(net, points)
    choice = choose(net, hvp, step, beta)
    used = net if choice.beta is None else net.smoothed(choice.beta)
    return used, choice, numbers, used.batch_size(batch_size), check_memory(memory, used)


def _normals(
    net: Classifier, points: BoundaryPoints, numbers: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Unit normals (N, D) and gradient norms (N,) of the network that is differentiated."""
    x = points.points.detach().to(device=net.device, dtype=net.dtype)
    near, target = points.near.to(net.device), points.target.to(net.device)
    gradients = torch.cat(
        [
            boundary_gradient(net, x[i], near[i], target[i])[1]
            for i in torch.arange(len(x), device=net.device).split(batch_size)
        ]
    )
    norms = gradients.norm(dim=1, keepdim=True)
    vanishing = ~((norms > torch.finfo(norms.dtype).tiny) & norms.isfinite()).squeeze(1)
    if vanishing.any():
        first = int(numbers[vanishing.nonzero()[0]])
        raise InputError(
            f"the gradient of network {net.name!r} vanishes or is not finite at boundary point "
            f"{first}: there is no tangent plane. Leave that point out."
        )
    return gradients / norms, norms.squeeze(1)

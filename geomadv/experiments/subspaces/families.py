"""The families of subspaces that the experiments compare, from stored principal curvatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import xarray as xr

from geomadv.curvature import PrincipalCurvatures
from geomadv.curvature.principal import Family, class_directions, class_residuals
from geomadv.doors import Numbers
from geomadv.errors import NO_BOUNDARY, InputError, LackingError, check_counts
from geomadv.experiments.principal.doubt import step_distances
from geomadv.images import ImageSet
from geomadv.linalg import NestedSubspaces, Subspace, normal_svd
from geomadv.linalg.doubt import doubt_of
from geomadv.linalg.gram import gram_matrix

_LABELS: dict[Family, str] = {
    "positive": "most positive curvature",
    "negative": "most negative curvature",
    "both": "most positive and most negative curvature",
    "flat": "smallest curvature",
}
COMPLEMENT = "random directions outside the computed curved ones"

# Up to this dimension a full orthonormal basis is affordable; beyond, this many directions.
DENSE, LEADING = 4096, 1000


def curvature_families(
    curvatures: Sequence[PrincipalCurvatures], seed: int = 0
) -> dict[Family, NestedSubspaces]:
    """S_pos, S_neg, S_neg∪pos and S_flat as nested subspaces, d directions per class and end.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §3. Where the full spectrum is not
    known, S_flat is a random draw from the orthogonal complement of all computed directions, up to
    D = 4,096 all of it, beyond some 1,000 directions; its description then is `COMPLEMENT`. It is
    left out where the complement has no room.

    Args:
        curvatures: one per class, all with the same number of pairs.
        seed: of the draw from the complement.

    Returns:
        Families by name; S_d of "both" takes d directions of either end of every class. Their
        `doubt` says which share of the directions are no eigenvectors.

    Raises:
        InputError: no curvatures, or of different sizes, or none but zero.
    """
    if not curvatures:
        raise InputError("curvatures: expected those of at least one class, found none.")
    if not any(c.values.any() for c in curvatures):
        raise LackingError(
            "curvatures: every one is zero, as a linear network's are: no direction is curved more "
            "than another, and there are no subspaces of the most curved ones. Give a network "
            "whose boundary curves, or measure curvature with a larger step."
        )
    shapes = {tuple(c.directions.shape) for c in curvatures}
    if len(shapes) > 1:
        raise InputError(
            f"curvatures: expected directions of one shape, found {sorted(shapes)}. Run the "
            "curvature of all classes with the same settings."
        )
    width, (dimension, pairs) = len(curvatures), shapes.pop()
    complete = pairs == dimension
    step = doubt_of((), [c.step_distances for c in curvatures]).step_distances
    families: dict[Family, NestedSubspaces] = {}
    for family, label in _LABELS.items():
        if family == "flat" and not complete:
            continue
        most = pairs if complete and family != "both" else pairs // 2
        if most == 0:
            continue
        directions = class_directions(curvatures, most, family)
        groups = 2 * width if family == "both" else width
        residuals = class_residuals(curvatures, most, family)
        families[family] = NestedSubspaces(directions, groups, label, residuals, step)
    if not complete:
        most = dimension if dimension <= DENSE else max(1, LEADING // width)
        flat = _outside(Subspace(families["both"].basis), width, most, seed)
        if flat is not None:
            families["flat"] = flat
    return families


def random_family(
    dimension: int, width: int = 1, draws: int | None = None, seed: int = 0
) -> list[NestedSubspaces]:
    """Uniformly distributed nested subspaces, `width` directions a step, several draws of them.

    What every claim about chosen directions is compared with. Up to D = 4,096 they pass through
    all of image space, beyond they have some 1,000 directions.

    Args:
        dimension: D.
        width: directions that each step of d adds, as of the families compared.
        draws: sequences; an experiment takes them in turns, image by image. Default 10, and 3
            beyond D = 4,096, where all of them weigh gigabytes and hardly differ.
        seed: of the draws.
    """
    draws = random_draws(dimension) if draws is None else draws
    check_counts(dimension=dimension, width=width, draws=draws)
    columns = width * (-(-dimension // width) if dimension <= DENSE else max(1, LEADING // width))
    told = f"random subspaces, {draws} draws over the images"

    def nested(stream: np.random.Generator) -> NestedSubspaces:
        # The span of the first d Gaussian columns is uniformly distributed for every d. They are
        # exact: by what float32 data may mean, the last of thousands would at times count as
        # dependent, and not every draw would reach all of space.
        exact = stream.standard_normal((dimension, columns), np.float32).astype(np.float64)
        return NestedSubspaces(exact, width, told, dtype=torch.float32)

    return [nested(stream) for stream in np.random.default_rng(seed).spawn(draws)]


def random_draws(dimension: int) -> int:
    """How many draws `random_family` makes by default."""
    return 10 if dimension <= DENSE else 3


def image_family(images: ImageSet, width: int = 1, seed: int = 0) -> NestedSubspaces | None:
    """The leading principal components of images, `width` directions a step.

    What a network-free choice of directions keeps. Up to D = 4,096 all of them, by decreasing
    variance; beyond, at most 1,000 from as many images, drawn at random, and None where there are
    no more images than `width`.

    Args:
        images: whose mean is subtracted.
        width: directions that each step of d adds, as of the families compared.
        seed: of the draw of images.
    """
    dimension = images[:1].images[0].numel()
    told = "principal components of the images"
    if dimension <= DENSE:
        centre = images.mean_image().flatten().numpy()
        blocks = (part.images.flatten(1).double().numpy() - centre for part in images.batches(512))
        _, vectors = np.linalg.eigh(gram_matrix(blocks, dimension))
        # The last step may be smaller: directions twice over are dropped as dependent.
        columns = np.pad(vectors[:, ::-1], ((0, 0), (0, -dimension % width)), mode="wrap")
        return NestedSubspaces(columns.astype(np.float32), width, told)
    some = images.sample(min(LEADING, len(images)), seed).images.flatten(1)
    # Centred images have one dimension fewer than there are images.
    rank = min(LEADING, len(some) - 1, dimension)
    if rank < width:
        return None
    found = normal_svd(some - some.mean(0), rank).directions
    return NestedSubspaces(found[:, : found.shape[1] // width * width], width, told)


def random_flat(
    curvatures: Sequence[PrincipalCurvatures], steps: int, seed: int = 0
) -> NestedSubspaces | None:
    """`steps` random directions per class outside all computed ones; None where there is no room.

    What stands in for S_flat where the full spectrum is not known.
    """
    half = len(curvatures[0].values) // 2
    curved = Subspace(class_directions(curvatures, half, "both"))
    drawn = _outside(curved, len(curvatures), steps, seed)
    return drawn if drawn is not None and drawn.steps == steps else None


def _outside(curved: Subspace, width: int, most: int, seed: int) -> NestedSubspaces | None:
    """Random directions outside a subspace, `width` a step, as many steps as there is room for."""
    steps = min(most, (curved.ambient_dimension - curved.dimension) // width)
    if steps == 0:
        return None
    return NestedSubspaces(curved.complement_sample(steps * width, seed).basis, width, COMPLEMENT)


def singular_families(
    rows: Numbers, seed: int = 0, name: str = "perturbations"
) -> dict[Literal["hi", "lo"], NestedSubspaces]:
    """S_hi and S_lo: leading and trailing singular vectors of unit rows; d counts all directions.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §4.3, figure 4. Up to D = 4,096 both
    orders pass through all of image space; with fewer rows than D the directions of singular value
    zero are in random order. For larger D, S_hi has at most 1,000 vectors and S_lo is a random draw
    of as many from their orthogonal complement. The descriptions say which.

    Args:
        rows: (N, D) unit perturbations or normals; rows that contain NaN are left out.
        seed: of the random directions.
        name: what the rows are, for the descriptions.

    Raises:
        InputError: no finite row; others from `normal_svd`.
    """
    matrix = np.asarray(rows)
    if matrix.ndim == 2:
        matrix = matrix[np.isfinite(matrix).all(axis=1)]
    if matrix.ndim != 2 or len(matrix) == 0:
        raise InputError(
            f"rows: expected (N, D) with at least one finite row, found shape {np.shape(rows)} "
            f"with none. {NO_BOUNDARY}"
        )
    count, dimension = matrix.shape
    label = f"singular vectors of the {name}"
    if dimension > DENSE:
        hi = normal_svd(matrix, min(count, LEADING)).directions
        lo = Subspace(hi).complement_sample(min(hi.shape[1], dimension - hi.shape[1]), seed).basis
        return {
            "hi": NestedSubspaces(hi, description=f"leading {label}"),
            "lo": NestedSubspaces(lo, description=f"random directions outside the leading {label}"),
        }
    # In float64: the trailing order is that of small singular values.
    whole = normal_svd(matrix.astype(np.float64), min(count, dimension)).directions
    drawn = dimension - whole.shape[1]
    if drawn > 0:
        rest = Subspace(whole).complement_sample(drawn, seed).basis
        whole = torch.cat([whole, rest], dim=1)
        label += f" ({drawn} of them random, orthogonal to all rows)"
    return {
        "hi": NestedSubspaces(whole, description=f"leading {label}"),
        "lo": NestedSubspaces(whole.flip(1), description=f"trailing {label}"),
    }


def stored_curvatures(ds: xr.Dataset) -> list[PrincipalCurvatures]:
    """The eigenpairs of the mean Hessians in a result of the curvature experiment, class by class.

    Args:
        ds: loaded `curvature.h5`, or the result of `class_curvature`.

    Returns:
        One per class that had enough boundary points.

    Raises:
        InputError: no class had.
    """
    known = [i for i in range(ds.sizes["class"]) if ds["hessian_value"][i].notnull().all()]
    if not known:
        raise InputError(
            "curvature result: no class had two boundary points, expected at least one class. "
            "Measure the curvature from more images (its setting `count`), or of a network that "
            "predicts several classes."
        )
    return [_pairs(ds.isel({"class": i})) for i in known]


def _pairs(ds: xr.Dataset) -> PrincipalCurvatures:
    directions = ds["hessian_direction"].to_numpy()
    columns = np.ascontiguousarray(directions.reshape(len(directions), -1).T)
    return PrincipalCurvatures(
        values=torch.from_numpy(ds["hessian_value"].to_numpy().copy()),
        directions=torch.from_numpy(columns),
        residuals=torch.from_numpy(ds["hessian_residual"].to_numpy().copy()),
        converged=torch.from_numpy(ds["hessian_converged"].to_numpy().astype(bool)),
        products=int(ds["hessian_products"]),
        which="both",
        asymmetry=float(ds["hessian_asymmetry"]),
        coherence=float(ds.get("hessian_coherence", np.nan)),
        step_distances=float(step_distances(ds)),
    )

"""Which label turns into which under a perturbation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from geomadv.errors import InputError, check_counts
from geomadv.labels import Schema, described

_FROM, _TO = ("from_class",), ("to_class",)

SCHEMA: Schema = {
    "from_class": (_FROM, "class predicted at the clean image", "1"),
    "to_class": (_TO, "class predicted under the perturbation", "1"),
    "share": (("share",), "share of the fooled images", "1"),
    "count": ((*_FROM, *_TO), "images", "1"),
    "edge": (_FROM, "class that most fooled images become, or -1", "1"),
    "edge_share": (_FROM, "share of the class' images on the edge", "1"),
    "received_share": (_TO, "share of all fooled images that become the class", "1"),
    "component": (_FROM, "number of the connected component", "1"),
    "components_with_edges": ((), "connected components that have an edge", "1"),
    "effective_labels": ((), "inverse chance that two fooled images get one label", "1"),
    "uniform_effective_labels": (("draw",), "the same of labels drawn uniformly", "1"),
    "dominant_labels": (("share",), "labels that receive the share of the fooled images", "1"),
}


def label_graph(
    prediction: Any,
    label: Any,
    class_names: Sequence[str],
    least_share: float = 0.0,
    draws: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """The graph of labels that a perturbation draws ("Universal adversarial perturbations", §3.3).

    There is an edge from class i to the class that most of its fooled images become, if these are
    more than `least_share` of all images of class i; the paper draws edges of majorities (0.5).

    Args:
        prediction: (N,) classes predicted at the clean images.
        label: (N,) classes predicted under the perturbation.
        class_names: one name per class.
        least_share: see above.
        draws: times that every fooled image gets a label drawn uniformly from the other classes.
        seed: of the draws.

    Returns:
        Dataset over from_class and to_class: `count` (from_class, to_class), the images of each
        kind, unchanged ones on the diagonal; `edge` (from_class), the class number that the edge
        goes to, -1 for none, and `edge_share` (from_class), the share of the class' images
        that take it; `received_share` (to_class), the share of all fooled images that become this
        class; `component` (from_class), numbers of the weakly connected components, classes
        without any edge being components of their own; `components_with_edges`; `dominant_labels`
        (share), how many labels receive 50, 80 and 95 % of the fooled images. `effective_labels`,
        one over the share of the pairs of fooled images that get the same label, infinite where
        none does, and `uniform_effective_labels` (draw), the same of uniform labels.

    Raises:
        InputError: arrays of different shapes, classes without a name, least_share outside [0, 1).
    """
    source, target = _classes(prediction, label, len(class_names))
    check_counts(draws=draws)
    if not 0 <= least_share < 1:
        raise InputError(f"least_share={least_share} must lie in [0, 1).")
    classes = len(class_names)
    count = np.bincount(source * classes + target, minlength=classes**2).reshape(classes, classes)
    moved = count - np.diag(np.diag(count))
    present = np.maximum(count.sum(1), 1)
    edge, share = moved.argmax(1), moved.max(1) / present
    drawn = (moved.max(1) > 0) & (share > least_share)
    edge, share = np.where(drawn, edge, -1), np.where(drawn, share, 0.0)
    starts = np.flatnonzero(drawn)
    # Graphs of SciPy 1.11 take no longer numbers.
    where = (starts.astype(np.int32), edge[starts].astype(np.int32))
    graph = csr_array((np.ones(len(starts)), where), shape=(classes, classes))
    _, component = connected_components(graph, directed=True, connection="weak")
    received = moved.sum(0) / max(moved.sum(), 1)
    cumulated = np.sort(received)[::-1].cumsum()
    shares = np.array([0.5, 0.8, 0.95])
    # The last sum of shares may round to just below 1.
    dominant = [int((cumulated < s - 1e-12).sum()) + 1 if moved.any() else 0 for s in shares]
    names = np.asarray(list(class_names), dtype=np.str_)
    values = {
        "from_class": names,
        "to_class": names,
        "share": shares,
        "count": count,
        "edge": edge,
        "edge_share": share,
        "received_share": received,
        "component": component.astype(np.int64),
        "components_with_edges": len(np.unique(component[starts])),
        "effective_labels": _effective(moved.sum(0)[None])[0],
        "uniform_effective_labels": _uniform(source[source != target], classes, draws, seed),
        "dominant_labels": dominant,
    }
    return described(SCHEMA, values)


def _effective(count: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) inverse share of pairs of different images with one label, of counts (n, classes).

    The share is unbiased whatever the number of images; NaN below two images.
    """
    total = count.sum(1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total * (total - 1) / (count * (count - 1)).sum(1))


def _uniform(source: NDArray[np.int64], classes: int, draws: int, seed: int) -> NDArray[np.float64]:
    """(draws,) effective labels where each fooled image gets any other class alike."""
    if classes < 2:
        return np.full(draws, np.nan)
    steps = np.random.default_rng(seed).integers(1, classes, size=(draws, len(source)))
    labels = (source + steps) % classes
    return _effective(np.stack([np.bincount(row, minlength=classes) for row in labels]))


def _classes(
    prediction: Any, label: Any, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    source, target = np.asarray(prediction), np.asarray(label)
    if source.ndim != 1 or source.shape != target.shape or len(source) == 0:
        raise InputError(
            f"prediction and label have shapes {source.shape} and {target.shape}: give the classes "
            "of the same images, (N,) each, at least one."
        )
    for name, array in (("prediction", source), ("label", target)):
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= classes:
            raise InputError(
                f"{name} must hold whole numbers from 0 to {classes - 1}, one of the "
                f"{classes} class_names each; found {array.dtype} from {array.min()} to "
                f"{array.max()}."
            )
    return source.astype(np.int64), target.astype(np.int64)

"""Which label turns into which under a perturbation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from geomadv.errors import InputError
from geomadv.labels import variable


def label_graph(
    prediction: Any, label: Any, class_names: Sequence[str], least_share: float = 0.0
) -> xr.Dataset:
    """The graph of labels that a perturbation draws ("Universal adversarial perturbations", §3.3).

    There is an edge from class i to the class that most of its fooled images become, if these are
    more than `least_share` of all images of class i; the paper draws edges of majorities (0.5).

    Args:
        prediction: (N,) classes predicted at the clean images.
        label: (N,) classes predicted under the perturbation.
        class_names: one name per class.
        least_share: see above.

    Returns:
        Dataset over from_class and to_class: `count` (from_class, to_class), the images of each
        kind, unchanged ones on the diagonal; `edge` (from_class), the class number that the edge
        goes to, -1 for none, and `edge_share` (from_class), the share of the class' images
        that take it; `received_share` (to_class), the share of all fooled images that become this
        class; `component` (from_class), numbers of the weakly connected components, classes
        without any edge being components of their own; `components_with_edges`; `dominant_labels`
        (share), how many labels receive 50, 80 and 95 % of the fooled images.

    Raises:
        InputError: arrays of different shapes, classes without a name, least_share outside [0, 1).
    """
    source, target = _classes(prediction, label, len(class_names))
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
    graph = csr_array((np.ones(len(starts)), (starts, edge[starts])), shape=(classes, classes))
    _, component = connected_components(graph, directed=True, connection="weak")
    received = moved.sum(0) / max(moved.sum(), 1)
    cumulated = np.sort(received)[::-1].cumsum()
    shares = np.array([0.5, 0.8, 0.95])
    # The last sum of shares may round to just below 1.
    dominant = [int((cumulated < s - 1e-12).sum()) + 1 if moved.any() else 0 for s in shares]
    ds = xr.Dataset(
        {
            "count": variable(("from_class", "to_class"), count, "images"),
            "edge": variable("from_class", edge, "class that most fooled images become, or -1"),
            "edge_share": variable("from_class", share, "share of the class' images on the edge"),
            "received_share": variable(
                "to_class", received, "share of all fooled images that become the class"
            ),
            "component": variable(
                "from_class", component.astype(np.int64), "number of the connected component"
            ),
            "components_with_edges": variable(
                (), len(np.unique(component[starts])), "connected components that have an edge"
            ),
            "dominant_labels": variable(
                "share", dominant, "labels that receive the share of the fooled images"
            ),
        }
    )
    names = np.asarray(list(class_names), dtype=np.str_)
    ds.coords["from_class"] = variable("from_class", names, "class predicted at the clean image")
    ds.coords["to_class"] = variable("to_class", names, "class predicted under the perturbation")
    ds.coords["share"] = variable("share", shares, "share of the fooled images")
    return ds


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

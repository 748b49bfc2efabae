"""What a network predicts: the scores of images and whether they are right."""

import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.images import ImageSet
from geomadv.labels import Schema, described

_BATCH = 256

SCHEMA: Schema = {
    "score": (("sample", "class"), "class score (logit)", "1"),
    "true_label": (("sample",), "true class", "1"),
    "correct": (("sample",), "predicted class is the true one", "1"),
    "class": (("class",), "class", "1"),
}


@torch.no_grad()
def predictions(net: Classifier, images: ImageSet, *, batch_size: int | None = None) -> xr.Dataset:
    """Scores, true labels and correctness of labelled images.

    Args:
        net: the network.
        images: labelled images, ImageSet.
        batch_size: images per pass; default 256.

    Returns:
        Dataset over sample and class: `score` (sample, class); `true_label` and `correct` (sample).

    Raises:
        InputError: images that the network does not take, or without labels.
    """
    labels = images.labels
    size = _BATCH if batch_size is None else batch_size
    scores = torch.cat([net(part).cpu() for part in images.batches(size)])
    values = {
        "score": scores,
        "true_label": labels,
        "correct": scores.argmax(1) == labels,
        "class": list(net.class_names),
    }
    return described(SCHEMA, values)

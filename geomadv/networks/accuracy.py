"""How often a network is right."""

from geomadv.classifier import Classifier
from geomadv.classifier.checks import check_known
from geomadv.images import ImageSet
from geomadv.progress import tqdm


def accuracy(
    net: Classifier, images: ImageSet, batch_size: int = 256, progress: bool = False
) -> float:
    """Share of images whose predicted class is their label, from 0 to 1.

    Args:
        net: the network.
        images: images with labels.
        batch_size: images read at a time, and at most evaluated at a time; a large network gets
            fewer. The result does not depend on it.
        progress: show a bar.

    Raises:
        InputError: batch_size < 1, images without labels or that the network does not take, or
            labels beyond its classes.
    """
    evaluated = min(batch_size, net.batch_size())
    right = 0
    with tqdm(total=len(images), desc=f"accuracy of {net.name}", disable=not progress) as bar:
        for batch in images.batches(batch_size):
            labels = batch.labels
            check_known(net, labels, f"images {images.name!r} have label")
            right += int((net.predict(batch, evaluated).cpu() == labels).sum())
            bar.update(len(batch))
    return right / len(images)

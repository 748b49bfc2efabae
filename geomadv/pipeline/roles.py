"""Which images an experiment may not be given: without labels, or held out and seen before."""

from collections.abc import Sequence

from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.pipeline.computing import Images, Say
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.study import Study


def check_labels(experiment: Experiment, images: Images) -> None:
    """Refuses images without labels where the experiment needs their classes."""
    for role, part in images.items():
        sample = experiment.images[role]
        if sample.labels and part is not None and not part.has_labels:
            raise InputError(
                f"image set {part.name!r} has no labels, and {experiment.name} needs those of "
                f"split {sample.split}. Give them, as ImageSet(images, labels) or in the file or "
                "folder of --images, or run experiments that need none."
            )


def of_split(experiment: Experiment, images: Images, split: str) -> list[ImageSet]:
    """The images that an experiment takes from a split."""
    return [p for role, p in images.items() if p and experiment.images[role].split == split]


def check_held_out(
    study: Study, name: str, held_out: Sequence[ImageSet], sample: Sequence[ImageSet], say: Say
) -> None:
    """Refuses images of split test that are among those of split train, its own or its inputs'.

    Copies within a published data set are told and kept: others use its splits as they are.
    """
    for test in held_out:
        copies = max((study.common(t, test) for t in sample), default=0)
        found = f"{copies} of the {len(test)} images {test.name!r} that {name} holds out"
        if copies and study.published:
            say(f"note: {found} are in its sample, too: the data set has copies")
        elif copies:
            raise InputError(
                f"{found} (split test) are in the sample (split train), too. Give test images "
                "that are none of the train images: another set as --test-images, or one set "
                "as --images, which is divided in two; and remove copies of images from it."
            )

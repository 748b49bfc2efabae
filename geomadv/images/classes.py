"""Class numbers of two sides, images and network or two image sets, found by the classes' names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from geomadv.errors import InputError
from geomadv.images.imageset import ImageSet, listed

# One line a class, in the order of ImageNet-1k's numbers: WordNet's synset, name.
_IMAGENET = Path(__file__).with_name("imagenet_classes.txt")
# Lists of ImageNet's names differ in some: "crane" and "crane bird".
_ALIKE = 0.9
_SHOWN = 5


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Synset and name of each class of ImageNet-1k, in the order of its numbers."""
    lines = _IMAGENET.read_text(encoding="utf-8").splitlines()
    return tuple((synset, name) for synset, _, name in (line.partition(" ") for line in lines))


def numbered(images: ImageSet, names: Sequence[str], whose: str) -> ImageSet:
    """The images with the class numbers of another side, and a note on how they were found.

    Names are compared without regard to case and underscores, each of several that commas divide;
    classes may be called by the numbers themselves, or by ImageNet's synsets. Numbers stand where
    either side knows no names; a network of a thousand classes knows ImageNet's.

    Args:
        images: labelled or not; those without labels come back as they are.
        names: of the classes of the other side; "0", "1", ... where it knows none.
        whose: these are, in words: "network 'mine'".

    Raises:
        InputError: a class of the images cannot be found on the other side, or not once.
    """
    own = images.class_names
    if not images.has_labels or own == tuple(names):
        return images
    present = {k: own[k] for k in sorted(set(images.labels.tolist()))}
    if _plain(own):
        if max(present) >= len(names):
            raise _unknown(images, names, whose, present, {})
        return images
    found, how = _found(present, own, names)
    if len(found) < len(present):
        raise _unknown(images, names, whose, present, found)
    if _plain(names) and all(k == number for k, number in found.items()):
        names = own
    shown = [f"{own[k]} = {number}" for k, number in list(found.items())[:_SHOWN]]
    more = " ..." if len(found) > _SHOWN else ""
    note = f"classes matched by {how}: {', '.join(shown)}{more}"
    return images.relabelled([found[k] for k in images.labels.tolist()], names, note)


def _found(
    present: Mapping[int, str], own: Sequence[str], names: Sequence[str]
) -> tuple[dict[int, int], str]:
    """The other side's number of each class that has one there, and how they were found."""
    imagenet = len(names) == len(imagenet_classes()) and (_plain(names) or _is_imagenet(names))
    if imagenet and _is_imagenet(own):
        return {k: k for k in present}, "ImageNet's order"
    synsets = {synset: k for k, (synset, _) in enumerate(imagenet_classes())}
    if imagenet and all(name in synsets for name in present.values()):
        return {k: synsets[name] for k, name in present.items()}, "ImageNet's synsets"
    by_name = _by_name(present, [name for _, name in imagenet_classes()] if imagenet else names)
    if len(by_name) == len(present) and (imagenet or not _plain(names)):
        return by_name, "name"
    if all(name.isdecimal() and int(name) < len(names) for name in present.values()):
        return {k: int(name) for k, name in present.items()}, "the numbers they are called by"
    called_by_numbers = any(name.isdecimal() for name in own)
    if _plain(names) and not (imagenet or called_by_numbers) and max(present) < len(names):
        return {k: k for k in present}, "their order, as the network names none"
    return by_name, "name"


def _by_name(present: Mapping[int, str], names: Sequence[str]) -> dict[int, int]:
    numbers = {k: _matches(name, names) for k, name in present.items()}
    found = {k: number[0] for k, number in numbers.items() if number}
    taken = Counter(found.values())
    return {k: number for k, number in found.items() if taken[number] == 1}


def _matches(name: str, names: Sequence[str]) -> list[int]:
    """The one class of that name, if there is one only; a whole name goes before its parts."""
    for split in (False, True):
        words = _words(name, split)
        numbers = [k for k, other in enumerate(names) if words & _words(other, split)]
        if numbers:
            return numbers if len(numbers) == 1 else []
    return []


@cache
def _words(name: str, split: bool) -> frozenset[str]:
    parts = name.split(",") if split else [name]
    return frozenset(" ".join(part.lower().replace("_", " ").split()) for part in parts)


def _plain(names: Sequence[str]) -> bool:
    """Whether classes are called by their numbers only."""
    return all(name == str(k) for k, name in enumerate(names))


def _is_imagenet(names: Sequence[str]) -> bool:
    known = imagenet_classes()
    if len(names) != len(known):
        return False
    alike = sum(
        name == synset or bool(_words(name, True) & _words(usual, True))
        for name, (synset, usual) in zip(names, known, strict=True)
    )
    return alike >= _ALIKE * len(known)


def _unknown(
    images: ImageSet,
    names: Sequence[str],
    whose: str,
    present: Mapping[int, str],
    found: Mapping[int, int],
) -> InputError:
    pairs = [
        f"{name} = {names[found[k]] if k in found else '?'}"
        for k, name in sorted(present.items(), key=lambda pair: pair[0] in found)
    ]
    theirs = f"{len(names)} classes without names" if _plain(names) else listed(names, 2 * _SHOWN)
    return InputError(
        f"image set {images.name!r} has {len(present)} classes, which are not found, or not once, "
        f"among those of {whose} ({theirs}): {listed(pairs, 2 * _SHOWN)}. Call the folders (or "
        "class_names, or the column name of labels.csv) as the classes there, or by their numbers "
        "there; where both sides count alike, take the numbers as they are "
        "(--by-number, or no class_names)."
    )

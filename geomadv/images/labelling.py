"""Which files of a folder are images of which split, and of which class of the one class list."""

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geomadv.errors import InputError
from geomadv.files.kinds import broken_link
from geomadv.images.imageset import MOST_CLASSES

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
LABELS = "labels.csv"
# Tiny-ImageNet's layout: images lie one folder deeper, and a table in the folder of a split names
# their classes.
_DEEPER = "images"
_ANNOTATIONS = "*_annotations.txt"

# In the order in which they are taken for the split; the first that has labels.
_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
# What notebooks, systems and archives leave behind.
_LEFT_BEHIND = (".", "__MACOSX", "__pycache__")


@dataclass(frozen=True)
class Listing:
    """Images of a folder.

    Attributes:
        files: relative to the folder of the data set, in order.
        labels: their classes, None where there are none.
        names: of all classes of the data set, None without labels.
    """

    files: list[str]
    labels: list[int] | None
    names: list[str] | None


@dataclass(frozen=True)
class Part:
    """What one folder holds: of the data set, or of one of its splits."""

    folder: Path
    place: Path  # where images without labels lie
    files: list[Path]
    classes: list[str] | list[int] | None
    known: frozenset[str] = frozenset()  # class folders, empty ones too
    numbered: Mapping[int, str] | None = None  # names that labels.csv gives


def scan(root: Path) -> dict[str, Part]:
    """What a folder holds of the splits train and test; of a set with one split: of `all`.

    Raises:
        InputError: folders that are no classes, or tables that do not fit.
    """
    try:
        if (root / LABELS).is_file():
            return _by_first_folder(_from_csv(root), root)
        dirs = _visible_folders(root)
        found = {
            split: [d for word in words for d in dirs if d.name.lower() == word]
            for split, words in _WORDS.items()
        }
        if found["train"] and found["test"]:
            return {split: _preferred(folders) for split, folders in found.items()}
        single = found["train"] or found["test"]
        # A class may be called train: beside others it is one.
        return {"all": _preferred(single if single and len(single) == len(dirs) else [root])}
    except OSError as error:
        raise InputError(f"folder {root} cannot be read ({error}). Check its rights.") from error


def listing(root: Path, parts: Mapping[str, Part], split: str) -> Listing:
    """The images of one of the parts of a `scan`, numbered by the class list of the whole data set.

    The class list is that of `labels.csv` (columns file, class_index and, optionally, name), else
    the sorted names of the class folders of all splits and of the classes that Tiny-ImageNet's
    `val_annotations.txt` names. An empty class folder keeps its number; hidden folders are none.

    Raises:
        InputError: no images, or images without classes where others have some.
    """
    part = parts[split]
    if not part.files:
        raise InputError(
            f"folder {part.folder} has no images. Expected one sub-folder of images per class, "
            f"images with a {LABELS} (columns file, class_index, name), or images alone "
            f"({', '.join(SUFFIXES)})."
        )
    inside = [p.relative_to(root) if p.is_relative_to(root) else p for p in part.files]
    files = [path.as_posix() for path in inside]
    if part.classes is None:
        if part.place != part.folder or any(p.classes is not None for p in parts.values()):
            raise _without_classes(part)
        return Listing(files, None, None)
    names = _class_list(root, list(parts.values()))
    number = {name: k for k, name in enumerate(names)}
    return Listing(files, [c if isinstance(c, int) else number[c] for c in part.classes], names)


def _preferred(folders: list[Path]) -> Part:
    parts = [_part(folder) for folder in folders]
    return next((part for part in parts if part.classes is not None), parts[0])


def _by_first_folder(whole: Part, root: Path) -> dict[str, Part]:
    """The splits of a table whose files all lie in the folders of the two; else one split."""
    first = [p.relative_to(root).parts[0].lower() for p in whole.files if p.is_relative_to(root)]
    parts = {}
    for split, words in _WORDS.items():
        chosen = [i for i, word in enumerate(first) if word in words]
        labels: list[Any] = [(whole.classes or [])[i] for i in chosen]
        parts[split] = replace(whole, files=[whole.files[i] for i in chosen], classes=labels)
    divided = all(part.files for part in parts.values())
    complete = sum(len(part.files) for part in parts.values()) == len(whole.files)
    return parts if divided and complete else {"all": whole}


def _without_classes(part: Part) -> InputError:
    deeper = part.place != part.folder
    alone = f" For images without labels give the folder {part.place} itself." if deeper else ""
    return InputError(
        f"folder {part.place} holds {len(part.files)} images of unknown classes. Sort them into "
        f"one folder per class below {part.folder}, or name the classes in {part.folder / LABELS} "
        "(columns file, class_index, name) or, as Tiny-ImageNet does, in "
        f"{part.folder / 'val_annotations.txt'} (file and class in each line).{alone}"
    )


def _class_list(root: Path, parts: list[Part]) -> list[str]:
    """The names of all classes, of whatever split."""
    known = sorted(frozenset().union(*(part.known for part in parts)))
    names = dict(enumerate(known))
    most = max((c for p in parts for c in p.classes or () if isinstance(c, int)), default=-1)
    if known and most >= len(known):
        raise InputError(
            f"{LABELS} in {root} numbers classes up to {most}, but class folders give "
            f"{len(known)}: label all splits in the same way."
        )
    for part in parts:
        for number, name in (part.numbered or {}).items():
            if names.setdefault(number, name) != name:
                raise InputError(
                    f"class {number} is {name!r} in {part.folder / LABELS}, but {names[number]!r} "
                    f"in the other split of {root}: number the classes of both splits alike."
                )
    return [names.get(k, str(k)) for k in range(max(most + 1, len(known)))]


# One folder


def _part(folder: Path) -> Part:
    if (folder / LABELS).is_file():
        return _from_csv(folder)
    folders, direct = _visible_folders(folder), _images(folder)
    annotated = sorted(folder.glob(_ANNOTATIONS))
    deeper = folder / _DEEPER
    if annotated and (images := _images(deeper) or direct):
        return _from_annotations(folder, annotated[0], images)
    if [f.name for f in folders] == [_DEEPER] and not direct:
        return Part(folder, deeper, _images(deeper), None)
    groups = {f.name: _of_class(f) for f in folders if not direct or _has_images(f)}
    if direct and groups:
        raise InputError(
            f"folder {folder} holds {len(direct)} images (the first is {direct[0].name!r}) beside "
            f"folders of images ({_some(groups)}): are these classes? Sort all images into class "
            f"folders, move some away, or write a {LABELS} (columns file, class_index, name)."
        )
    if not any(groups.values()):
        return Part(folder, folder, direct, None, frozenset(groups))
    pairs = [(path, name) for name, paths in groups.items() for path in paths]
    files, classes = [path for path, _ in pairs], [name for _, name in pairs]
    return Part(folder, folder, files, classes, frozenset(groups))


def _of_class(folder: Path) -> list[Path]:
    """The images of a class; an empty folder has none, one of other things is no class."""
    files = [*_images(folder), *_images(folder / _DEEPER)]
    others = [f for f in _visible_folders(folder) if f.name != _DEEPER and _has_images(f)]
    if others or (not files and any(not _hidden(p.name) for p in folder.iterdir())):
        found = (
            f"images in the folder {others[0].name!r} below it"
            if others
            else "other files but no images"
        )
        raise InputError(
            f"folder {folder} should be a class, but has {found}. Expected images "
            f"({', '.join(SUFFIXES)}) directly in one folder per class: move them there, move away "
            f"what is no class, or write a {LABELS} (columns file, class_index, name) in "
            f"{folder.parent}. A folder with nothing in it is a class without images."
        )
    return files


def _has_images(folder: Path) -> bool:
    return any(_is_image(name) for _, _, names in os.walk(folder) for name in names)


def _hidden(name: str) -> bool:
    return name.startswith(_LEFT_BEHIND)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, but for what is hidden.

    Raises:
        InputError: a link leads nowhere: an image, or a class and its number, would be missing.
    """
    with os.scandir(folder) as entries:
        found = sorted((e for e in entries if not _hidden(e.name)), key=lambda e: e.name)
    for entry in found:
        if entry.is_symlink() and (error := broken_link(Path(entry.path), "the image or class")):
            raise error
    return found


def _visible_folders(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in _entries(folder) if entry.is_dir()]


def _images(folder: Path) -> list[Path]:
    """The images directly in a folder, by name."""
    if not folder.is_dir():
        return []
    return [folder / e.name for e in _entries(folder) if _is_image(e.name) and e.is_file()]


def _some(names: Iterable[str]) -> str:
    first, *rest = [repr(name) for name in names]
    return f"{first} and {len(rest)} more" if rest else first


# Tables


def _from_annotations(folder: Path, table: Path, images: list[Path]) -> Part:
    """Tiny-ImageNet's validation images: each line holds file, class and a box, behind tabs."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is no readable text ({error}). Save it as UTF-8.") from error
    rows = [line.split("\t" if "\t" in line else None) for line in lines if line.strip()]
    classes = {row[0]: row[1] for row in rows if len(row) > 1}
    there = {path.name for path in images}
    missing = [name for name in there if name not in classes]
    absent = [name for name in classes if name not in there]
    if len(classes) < len(rows) or missing or absent:
        raise InputError(
            f"{table} does not fit the images beside it: {len(missing)} images are not in it, "
            f"{len(absent)} of its images are not there, {len(rows) - len(classes)} lines are of "
            "another form than file and class, or repeated. Copy the folder again."
        )
    names = [classes[path.name] for path in images]
    return Part(folder, folder, images, names, frozenset(names))


def _from_csv(folder: Path) -> Part:
    path = folder / LABELS
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or [], list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no readable table ({error}). Write it as CSV.") from error
    if not {"file", "class_index"} <= set(columns) or not rows:
        raise InputError(
            f"{path} has {len(rows)} rows and the columns {', '.join(columns)}; expected one row "
            "per image with the columns file, class_index and, optionally, name."
        )
    labels = [_class_index(row["class_index"], path, line) for line, row in enumerate(rows, 2)]
    files = [folder / str(row["file"]) for row in rows]
    absent = [row["file"] for row, file in zip(rows, files, strict=True) if not file.is_file()]
    if absent:
        raise InputError(
            f"{path} lists {len(absent)} images that are not there, the first is {absent[0]!r}. "
            "Add the images beside it or remove their lines."
        )
    names: dict[int, str] = {}
    for line, (label, row) in enumerate(zip(labels, rows, strict=True), 2):
        name = row.get("name") or names.get(label)
        if name and names.setdefault(label, name) != name:
            raise InputError(
                f"{path}, line {line}: class {label} is called {name!r} here and "
                f"{names[label]!r} above. Give each class one name."
            )
    return Part(folder, folder, files, labels, numbered=names)


def _class_index(text: str | None, path: Path, line: int) -> int:
    digits = (text or "").strip()
    if not digits.isdecimal() or len(digits) > 20 or int(digits) >= MOST_CLASSES:
        raise InputError(
            f"{path}, line {line}: class_index is {text!r}; expected an integer from 0 to "
            f"{MOST_CLASSES - 1}."
        )
    return int(digits)

"""Everything that reads bytes which others wrote: how a file of it is made, and how it is read."""

import contextlib
import csv
import gzip
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import torch
import xarray as xr
from faults import study
from faults.edits import edited
from faults.mutants import damaged
from faults.study import run_command
from PIL import Image
from published_formats import FORMATS, drawn
from safetensors.torch import save_file
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from geomadv.files import seals
from geomadv.files.download import RemoteFile
from geomadv.images import ImageSet, load_images
from geomadv.linalg import checkpoint, extreme_eigenpairs
from geomadv.networks import NetworkSpec
from geomadv.networks.cache import _digest, check_cached
from geomadv.networks.fitting import put_weights
from geomadv.networks.pretrained import _converted, tensors_sha256
from geomadv.networks.spec import Pretrained
from geomadv.networks.weights import read_checkpoint
from geomadv.results import Store, files, load, provenance, save, unfinished

GREY = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 3


@dataclass(frozen=True)
class Subject:
    """A reader.

    Attributes:
        make: writes what it reads into a folder; gives the files that are damaged in turn.
        read: reads it; gives how many bytes it decoded. Where checksums stand behind a file,
            values other than those that were written raise an error.
        share: of the mutants, relative to others: 1 for readers of a millisecond.
        damage: changes a file in place; default: its bytes.
        works: whether it does more than read, such as drawing: what that takes undamaged is not
            counted.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], int]
    share: float = 1.0
    damage: Callable[[Path, random.Random], None] = damaged
    works: bool = False


def _bytes_of(images: ImageSet) -> int:
    return images.images.nbytes


# Images


def _idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _mnist(folder: Path, packed: bool) -> list[Path]:
    paths = []
    for stem, n in (("train", 12), ("t10k", 6)):
        for kind, array in (
            ("images-idx3", GREY[:n]),
            ("labels-idx1", LABELS[:n].astype(np.uint8)),
        ):
            path = folder / f"{stem}-{kind}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(_idx(array)) if packed else _idx(array))
            paths.append(path)
    return paths


def _cifar(folder: Path, packed: bool) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    content = np.concatenate([np.arange(4, dtype=np.uint8)[:, None], pixels], 1).tobytes()
    paths = [folder / f"{stem}.bin{'.gz' * packed}" for stem in ("data_batch_1", "test_batch")]
    for path in paths:
        path.write_bytes(gzip.compress(content) if packed else content)
    return paths


def _pickled(folder: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    batch = {b"data": pixels, b"labels": [0, 1, 2, 3], b"filenames": [b"a.png"] * 4}
    meta = {b"label_names": [f"class {k}".encode() for k in range(10)]}
    paths = [folder / name for name in ("data_batch_1", "test_batch", "batches.meta")]
    for path, content in zip(paths, (batch, batch, meta), strict=True):
        path.write_bytes(pickle.dumps(content, protocol=2))
    return paths


def _npz(folder: Path, packed: bool) -> list[Path]:
    path = folder / "images.npz"
    write = np.savez_compressed if packed else np.savez
    write(path, images=COLOUR, labels=LABELS, class_names=np.array(["a", "b", "c"]))
    return [path]


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "images.npy", COLOUR / np.float32(255))
    return [folder / "images.npy"]


def _h5(folder: Path) -> list[Path]:
    path = folder / "images.h5"
    with h5py.File(path, "w") as file:
        file["images"] = COLOUR
        file["images"].attrs["scale_factor"] = 1 / 255
        file.create_dataset("labels", data=LABELS, chunks=(4,), compression="gzip")
        file["class_names"] = np.array([b"a", b"b", b"c"])
    return [path]


def _h5_texts(folder: Path) -> list[Path]:
    path = folder / "images.h5"
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = COLOUR, LABELS
        file["class_names"] = ["a", "b", "c"]
    return [path]


def _picture(suffix: str, folder: Path, **options: Any) -> list[Path]:
    pixels = COLOUR[0].transpose(1, 2, 0)
    image = Image.fromarray(pixels if suffix != "pgm" else pixels[:, :, 0])
    image.save(folder / f"image.{suffix}", **options)
    return [folder / f"image.{suffix}"]


def _read_picture(suffix: str, folder: Path) -> int:
    size = max(1, _promised(folder / f"image.{suffix}"))
    load_images(folder / f"image.{suffix}", split="all", size=6).images  # noqa: B018
    return size


def _promised(path: Path) -> int:
    """Bytes of the pixels that a header states; Pillow refuses more than a known number."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        return 4 * image.width * image.height
    return 0


def _table(folder: Path) -> list[Path]:
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class_index", "name"])
        for k in range(4):
            Image.fromarray(GREY[k]).save(folder / f"{k}.png")
            table.writerow([f"{k}.png", k % 2, "ab"[k % 2]])
    return [folder / "labels.csv"]


def _tiny_imagenet(folder: Path) -> list[Path]:
    lines = []
    for split in ("train/n01", "train/n02", "val"):
        (folder / split / "images").mkdir(parents=True)
        for k in range(2):
            Image.fromarray(COLOUR[k].transpose(1, 2, 0)).save(folder / split / f"images/{k}.png")
            lines.append(f"{k}.png\tn0{k + 1}\t0\t0\t62\t62\n")
    (folder / "val/val_annotations.txt").write_text("".join(lines[-2:]))
    return [folder / "val/val_annotations.txt"]


def _named(name: str, folder: Path) -> int:
    return _bytes_of(load_images(folder / name if name else folder, split="all"))


# Weights


@cache
def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))


def _weights(folder: Path, how: str) -> list[Path]:
    path, state = folder / "weights.pt", _net().state_dict()
    if how == "safetensors":
        save_file(state, path)
    elif how == "beside":
        torch.save({"net": state, "epoch": 3, "args": {"lr": 0.1, "mean": [0.5]}}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
    return [path]


def _read_weights(folder: Path) -> int:
    found = read_checkpoint(folder / "weights.pt")
    put_weights(_net(), found, "net", channels=1)
    return _held({name: entry.value for name, entry in found.entries.items()})


def _held(tensors: dict[str, Tensor]) -> int:
    return sum(value.nbytes for value in tensors.values())


def _published(folder: Path, kind: str) -> list[Path]:
    write, build, *_ = FORMATS[kind]
    write(folder, drawn(build))
    return [*folder.iterdir()]


def _read_published(folder: Path, kind: str) -> int:
    """Other tensors than the published ones are refused: what it gives is right."""
    _, build, read, inside = FORMATS[kind]
    state, remote = drawn(build), (RemoteFile("https://x/w"),)
    weights = Pretrained("w", tensors_sha256(state), "x", "CC0", remote, inside, read)
    spec = NetworkSpec("w", build, "digits", (1, 8, 8), None, None, "small", weights=weights)
    return _held(_converted(spec, weights, read, folder))


def _cached(folder: Path) -> list[Path]:
    metadata, state = {"network": "net", "seed": "0"}, _net().state_dict()
    metadata["sha256"] = _digest(state, metadata)
    save_file(state, folder / "net.safetensors", metadata)
    return [folder / "net.safetensors"]


def _read_cached(folder: Path) -> int:
    entries = check_cached(folder / "net.safetensors")[0].entries
    torch.testing.assert_close({n: e.value for n, e in entries.items()}, {**_net().state_dict()})
    return _held({name: entry.value for name, entry in entries.items()})


# Results and unfinished work

_CONFIG = {"experiment": "e", "seed": 1}


def _result() -> xr.Dataset:
    label = {"long_name": "number", "units": "1"}
    values = np.random.default_rng(0).random((30, 20))
    return xr.Dataset({"a": (("sample", "pixel"), values, label)}, {"class": ["zero", "one"]})


def _h5_result(folder: Path, sealed: bool) -> list[Path]:
    path = save(_result(), folder / "e.h5", provenance(_CONFIG, config=_CONFIG))
    if not sealed:  # as of before there were seals
        path.write_bytes(path.read_bytes()[: -seals._LENGTH])
        with h5py.File(path, "r+") as file:
            del file.attrs[files._SEALED]
    return [path]


def _read_result(folder: Path, sealed: bool) -> int:
    return _as_written(load(folder / "e.h5"), sealed)


def _as_written(ds: xr.Dataset, sealed: bool) -> int:
    if sealed and not ds.equals(_result()):
        raise AssertionError(f"other values than were written: {ds}")
    return ds.nbytes


def _area(folder: Path) -> list[Path]:
    with Store(folder / "e.h5", _CONFIG, memo={"count": 3}) as store:
        store("part", _result)
        return [store.folder / "part-part.bin", store.folder / "manifest.json"]


def _read_area(folder: Path) -> int:
    unfinished(folder / "e.h5")
    with Store(folder / "e.h5", _CONFIG, memo={"count": 3}) as store:
        return _as_written(store("part", _result), sealed=True)


class _Stop(BaseException):
    """Ends a solve as a signal would."""


def _solve(folder: Path) -> list[Path]:
    matrix, products = np.diag(np.arange(40.0)), iter(range(12))

    def multiplied(v: np.ndarray) -> np.ndarray:
        if next(products, None) is None:
            raise _Stop
        return matrix @ v

    operator = LinearOperator(matrix.shape, multiplied, matmat=multiplied, dtype=matrix.dtype)
    with (
        mock.patch.multiple(checkpoint, _INTERVAL=0.0, _SPARE=0),
        contextlib.suppress(_Stop),
    ):
        extreme_eigenpairs(operator, 3, checkpoint=folder / "state.npz")
    return [folder / "state.npz"]


def _read_solve(folder: Path) -> int:
    pairs = extreme_eigenpairs(np.diag(np.arange(40.0)), 3, checkpoint=folder / "state.npz")
    np.testing.assert_allclose(pairs.values, [39, 38, 37, 2, 1, 0], atol=1e-8)
    return 0


# Flags

_VALUES = (
    *("-1", "0", "1", "2", "99999999999999999999", "1e999", "nan", "inf", "None", "", "gpu"),
    *("cuda:7", "cuda:-1", "meta", "cpu:3", "mps", "\x00", "é", "/", "../..", "true", "1 2 3"),
    *("digits", "digits-cnn", "lenet", "a:b", "torchvision:x", "hf:x", "x" * 3000, "1.5", "[1]"),
)
_FLAGS = (
    *("--device", "--seed", "--batch-size", "--memory", "--images", "--network", "--weights"),
    *("--size", "--mean", "--std", "--output", "--weights-key", "--test-images", "--progress"),
    *("--settings", "--also", "--grey", "--tf32", "--by-number", "--results", "--unknown"),
    *("--curvature.count", "--line-sweep.draws", "--universal.draws", "--boundary.count"),
)
_LATER = ("compare", "reproduce", "plan", "no")


def _command(folder: Path) -> list[Path]:
    path = folder / "flags.toml"
    path.write_text('seed = 1\nquiet = true\ndevice = "cpu"\nbatch_size = 64\n')
    (folder / "words.json").write_text(json.dumps(["check", "--settings", str(path)]))
    return [path]


def random_flags(draw: random.Random) -> list[str]:
    """A command line that shows what would be run, with flags and values that fit, or do not."""
    words = [
        draw.choice(
            ("check", "check", "list", "claims", "show", "verify", "figures", "report", *_LATER)
        )
    ]
    words += draw.choices(("curvature", "boundary", "line_sweep", "x"), k=draw.randrange(2))
    for _ in range(draw.randrange(1, 4)):
        words += [draw.choice(_FLAGS), *draw.choices(_VALUES, k=draw.choice((0, 1, 1, 1, 2)))]
    return words


def _read_command(folder: Path) -> int:
    return run_command(json.loads((folder / "words.json").read_text()))


def _words(folder: Path) -> list[Path]:
    (folder / "seed").write_text("0")
    return [folder / "seed"]


def _read_words(folder: Path) -> int:
    os.chdir(folder)
    draw = random.Random((folder / "seed").read_bytes())
    return run_command(random_flags(draw))


SUBJECTS: dict[str, Subject] = {
    "mnist": Subject(partial(_mnist, packed=False), partial(_named, "")),
    "mnist-gzip": Subject(partial(_mnist, packed=True), partial(_named, "")),
    "cifar": Subject(partial(_cifar, packed=False), partial(_named, "")),
    "cifar-gzip": Subject(partial(_cifar, packed=True), partial(_named, "")),
    "cifar-pickled": Subject(_pickled, partial(_named, "")),
    "npz": Subject(partial(_npz, packed=False), partial(_named, "images.npz")),
    "npz-deflated": Subject(partial(_npz, packed=True), partial(_named, "images.npz")),
    "npy": Subject(_npy, partial(_named, "images.npy")),
    "hdf5": Subject(_h5, partial(_named, "images.h5")),
    "hdf5-texts": Subject(_h5_texts, partial(_named, "images.h5"), 0.1),
    **{
        suffix: Subject(partial(_picture, suffix), partial(_read_picture, suffix), 0.5)
        for suffix in ("png", "jpg", "bmp", "webp", "ppm", "pgm", "tif", "gif")
    },
    "labels.csv": Subject(_table, partial(_named, "")),
    "annotations": Subject(_tiny_imagenet, partial(_named, "")),
    **{
        f"weights-{how}": Subject(partial(_weights, how=how), _read_weights)
        for how in ("zip", "legacy", "beside", "safetensors")
    },
    **{
        f"published-{kind}": Subject(
            partial(_published, kind=kind), partial(_read_published, kind=kind)
        )
        for kind in ("cascade", "pickled arrays", "keras", "tflite")
    },
    "network-cached": Subject(_cached, _read_cached),
    "result": Subject(partial(_h5_result, sealed=True), partial(_read_result, sealed=True)),
    "result-unsealed": Subject(
        partial(_h5_result, sealed=False), partial(_read_result, sealed=False), 0.1
    ),
    "unfinished": Subject(_area, _read_area),
    "eigensolve": Subject(_solve, _read_solve),
    "edited": Subject(study.make, study.read_one, 0.5, edited),
    "edited-figures": Subject(study.make, study.read_figures, 0.3, edited, works=True),
    "edited-pages": Subject(study.make, study.read_pages, 0.03, edited, works=True),
    "edited-again": Subject(study.make, study.run_again, 0.1, edited, works=True),
    "figures": Subject(
        partial(study.make, kind="/figures/*.[ph][nt]*"), study.read_pages, 0.02, works=True
    ),
    **{
        f"archive-{name}": Subject(partial(study.pack, name=name), partial(study.unpack, name=name))
        for name in ("a.zip", "a.tar.gz", "a.tar.xz")
    },
    "settings": Subject(_command, _read_command, 0.2),
    "flags": Subject(_words, _read_words, 0.2),
}


def prepared(name: str, folder: Path) -> list[Path]:
    """The files of a subject in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return SUBJECTS[name].make(folder)

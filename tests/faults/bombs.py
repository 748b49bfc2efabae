"""Small files that ask for much memory or time, and large ones: what reading each of them costs."""

import gzip
import io
import json
import pickle
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from faults.harness import peak_since
from numpy.lib import format
from PIL import Image

from geomadv.errors import InputError
from geomadv.files.pickled import read_pickled
from geomadv.images import load_images
from geomadv.images.formats import read_cifar, read_idx
from geomadv.networks.weights import read_checkpoint

_BLOCK, _BLOCKS = bytes(2**20), 240  # of zeros: above what a small file may cost


def _chunk(kind: bytes, data: bytes) -> bytes:
    content = kind + data
    return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))


def _png(path: Path, width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"0")), _chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _webp(path: Path) -> None:
    """A lossless one that ends behind its size."""
    size = struct.pack("<BI", 0x2F, 12000 - 1 | (12000 - 1) << 14) + bytes(40)
    chunk = b"VP8L" + struct.pack("<I", len(size)) + size + bytes(len(size) % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)


def _thin(path: Path) -> None:
    Image.new("RGB", (1, 4000), (9, 9, 9)).save(path)


def _header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    written = io.BytesIO()
    format.write_array_header_1_0(written, {"descr": dtype, "fortran_order": False, "shape": shape})
    return written.getvalue()


def _npz(path: Path, blocks: int = 0, **members: bytes) -> None:
    """An archive of arrays; the first of them is followed by zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(content)
                for _ in range(blocks):
                    file.write(_BLOCK)
            blocks = 0


def _many(path: Path) -> None:
    _npz(path, _BLOCKS, images=_header((_BLOCKS * 2**12, 1, 16, 16)))


def _names(path: Path) -> None:
    names = _header((_BLOCKS,), f"|S{2**20}")
    _npz(path, _BLOCKS, class_names=names, images=_header((1, 1, 2, 2)) + bytes(4))


def _labels(path: Path, label: int, dtype: str) -> None:
    np.savez(path, images=np.zeros((1, 1, 2, 2), np.uint8), labels=np.array([label], dtype))


def _idx(path: Path, count: int, blocks: int) -> None:
    head = b"\0\0\x08\x03" + struct.pack(">III", count, 8, 8)
    path.write_bytes(gzip.compress(head) + blocks * gzip.compress(_BLOCK))


def _cifar(path: Path) -> None:
    path.write_bytes(_BLOCKS * gzip.compress(b"\xff" * 2**20))


def _hdf5(path: Path, images: int, labels: int) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (images, 1, 8, 8), np.uint8)
        file.create_dataset("labels", (labels,), np.int64)


def _memo(path: Path) -> None:
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".")


def _packed_weights(path: Path) -> None:
    written = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, written)
    with (
        zipfile.ZipFile(written) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for info in old.infolist():
            new.writestr(
                info.filename, _BLOCKS * _BLOCK if "/data/" in info.filename else old.read(info)
            )


def _nested(path: Path) -> None:
    """Lists of the same list, which stand for 10^12 tensors."""
    content: Any = {"a": torch.zeros(1)}
    for _ in range(12):
        content = [content] * 10
    torch.save(content, path, pickle_module=pickle)


def _csv(path: Path) -> None:
    Image.new("L", (4, 4)).save(path.with_name("a.png"))
    path.write_text(f"file,class_index\na.png,{2**40}\n")


def _all(path: Path, **options: Any) -> int:
    return load_images(path, split="all", **options).images.nbytes


def _read_thin(path: Path) -> int:
    return _all(path, size=224)


def _entries(path: Path) -> int:
    return sum(entry.value.nbytes for entry in read_checkpoint(path).entries.values())


# Name -> file, how it is made, how it is read (giving bytes that were asked for), and whether it is
# to be refused.
BOMBS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any], bool]] = {
    "thin image": ("a.png", _thin, _read_thin, False),
    "picture of a header": ("a.png", partial(_png, width=13000, height=13000), _all, True),
    "webp of a header": ("a.webp", _webp, _all, True),
    "label 2^40": ("a.npz", partial(_labels, label=2**40, dtype="i8"), _all, True),
    "label 2^63": ("a.npz", partial(_labels, label=2**63, dtype="u8"), _all, True),
    "label 2^40 in a table": ("labels.csv", _csv, lambda path: _all(path.parent), True),
    "first of many in an npz": ("a.npz", _many, partial(_all, limit=2), False),
    "long names in an npz": ("a.npz", _names, _all, True),
    "header of an npz": (
        "a.npz", partial(_npz, images=_header((2**40, 1, 8, 8))), _all, True
    ),
    "header of an npy": ("a.npy", lambda p: p.write_bytes(_header((2**50, 8, 8))), _all, True),
    "header of an idx": ("a", partial(_idx, count=2**31, blocks=0), read_idx, True),
    "idx with a tail": ("a", partial(_idx, count=1, blocks=_BLOCKS), read_idx, True),
    "first of a large idx": (
        "a", partial(_idx, count=2**14 * _BLOCKS, blocks=_BLOCKS), partial(read_idx, limit=2), False
    ),
    "no cifar": ("a", _cifar, lambda path: read_cifar([path], 10), True),
    "images of a header": ("a.h5", partial(_hdf5, images=2**34, labels=2**34), _all, True),
    "labels of a header": ("a.h5", partial(_hdf5, images=1, labels=2**30), _all, True),
    "memo of a pickle": ("a", _memo, lambda path: len(read_pickled(path)), False),
    "weights of zeros": ("a.pt", _packed_weights, _entries, True),
    "nested lists": ("a.pt", _nested, _entries, True),
}  # fmt: skip


def _outcome(name: str, folder: Path) -> dict[str, Any]:
    file, make, read, _ = BOMBS[name]
    path = folder / file
    make(path)
    before, asked, started = peak_since(), 0, time.monotonic()
    try:
        found = read(path)
        asked = found if isinstance(found, int) else 0
        words = "read"
    except InputError as error:
        words = f"refused: {error}"
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    return {"name": name, "words": words, "peak": peak_since(before), "asked": asked, "s": seconds}


if __name__ == "__main__":
    for name in sys.argv[1:] or BOMBS:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_outcome(name, Path(folder))), flush=True)

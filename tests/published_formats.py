"""Weights of small networks as publishers write them, by other code than reads them."""

import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomadv.networks import convert

State = dict[str, Tensor]


def plain() -> nn.Sequential:
    """A convolution, one for each channel by itself, a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 2, groups=6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )


def normed() -> nn.Sequential:
    """The same with batch norm, in whose place the convolutions have no bias."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 2, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )


def drawn(build: Callable[[], nn.Module], seed: int = 0) -> State:
    """Weights of 8-bit integers over 64, which all formats hold without rounding."""
    generator = torch.Generator().manual_seed(seed)
    state = build().state_dict()
    return {
        name: torch.randint(0, 256, t.shape, generator=generator) / 64.0
        for name, t in state.items()
        if not name.endswith("num_batches_tracked")
    }


def renamed(state: State, layer: Callable[[int], str]) -> State:
    """The same tensors under other names, in their order."""
    return {f"{layer(i)}.{name.rpartition('.')[2]}": t for i, (name, t) in enumerate(state.items())}


# Publishers: each writes files of one format into a folder, the file to be read first.


def parallel(folder: Path, state: State) -> None:
    wrapped = renamed(state, lambda i: f"module.compressible_{i}")
    torch.save({"epoch": 3, "best": 91.7, "state_dict": wrapped}, folder / "w.th")


def older(folder: Path, state: State) -> None:
    torch.save(state, folder / "w.pth", _use_new_zipfile_serialization=False)


def cascade(folder: Path, state: State) -> None:
    later = {name: t + 1 for name, t in state.items()}
    found = {"sampler_indices": [torch.arange(4)], "err": 0.5, "state_dict": [state, later, later]}
    torch.save(found, folder / "w.pth")


def hwio(t: Tensor) -> Any:
    """In TensorFlow's order of dimensions; a linear layer is a 1x1 convolution."""
    t = t[:, :, None, None] if t.ndim == 2 else t
    return t.permute(2, 3, 1, 0).numpy() if t.ndim == 4 else t.numpy()


def arrays(folder: Path, state: State) -> None:
    """The second layer has a number above the last one's in the alphabet, not as a number."""
    values = [hwio(t) for t in state.values()]
    content = {"conv1": values[:2], "conv10": values[4:], "fire2/squeeze1x1": values[2:4]}
    content["fire2/squeeze1x1"][0] = np.asfortranarray(content["fire2/squeeze1x1"][0])
    (folder / "w.pkl").write_bytes(pickle.dumps(content, protocol=3))


KERAS = {"weight": "gamma", "bias": "beta"}


def keras(folder: Path, state: State) -> None:
    """Groups in alphabetical order, the weights of `later` in two files."""
    layers = {"stem": "0", "stem_bn": "1", "dw_2": "3", "dw_2_bn": "4", "later": "8"}
    groups = []
    for k, (layer, number) in enumerate(sorted(layers.items())):
        own = {n.partition(".")[2]: t for n, t in state.items() if n.startswith(f"{number}.")}
        values, entries = b"", []
        for name, t in own.items():
            array = t.permute(2, 3, 0, 1).numpy() if layer == "dw_2" else hwio(t)
            keras_name = "depthwise_kernel" if layer == "dw_2" else KERAS.get(name, name)
            shape = list(array.shape)
            entries.append({"name": f"{layer}/{keras_name}", "dtype": "float32", "shape": shape})
            values += array.astype("<f4").tobytes()
        cut = len(values) // 3 if layer == "later" else len(values)
        paths = [f"group{k}-a", *([f"group{k}-b"] if layer == "later" else [])]
        for path, part in zip(paths, (values[:cut], values[cut:]), strict=False):
            (folder / path).write_bytes(part)
        groups.append({"paths": paths, "weights": entries})
    config = {"layers": [{"config": {"name": name}} for name in ("input", *layers)]}
    model = {"modelTopology": {"model_config": {"config": config}}, "weightsManifest": groups}
    (folder / "model.json").write_text(json.dumps(model))


Flat = dict[int, Any] | list[Any] | np.ndarray[Any, Any]


class FlatBuffer:
    """Writes tables (field number -> content), vectors of tables and vectors of numbers.

    Content of four bytes stands in the table, everything else behind it.
    """

    def __init__(self, root: Flat) -> None:
        self.bytes = bytearray(struct.pack("<I4s", 0, b"TFL3"))
        self.point(0, root)

    def point(self, place: int, content: Flat) -> None:
        struct.pack_into("<I", self.bytes, place, len(self.bytes) - place)
        if isinstance(content, np.ndarray):
            self.bytes += struct.pack("<I", len(content)) + content.tobytes()
            return
        start = len(self.bytes)
        if isinstance(content, list):
            self.bytes += struct.pack("<I", len(content)) + bytes(4 * len(content))
            fields: dict[int, Any] = dict(enumerate(content))
        else:
            self.bytes += bytes(4 + 4 * len(content))
            fields = content
        for i, value in enumerate(fields.values()):
            own = start + 4 + 4 * i
            if isinstance(value, bytes):
                self.bytes[own : own + 4] = value
            else:
                self.point(own, value)
        if isinstance(content, dict):
            self.end(start, list(content))

    def end(self, start: int, numbers: list[int]) -> None:
        """The table's list of places: behind it, so that its offset is negative."""
        places = {k: 4 + 4 * i for i, k in enumerate(numbers)}
        count = max(numbers, default=-1) + 1
        struct.pack_into("<i", self.bytes, start, start - len(self.bytes))
        offsets = [places.get(k, 0) for k in range(count)]
        self.bytes += struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * len(numbers), *offsets)


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def quantised(t: Tensor, kind: str, zero: int, buffers: list[Any]) -> dict[int, Any]:
    """A tensor in numbers of 1/64; the buffer of its content goes behind `buffers`."""
    content = (t.numpy() * 64 + zero).astype(kind).ravel()
    buffers.append({0: content.view(np.uint8)})
    scales = {2: np.array([1 / 64], "<f4"), 3: np.array([zero], "<i8")}
    code = number({"u1": 3, "<i4": 2}[kind])
    shape = np.array(t.shape, "<i4")
    return {0: shape, 1: code, 2: number(len(buffers) - 1), 4: scales}


def tflite_bytes(state: State) -> bytes:
    """A "background" before the classes, an operator with two inputs between the layers."""
    buffers: list[Any] = [{}]
    image = {0: np.array([1, 8, 8, 1], "<i4"), 1: number(3), 2: number(0)}
    tensors, operators = [image], []
    values = list(state.values())
    for k, (weight, bias) in enumerate(zip(values[::2], values[1::2], strict=True)):
        if k == 2:
            weight, bias = (torch.cat([torch.ones_like(t[:1]), t]) for t in (weight, bias))
            weight = weight[:, :, None, None]
        # (out, height, width, in); of the depthwise layer (1, height, width, channels).
        weight = weight.permute((1, 2, 3, 0) if k == 1 else (0, 2, 3, 1)).contiguous()
        tensors += [quantised(weight, "u1", 0, buffers), quantised(bias, "<i4", -7, buffers)]
        inputs = np.array([0, len(tensors) - 2, len(tensors) - 1], "<i4")
        operators += [{1: inputs}, {1: np.array([0, 0], "<i4")}]
    return bytes(FlatBuffer({2: [{0: tensors, 3: operators}], 4: buffers}).bytes)


def tflite(folder: Path, state: State) -> None:
    (folder / "w.tflite").write_bytes(tflite_bytes(state))


def wheel(folder: Path, state: State) -> None:
    torch.save(renamed(state, lambda i: f"_l{i}"), folder / "inner.pth")
    with zipfile.ZipFile(folder / "w-1.0.whl", "w") as archive:
        archive.write(folder / "inner.pth", "w/models/inner.pth")
    (folder / "inner.pth").unlink()


def archive(folder: Path, state: State) -> None:
    arrays(folder, state)
    with tarfile.open(folder / "w-1.0.tar.gz", "w:gz") as tar:
        tar.add(folder / "w.pkl", "w-1.0/models/w.pkl")
    (folder / "w.pkl").unlink()


Publisher = Callable[[Path, State], None]
# Publisher, network, reader, where the weights lie in what is downloaded.
FORMATS: dict[str, tuple[Publisher, Callable[[], nn.Module], convert.Reader, str]] = {
    "data parallel": (parallel, normed, convert.state_dict, "w.th"),
    "older torch": (older, plain, convert.state_dict, "w.pth"),
    "cascade": (cascade, plain, convert.state_dict, "w.pth"),
    "pickled arrays": (arrays, plain, convert.numbered_arrays, "w.pkl"),
    "keras": (keras, normed, convert.keras_layers, "model.json"),
    "tflite": (tflite, plain, convert.tflite_classifier, "w.tflite"),
    "wheel": (wheel, normed, convert.state_dict, "w/models/inner.pth"),
    "archive": (archive, plain, convert.numbered_arrays, "w-1.0/models/w.pkl"),
}

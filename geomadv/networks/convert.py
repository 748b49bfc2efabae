"""Published weights as tensors of PyTorch: one function per format, none of which runs the file.

Each gives the tensors in the network's order, so that the names that others chose for its layers
play no part; that all is right is told by the checksum of the result.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geomadv.files.pickled import read_pickled
from geomadv.networks.tflite import read_layers
from geomadv.networks.weights import read_checkpoint

Reader = Callable[[Path], list[Tensor]]


def named(module: nn.Module, tensors: Iterable[Tensor], half: bool) -> dict[str, Tensor]:
    """Tensors in the module's order, by their names in it.

    Args:
        module: on any device, "meta" too.
        tensors: of the module's shapes, but for dimensions of length 1.
        half: round to float16, else float32.

    Raises:
        ValueError: other shapes, or too many or too few tensors.
    """
    full = module.state_dict().items()
    own = {name: t.shape for name, t in full if not name.endswith("num_batches_tracked")}
    found = list(tensors)
    shapes = [[n for n in shape if n != 1] for shape in own.values()]
    if [[n for n in t.shape if n != 1] for t in found] != shapes:
        raise ValueError(f"its {len(found)} tensors are not those of the network's {len(own)}")
    dtype = torch.float16 if half else torch.float32
    pairs = zip(own.items(), found, strict=True)
    return {name: t.reshape(shape).to(dtype).contiguous() for (name, shape), t in pairs}


def state_dict(path: Path) -> list[Tensor]:
    """The state dict that `torch.save` wrote, at any depth; of several (a cascade) the first."""
    nodes: dict[str, list[Tensor]] = {}
    for name, entry in read_checkpoint(path).entries.items():
        if entry.stored and not name.endswith("num_batches_tracked"):
            nodes.setdefault(entry.node, []).append(entry.value)
    return max(nodes.values(), key=len)


def numbered_arrays(path: Path) -> list[Tensor]:
    """A pickled dict, layer name -> [kernel, bias], NumPy arrays; layers in order of their number.

    Of layers with the same number (fire2/squeeze1x1, fire2/expand1x1) the order is that of the
    file.
    """
    layers = read_pickled(path)
    ordered = sorted(layers, key=lambda name: int(re.findall(r"\d+", name)[0]))
    return [_pytorch(np.asarray(array)) for name in ordered for array in layers[name]]


def keras_layers(path: Path) -> list[Tensor]:
    """A layers model of TensorFlow.js: model.json, with files of float32 values beside it."""
    model = json.loads(path.read_text(encoding="utf-8"))
    arrays: dict[str, list[Tensor]] = {}
    for group in model["weightsManifest"]:
        content = b"".join((path.parent / Path(p).name).read_bytes() for p in group["paths"])
        for layer, tensor in _keras_group(content, group["weights"]):
            arrays.setdefault(layer, []).append(tensor)
    layers = model["modelTopology"]["model_config"]["config"]["layers"]
    return [tensor for layer in layers for tensor in arrays.get(layer["config"]["name"], ())]


def _keras_group(content: bytes, weights: list[dict[str, Any]]) -> list[tuple[str, Tensor]]:
    """The tensors that lie one after the other in `content`, with their layers' names."""
    found, start = [], 0
    for entry in weights:
        if entry["dtype"] != "float32" or "quantization" in entry:
            raise ValueError(f"{entry['name']} is not in float32")
        array = np.frombuffer(content, "<f4", int(np.prod(entry["shape"])), start)
        tensor = _pytorch(array.reshape(entry["shape"]))
        found.append((entry["name"].rpartition("/")[0], tensor))
        start += array.nbytes
    if start != len(content):
        raise ValueError(f"a file has {len(content)} bytes where {start} are expected")
    return found


def _pytorch(array: Any) -> Tensor:
    """Kernels (height, width, in, out) as (out, in, height, width), others as they are.

    Those of convolutions by channel, (height, width, channels, 1), become (1, channels, height,
    width): the same numbers in the same order as PyTorch's (channels, 1, height, width).
    """
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def tflite_classifier(path: Path) -> list[Tensor]:
    """A TensorFlow Lite file of convolutions; its first output, "background", is left out.

    8-bit weights become plain numbers, see `read_layers`.
    """
    # (out, height, width, in), or (1, height, width, channels) of a convolution by channel.
    layers = ((weight.permute(0, 3, 1, 2), bias) for weight, bias in read_layers(path))
    tensors = [tensor for layer in layers for tensor in layer]
    return [*tensors[:-2], tensors[-2][1:], tensors[-1][1:]]

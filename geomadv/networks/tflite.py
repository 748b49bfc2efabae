"""Weights of a TensorFlow Lite file (.tflite), read without TensorFlow.

A minimal reader of FlatBuffers (flatbuffers.dev/internals) for the tables of TensorFlow Lite's
schema.fbs that hold layers and their constants. Every position is checked against the file.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# TensorType of schema.fbs; other types hold no weights.
_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 9: "i1"}


class _Table:
    """A table of a FlatBuffer: its fields by their numbers in the schema.

    Raises:
        ValueError: a position outside the file.
    """

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self._position = content, position
        self._vtable = position - self._number("<i", position)
        self._fields = (self._number("<H", self._vtable) - 4) // 2

    def _check(self, position: int, size: int) -> None:
        if not 0 <= position <= len(self._content) - size:
            raise ValueError(f"it points to byte {position} of {len(self._content)}")

    def _number(self, kind: str, position: int) -> int:
        self._check(position, struct.calcsize(kind))
        return int(struct.unpack_from(kind, self._content, position)[0])

    def _place(self, field: int) -> int | None:
        """Where a field stands; None for one that is left out."""
        offset = 0
        if field < self._fields:
            offset = self._number("<H", self._vtable + 4 + 2 * field)
        return self._position + offset if offset else None

    def _target(self, place: int) -> int:
        return place + self._number("<I", place)

    def number(self, field: int, kind: str) -> int:
        """A number; 0 where it is left out."""
        place = self._place(field)
        return 0 if place is None else self._number(kind, place)

    def vector(self, field: int, kind: str) -> NDArray[np.generic]:
        """A vector of numbers, empty where it is left out."""
        place = self._place(field)
        if place is None:
            return np.empty(0, kind)
        start = self._target(place)
        count = self._number("<I", start)
        self._check(start + 4, count * np.dtype(kind).itemsize)
        return np.frombuffer(self._content, kind, count, start + 4)

    def table(self, field: int) -> "_Table | None":
        """A table inside this one."""
        place = self._place(field)
        return None if place is None else _Table(self._content, self._target(place))

    def tables(self, field: int) -> list["_Table"]:
        """A vector of tables."""
        place = self._place(field)
        if place is None:
            return []
        first = self._target(place) + 4
        count = len(self.vector(field, "<u4"))
        return [_Table(self._content, self._target(first + 4 * i)) for i in range(count)]


def read_layers(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, in the order in which the network computes them.

    Layers are the operators with three inputs: image, weight, bias. Quantised constants are given
    as scale x (integer - zero point), rounded once to float32.

    Yields:
        Weight and bias, float32 or as stored, in TensorFlow Lite's layout.

    Raises:
        ValueError: no TensorFlow Lite file, a damaged one, or one that is quantised by channel.
    """
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError("it is no TensorFlow Lite file")
    model = _Table(content, struct.unpack_from("<I", content)[0])
    buffers = model.tables(4)
    for graph in model.tables(2)[:1]:
        tensors = graph.tables(0)
        for operator in graph.tables(3):
            inputs = operator.vector(1, "<i4").tolist()
            if len(inputs) == 3:
                if not all(0 <= i < len(tensors) for i in inputs):
                    raise ValueError(f"it names tensors {inputs} of {len(tensors)}")
                weight, bias = (_constant(tensors[i], buffers) for i in inputs[1:])
                yield weight, bias


def _constant(tensor: _Table, buffers: list[_Table]) -> Tensor:
    kind, buffer = tensor.number(1, "<b"), tensor.number(2, "<I")
    if kind not in _TYPES or buffer >= len(buffers):
        raise ValueError(f"it has a tensor of type {kind} in buffer {buffer}")
    stored = buffers[buffer].vector(0, "u1").view(_TYPES[kind])
    values = torch.from_numpy(stored.reshape(tensor.vector(0, "<i4").tolist()).copy())
    quantised = tensor.table(4)
    if quantised is None:
        return values
    scale, zero = quantised.vector(2, "<f4"), quantised.vector(3, "<i8")
    if len(scale) != 1 or len(zero) > 1:
        raise ValueError(f"it has {len(scale)} scales for one tensor")
    return (float(scale[0]) * (values.double() - int(zero.sum()))).float()

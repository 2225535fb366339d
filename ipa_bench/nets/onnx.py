"""Read an ONNX file: its constant tensors and its nodes, straight from the protobuf wire format.

Neither the ``onnx`` package nor a generated parser is needed, nothing in the file is run, and what this does not
understand is refused. Format: https://github.com/onnx/onnx, ``onnx.proto`` (field numbers below);
https://protobuf.dev/programming-guides/encoding. Weights that are stored in eight bits come out as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ipa_bench.errors import UserError
from ipa_bench.types import Float32

#: number and value of a message's field: an integer for a varint, the bytes for all others
Field = tuple[int, bytes | int]
Attribute = float | int | str | list[int] | list[float] | NDArray[Any]

# TensorProto.DataType -> little-endian NumPy type; only those that networks of this project hold
_TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 11: "<f8"}
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
#: the fields that hold the numbers of a tensor where it has no raw bytes; strings (6) and others are not read
_TENSOR_FLOATS, _TENSOR_INT32, _TENSOR_INT64 = 4, 5, 7
_TENSOR_ELSEWHERE = 13


@dataclass(frozen=True)
class Node:
    """One operation of a graph; names of its inputs and outputs, "" for an optional input that is left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The nodes of a file in its order, which is one of computation, and its constants.

    What follows from constants alone (a constant node, weights made floats, their new shape) is a constant, not a node.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]


def read_onnx(path: str | Path) -> Graph:
    """The graph of an ONNX file. Raises :class:`UserError` where it cannot be read or holds what is not known."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    try:
        return parse_onnx(data)
    except (ValueError, LookupError) as error:
        raise UserError(f"{path} is no ONNX file of this project's networks: {error}", "download it again") from error


def load_convolutions(path: str | Path, convs: Sequence[nn.Conv2d]) -> Graph:
    """Fill ``convs``, in place, with the weights and biases (zero where there are none) of a file's, in its order.

    Returns the graph of the file. Raises :class:`UserError` where it cannot be read or its convolutions are others.
    """
    graph = read_onnx(path)
    nodes = [node for node in graph.nodes if node.op == "Conv"]
    try:
        with torch.no_grad():
            for node, conv in zip(nodes, convs, strict=True):
                tensors = [torch.from_numpy(np.array(graph.constants[name], np.float32)) for name in node.inputs[1:]]
                weight, bias = tensors if len(tensors) == 2 else (tensors[0], torch.zeros(len(tensors[0])))
                if conv.bias is None or weight.shape != conv.weight.shape or bias.shape != conv.bias.shape:
                    raise ValueError(f"{node.inputs[1]} is of shape {list(weight.shape)}")
                conv.weight.copy_(weight)
                conv.bias.copy_(bias)
    except (ValueError, LookupError) as error:
        raise UserError(f"{path} is another network: {error}", "use the file that is published for this one") from error
    return graph


def parse_onnx(data: bytes) -> Graph:
    """The graph of a serialised ModelProto. Raises ValueError where it is cut off, or holds what is not known."""
    graph = _bytes(fields(data), _MODEL_GRAPH)
    if len(graph) != 1:
        raise ValueError(f"{len(graph)} graphs in it, not one")
    parts = list(fields(graph[0]))
    constants = dict(_tensor(each) for each in _bytes(parts, _GRAPH_INITIALIZER))
    nodes = []
    for each in _bytes(parts, _GRAPH_NODE):
        node = _node(each)
        given = [constants[name] for name in node.inputs if name in constants]
        if node.op in _CONSTANT and len(given) == len(node.inputs):
            constants[node.outputs[0]] = _CONSTANT[node.op](node, given)
        else:
            nodes.append(node)
    return Graph(tuple(nodes), constants)


def dequantised(values: NDArray[np.int8], scales: Float32, zeros: NDArray[np.int8], axis: int, block: int) -> Float32:
    """(value - zero) * scale; along ``axis`` one scale and zero serve ``block`` values, the last maybe fewer.

    ONNX DequantizeLinear, operator set 21. Raises ValueError where the shapes do not belong together.
    """
    shape = list(values.shape)
    shape[axis] = -(-shape[axis] // block)
    if list(scales.shape) != shape or list(zeros.shape) != shape:
        raise ValueError(
            f"{scales.shape} scales and {zeros.shape} zeros in blocks of {block} for {values.shape} values"
        )
    owner = np.arange(values.shape[axis]) // block
    zero, scale = zeros.take(owner, axis).astype(np.float32), scales.take(owner, axis)
    return np.asarray((values.astype(np.float32) - zero) * scale, np.float32)


def _dequantised(node: Node, given: Sequence[NDArray[Any]]) -> NDArray[Any]:
    block, axis = node.attributes.get("block_size"), node.attributes.get("axis", 1)
    if not isinstance(block, int) or not isinstance(axis, int) or block < 1 or len(given) != 3:
        raise ValueError(f"{node.outputs[0]} is not quantised in blocks")
    return dequantised(given[0], given[1], given[2], axis, block)


_CONSTANT: dict[str, Callable[[Node, Sequence[NDArray[Any]]], NDArray[Any]]] = {
    "Constant": lambda node, _: np.asarray(node.attributes["value"]),
    "DequantizeLinear": _dequantised,
    "Reshape": lambda _, given: given[0].reshape([int(size) for size in given[1]]),
}


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a protobuf message in their order: (number, value). Raises ValueError where it is cut off."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"cut off in field {number}: {at + size - len(data)} bytes are missing")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned varint and where the next byte is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut off in a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number longer than 64 bits before byte {at}")


def _signed(value: int) -> int:
    """An int32 or int64 field, whose varint is that of the 64-bit two's complement."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(parts: Iterator[Field] | Sequence[Field], number: int) -> list[bytes]:
    return [value for which, value in parts if which == number and isinstance(value, bytes)]


def _integers(parts: Sequence[Field], number: int) -> list[int]:
    """A repeated integer field, packed or one by one."""
    found: list[int] = []
    for which, value in parts:
        if which != number:
            continue
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            found.append(_signed(one))
    return found


def _floats(parts: Sequence[Field], number: int) -> list[float]:
    """A repeated float field, packed or one by one: either way its bytes."""
    return [float(each) for data in _bytes(parts, number) for each in np.frombuffer(data, "<f4")]


def _tensor(data: bytes) -> tuple[str, NDArray[Any]]:
    parts = list(fields(data))
    name = "".join(each.decode() for each in _bytes(parts, _TENSOR_NAME))
    shape, kind = _integers(parts, _TENSOR_DIMS), _integers(parts, _TENSOR_TYPE)
    if len(kind) != 1 or kind[0] not in _TYPES:
        raise ValueError(f"tensor {name!r} is of type {kind}")
    if _bytes(parts, _TENSOR_ELSEWHERE):
        raise ValueError(f"the numbers of tensor {name!r} are in another file")
    dtype = np.dtype(_TYPES[kind[0]])
    raw = _bytes(parts, _TENSOR_RAW)
    if raw:
        values = np.frombuffer(raw[0], dtype)
    elif dtype.kind == "f":
        values = np.array(_floats(parts, _TENSOR_FLOATS), dtype)
    else:
        values = np.array(_integers(parts, _TENSOR_INT64 if dtype.itemsize == 8 else _TENSOR_INT32), dtype)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"tensor {name!r} has {values.size} numbers for shape {shape}")
    return name, values.reshape(shape)


def _node(data: bytes) -> Node:
    parts = list(fields(data))
    attributes = dict(_attribute(each) for each in _bytes(parts, _NODE_ATTRIBUTE))
    inputs, outputs = (tuple(v.decode() for v in _bytes(parts, which)) for which in (_NODE_INPUT, _NODE_OUTPUT))
    return Node("".join(each.decode() for each in _bytes(parts, _NODE_OP)), inputs, outputs, attributes)


def _attribute(data: bytes) -> tuple[str, Attribute]:
    """Name and value; AttributeProto.type says which of its fields holds it."""
    parts = list(fields(data))
    name = "".join(each.decode() for each in _bytes(parts, 1))
    kind = _integers(parts, 20)
    match kind[0] if kind else None:
        case 1:
            return name, (_floats(parts, 2) or [0.0])[0]
        case 2:
            return name, (_integers(parts, 3) or [0])[0]
        case 3:
            return name, b"".join(_bytes(parts, 4)).decode()
        case 4:
            return name, _tensor(_bytes(parts, 5)[0])[1]
        case 6:
            return name, _floats(parts, 7)
        case 7:
            return name, _integers(parts, 8)
    raise ValueError(f"attribute {name!r} is of type {kind}")

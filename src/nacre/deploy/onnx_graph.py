"""Writing ONNX graphs as NumPy code is written: values with operators, for one input at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from nacre.errors import imported

OPSET, IR_VERSION = 18, 8
"""Versions of operators and file format, which runtimes since early 2023 read (onnx 1.13, onnxruntime 1.14)."""


def onnx_module() -> Any:
    """The package onnx. Raises NacreError where it is not installed."""
    return imported("onnx", "--onnx needs the package onnx; install it with pip install 'nacre[onnx]'.")


class Value:
    """What a node of a graph gives. Operators with numbers and arrays take them as constants of the value's type."""

    def __init__(self, graph: Graph, name: str, dtype: Any):
        self.graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def _with(self, op: str, other: Any, dtype: Any = None) -> Value:
        return self.graph.node(op, self, self._value(other), dtype=dtype)

    def _value(self, other: Any) -> Value:
        return other if isinstance(other, Value) else self.graph.constant(np.asarray(other, self.dtype))

    def __add__(self, other: Any) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._with("Div", other)

    def __neg__(self) -> Value:
        return self.graph.node("Neg", self)

    def __lt__(self, other: Any) -> Value:
        return self._with("Less", other, bool)

    def at_least(self, other: Any) -> Value:
        """Elementwise, the larger of the two."""
        return self._with("Max", other)

    def at_most(self, other: Any) -> Value:
        """Elementwise, the smaller of the two."""
        return self._with("Min", other)

    def equals(self, other: Any) -> Value:
        """Elementwise, whether they are equal."""
        return self._with("Equal", other, bool)

    def where(self, yes: Any, no: Value) -> Value:
        """Of this truth value: `yes` where it holds, `no` elsewhere."""
        return self.graph.node("Where", self, no._value(yes), no, dtype=no.dtype)

    def apply(self, op: str) -> Value:
        """A function of one argument, such as 'Tanh'."""
        return self.graph.node(op, self)

    def cast(self, dtype: Any) -> Value:
        """The same numbers as another type."""
        kind = self.graph.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.node("Cast", self, dtype=dtype, to=kind)

    def sum(self, axis: int, *, mean: bool = False) -> Value:
        """Over an axis, which goes."""
        axes = self.graph.constant(np.array([axis], np.int64))
        return self.graph.node("ReduceMean" if mean else "ReduceSum", self, axes, keepdims=0)

    def part(self, start: int, end: int) -> Value:
        """Elements start to end - 1 of the first axis."""
        bounds = [self.graph.constant(np.array([number], np.int64)) for number in (start, end, 0)]
        return self.graph.node("Slice", self, *bounds)

    def row(self, number: Value) -> Value:
        """The row of that number, a scalar, along the first axis."""
        return self.graph.node("Gather", self, number, axis=0)

    def reshape(self, *shape: int) -> Value:
        """The same numbers in another shape."""
        return self.graph.node("Reshape", self, self.graph.constant(np.array(shape, np.int64)))


class Graph:
    """A graph that grows: inputs, nodes, constants, outputs."""

    def __init__(self, name: str):
        self.onnx, self.name = onnx_module(), name
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self._values: dict[str, Value] = {}
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._initializers: list[Any] = []

    def input(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> Value:
        """An input, made when it is first asked for."""
        if name not in self.inputs:
            self.inputs[name] = self._described(name, shape, dtype)
            self._values[name] = Value(self, name, dtype)
        return self._values[name]

    def output(self, name: str, value: Value, shape: tuple[int, ...]) -> None:
        """Names an output."""
        self._nodes.append(self.onnx.helper.make_node("Identity", [value.name], [name]))
        self.outputs[name] = self._described(name, shape, value.dtype)

    def constant(self, array: Any) -> Value:
        """An array that is part of the file; the same one is so once."""
        array = np.asarray(array)  # keeps numbers without axes as they are
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._initializers.append(self.onnx.numpy_helper.from_array(array, name))
            self._constants[key] = Value(self, name, array.dtype)
        return self._constants[key]

    def node(self, op: str, *inputs: Value, dtype: Any = None, **attributes: Any) -> Value:
        """What an operator gives for these inputs; of the first one's type unless said otherwise."""
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(self.onnx.helper.make_node(op, [value.name for value in inputs], [name], **attributes))
        return Value(self, name, inputs[0].dtype if dtype is None else dtype)

    def concatenated(self, *parts: Value) -> Value:
        """One after the other, along the only axis."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def _described(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        helper = self.onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def model(self, metadata: dict[str, str]) -> bytes:
        """The file, checked. What no output needs is left out, inputs among it."""
        helper, needed, nodes = self.onnx.helper, set(self.outputs), []
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                nodes.append(node)
        graph = helper.make_graph(
            nodes[::-1], self.name, [described for name, described in self.inputs.items() if name in needed],
            list(self.outputs.values()), [array for array in self._initializers if array.name in needed],
        )  # fmt: skip
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nacre"
        )
        helper.set_model_props(model, metadata)
        self.onnx.checker.check_model(model, full_check=True)
        written: bytes = model.SerializeToString()
        return written

"""An ONNX graph under construction: plain operators only, so that any ONNX runtime can run it.

Numbers are computed in 64 bits, as scikit-learn computes them: what comes out is the original to its rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Operators that every ONNX Runtime since 1.14 knows; of the domain for classical models, those since 1.10.
OPSET, ML_OPSET = 17, 3

ML_DOMAIN = "ai.onnx.ml"

#: Names of a model's inputs, and of what a network puts out before it is calibrated.
FEATURES, IMAGES, NETWORK_OUTPUT = "features", "images", "network_probability"

_IR_VERSION = 8  # the one of ONNX 1.12, which came with opset 17


class Graph:
    """Nodes and constants; values are known by name.

    Parameters
    ----------
    model : an ONNX model to go on from; its outputs are no longer outputs. None begins an empty graph.
    """

    def __init__(self, model: Any = None) -> None:
        self._nodes: list[Any] = [] if model is None else list(model.graph.node)
        self._constants: list[Any] = [] if model is None else list(model.graph.initializer)
        self._inputs: list[Any] = [] if model is None else list(model.graph.input)
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, dtype: Any, shape: tuple[int | str, ...]) -> str:
        """A value that is given from outside; a text in ``shape`` stands for any number."""
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, _kind(dtype), shape))
        return name

    def output(self, value: str, name: str, dtype: Any, shape: tuple[int | str, ...]) -> None:
        """Give ``value`` to the outside as ``name``."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _kind(dtype), shape))

    def constant(self, values: ArrayLike) -> str:
        """A constant of the array's own type; texts are strings."""
        from onnx import helper, numpy_helper

        array = np.asarray(values)
        name = self._name()
        if array.dtype.kind in "UO":
            texts: Any = [str(text).encode() for text in array.ravel()]
            self._constants.append(helper.make_tensor(name, _kind(np.str_), array.shape, texts))
        else:
            self._constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def add(self, operator: str, *values: str | NDArray[Any] | float, domain: str = "", **attributes: Any) -> str:
        """Apply an operator; arrays and numbers (as float64) among its inputs become constants."""
        from onnx import helper

        names = [value if isinstance(value, str) else self.constant(value) for value in values]
        result = self._name()
        self._nodes.append(helper.make_node(operator, names, [result], domain=domain, **attributes))
        return result

    def top(self, values: str, count: str, *, largest: bool) -> str:
        """The largest or smallest values of every column, as many as int64 (1,) ``count`` says, sorted."""
        from onnx import helper

        result, rows = self._name(), self._name()
        self._nodes.append(helper.make_node("TopK", [values, count], [result, rows], axis=0, largest=int(largest)))
        return result

    def cast(self, value: str, dtype: Any) -> str:
        """The same values in another type."""
        return self.add("Cast", value, to=_kind(dtype))

    def model(self, about: dict[str, str]) -> Any:
        """The checked ``onnx.ModelProto``, with these plain texts as its metadata."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self._nodes, "fusion", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="fusion-cells")
        helper.set_model_props(model, about)
        onnx.checker.check_model(model)
        return model

    def _name(self) -> str:
        self._count += 1
        return f"fusion_{self._count}"


def _kind(dtype: Any) -> int:
    from onnx import TensorProto, helper

    return TensorProto.STRING if dtype is np.str_ else int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

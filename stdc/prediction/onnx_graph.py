"""STDC-Seg in evaluation as an ONNX graph, written from the arrays of its weights.

The network is small, so it is written down here node by node instead of being traced by a converter: batch norms are
folded into the convolutions before them, and the only operators are Conv, Relu, AveragePool, GlobalAveragePool, Resize,
Sigmoid, Concat, Add and Mul. The structure is that of `stdc/nn` (Fan et al., CVPR 2021); that both compute the same is
held by tests and checked again at each export.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

if TYPE_CHECKING:
    import onnx

#: Names of the graph's input and output.
IMAGE, LOGITS = "image", "logits"
#: Logits at 1/8 of the image's size, before they are enlarged.
SMALL_LOGITS = "small_logits"

#: The oldest versions that have every operator here as it is used: ONNX 1.8 and ONNX Runtime 1.6 read them.
_OPSET, _IR_VERSION = 13, 7

#: Added to the variance, the default of Paddle's BatchNorm2D.
_EPSILON = 1e-5


def segmentor_graph(
    arrays: Mapping[str, np.ndarray], pool_counts_padding: bool, metadata: Mapping[str, str], enlarge: bool = True
) -> onnx.ModelProto:
    """The graph of a whole segmentor; which backbone it has follows from the names of the arrays.

    Args:
        arrays: every parameter and statistic that the main head needs, by PaddleSeg's names; others are left out.
        pool_counts_padding: see `stdc.nn.blocks.ShortTermDenseConcatenate`.
        metadata: texts that are stored in the file, by name.
        enlarge: give `logits` at the image's size; otherwise `small_logits` at 1/8 of it.
    Returns:
        A model with the input `image`, (N, 3, H, W), float32, normalized, any N, H and W, and one output,
        (N, classes, H, W) or (N, classes, ceil(H/8), ceil(W/8)), float32.
    Raises:
        KeyError: an array is missing.
    """
    import onnx

    graph = _Graph(arrays)
    small = graph.decode(graph.backbone(pool_counts_padding))
    classes = arrays["conv_out.conv_out.weight"].shape[0]
    if enlarge:
        output, height, width = LOGITS, "height", "width"
        graph.resize(small, graph.size_of(IMAGE), "linear", name=output)
    else:
        output, height, width = SMALL_LOGITS, "height8", "width8"
        graph.node("Identity", [small], name=output)
    floats = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "stdc_seg",
            [onnx.helper.make_tensor_value_info(IMAGE, floats, ["batch", 3, "height", "width"])],
            [onnx.helper.make_tensor_value_info(output, floats, ["batch", classes, height, width])],
            initializer=graph.initializers,
        ),
        producer_name="stdc",
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    return model


class _Graph:
    """Nodes and constants as they are added; each method returns the name of the value that it adds."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []
        self._sizes: Dict[str, str] = {}

    # ---- the network, from the image to the logits at 1/8

    def backbone(self, pool_counts_padding: bool) -> Tuple[str, str, str]:
        """Features at 1/8, 1/16 and 1/32."""
        prefix = "cp.backbone.features"
        value = self.convolution(IMAGE, f"{prefix}.0.conv", f"{prefix}.0.bn", stride=2)
        value = self.convolution(value, f"{prefix}.1.conv", f"{prefix}.1.bn", stride=2)
        stages: List[str] = []
        for index in itertools.count(2):
            if f"{prefix}.{index}.conv_list.0.conv.weight" not in self.arrays:
                break
            # The first module of each stage halves the size, by a convolution that the others do not have.
            halve = f"{prefix}.{index}.avd_layer.0.weight" in self.arrays
            value = self.concatenate_module(value, f"{prefix}.{index}", halve, pool_counts_padding)
            stages = [*stages, value] if halve else [*stages[:-1], value]
        features8, features16, features32 = stages
        return features8, features16, features32

    def concatenate_module(self, value: str, prefix: str, halve: bool, pool_counts_padding: bool) -> str:
        """The STDC module; with `halve` its output has half the size."""
        first = self.convolution(value, f"{prefix}.conv_list.0.conv", f"{prefix}.conv_list.0.bn")
        part = first
        if halve:
            layer = f"{prefix}.avd_layer"
            part = self.convolution(first, f"{layer}.0", f"{layer}.1", stride=2, relu=False)
            first = self.node(
                "AveragePool",
                [first],
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=int(pool_counts_padding),
            )
        parts = [first]
        for number in (1, 2, 3):
            layer = f"{prefix}.conv_list.{number}"
            part = self.convolution(part, f"{layer}.conv", f"{layer}.bn")
            parts.append(part)
        return self.node("Concat", parts, axis=1)

    def decode(self, features: Tuple[str, str, str]) -> str:
        """Context path, fusion and main head: logits at 1/8."""
        features8, features16, features32 = features
        average = self.decoder_block(self.node("GlobalAveragePool", [features32]), "cp.conv_avg")
        context = self.node("Add", [self.refine(features32, "cp.arm32"), average])
        context = self.resize(context, self.size_of(features16), "nearest")
        context16 = self.decoder_block(context, "cp.conv_head32")
        context = self.node("Add", [self.refine(features16, "cp.arm16"), context16])
        context = self.resize(context, self.size_of(features8), "nearest")
        context8 = self.decoder_block(context, "cp.conv_head16")
        fused = self.fuse(features8, context8)
        return self.convolution(self.decoder_block(fused, "conv_out.conv"), "conv_out.conv_out", relu=False)

    def refine(self, value: str, prefix: str) -> str:
        """Attention refinement."""
        value = self.decoder_block(value, f"{prefix}.conv")
        attention = self.node("GlobalAveragePool", [value])
        attention = self.convolution(attention, f"{prefix}.conv_atten", f"{prefix}.bn_atten", relu=False)
        return self.node("Mul", [value, self.node("Sigmoid", [attention])])

    def fuse(self, detail: str, context: str) -> str:
        """Feature fusion."""
        value = self.decoder_block(self.node("Concat", [detail, context], axis=1), "ffm.convblk")
        attention = self.node("GlobalAveragePool", [value])
        attention = self.convolution(attention, "ffm.conv1")
        attention = self.node("Sigmoid", [self.convolution(attention, "ffm.conv2", relu=False)])
        return self.node("Add", [self.node("Mul", [value, attention]), value])

    def decoder_block(self, value: str, prefix: str) -> str:
        return self.convolution(value, f"{prefix}._conv", f"{prefix}._batch_norm")

    # ---- single nodes

    def convolution(
        self, value: str, layer: str, norm: Optional[str] = None, *, stride: int = 1, relu: bool = True
    ) -> str:
        """A convolution with its batch norm folded in, then ReLU; depthwise where its weights are."""
        weight = self.arrays[f"{layer}.weight"].astype(np.float64)  # (out, in / groups, k, k)
        bias = self.arrays.get(f"{layer}.bias", np.zeros(len(weight))).astype(np.float64)
        if norm is not None:
            scale, shift = (self.arrays[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias"))
            mean, variance = (self.arrays[f"{norm}.{name}"].astype(np.float64) for name in ("_mean", "_variance"))
            factor = scale / np.sqrt(variance + _EPSILON)
            weight, bias = weight * factor[:, None, None, None], (bias - mean) * factor + shift
        kernel = weight.shape[-1]
        result = self.node(
            "Conv",
            [value, self.constant(f"{layer}.weight", weight), self.constant(f"{layer}.bias", bias)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            # The only convolutions with one input channel per group are the depthwise ones.
            group=len(weight) if weight.shape[1] == 1 else 1,
        )
        return self.node("Relu", [result]) if relu else result

    def resize(self, value: str, size: str, mode: str, name: str = "") -> str:
        """Nearest, or linear with aligned corners, to a height and width that are known when the graph runs."""
        sizes = self.node("Concat", [self._slice_of_shape(value, 0, 2), size], axis=0)
        ways = {
            "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "linear": {"coordinate_transformation_mode": "align_corners"},
        }
        return self.node("Resize", [value, "", "", sizes], name=name, mode=mode, **ways[mode])

    def size_of(self, value: str) -> str:
        """Height and width of a value, (2,), int64."""
        if value not in self._sizes:
            self._sizes[value] = self._slice_of_shape(value, 2, 4)
        return self._sizes[value]

    def _slice_of_shape(self, value: str, start: int, end: int) -> str:
        bounds = [self.constant("", np.array([bound], np.int64)) for bound in (start, end)]
        return self.node("Slice", [self.node("Shape", [value]), *bounds])

    def node(self, operator: str, inputs: List[str], name: str = "", **attributes: Any) -> str:
        import onnx

        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        import onnx

        name = name or f"constant_{len(self.initializers)}"
        kept = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.initializers.append(onnx.numpy_helper.from_array(kept, name))
        return name

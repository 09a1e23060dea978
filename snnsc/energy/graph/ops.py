"""Operator sets: how an operator treats its axes, and what it costs."""

from __future__ import annotations

UNARY = frozenset(
    {
        *("Abs", "Neg", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Sigmoid", "HardSigmoid", "Tanh"),
        *("HardSwish", "Softplus", "Softsign", "ThresholdedRelu", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Sign"),
        *("Floor", "Ceil", "Round", "Not", "Cast", "CastLike", "Identity", "Dropout", "Clip", "IsNaN", "IsInf"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)
RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
# Flat element order is unchanged.
KEEP_ORDER = UNARY | RESHAPES
COMPARES = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
# Samples must stand on axis 0 and stay there.
ROWS = frozenset(
    {
        *("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization"),
        *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
        *("DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "GroupNormalization"),
    }
)
# Broadcasting aligns axes from the right.
ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Pow", "PRelu", "Where", "Expand", "And", "Or", "Xor"}
    | {"Equal", "BitShift", "Mod", *COMPARES}
)
# Rank and position of axes are unchanged.
SAME_AXES = frozenset(
    {"Concat", "Split", "Slice", "Pad", "Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "Tile", "CumSum"}
)
REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"})

# Moves or selects data; no arithmetic on it. Relu, Clip, Round, casts and comparisons of magnitude are not charged
# by any price model here; documented in the Report.
FREE = RESHAPES | frozenset(
    {
        *("Identity", "Cast", "CastLike", "Dropout", "Transpose", "Expand", "Slice", "Split", "Concat", "Pad", "Tile"),
        *("Gather", "Shape", "Size", "Constant", "ConstantOfShape", "DepthToSpace", "SpaceToDepth"),
        *("Relu", "Clip", "Round"),
        # a comparison, and what is selected by its outcome; rounding to the numbers that an 8-bit operator takes
        *("Equal", "Not", "And", "Or", "Xor", "Where", *COMPARES),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)
LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
SCALES = frozenset({"BatchNormalization", "Mul", "Div"})
SUMS = frozenset({"Add", "Sub", "Sum"})
POOLS = frozenset(
    {"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax"}
)

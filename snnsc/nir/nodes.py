"""What the kinds of NIR nodes hold, and which shape they give.

Shapes are those of one time step of one sample: [C, H, W] or [N].
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Parameters: TypeAlias = Mapping[str, Array]
Shape: TypeAlias = tuple[int, ...]

BROADCAST = frozenset({"Scale", "Threshold", "IF", "LIF", "CubaLIF", "LI"})
"""Nodes whose parameters have the shape of what they read, or one element."""
REQUIRED: dict[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Conv2d": ("weight", "stride", "padding", "dilation", "groups"),
    "Linear": ("weight",),
    "Affine": ("weight", "bias"),
    "IF": ("r", "v_threshold"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"),
    "LI": ("tau", "r", "v_leak"),
    "Flatten": ("start_dim", "end_dim"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Scale": ("scale",),
    "Threshold": ("threshold",),
}
"""Kind -> the parameters that a node of it must have."""
OPTIONAL = {"Conv2d": ("bias", "input_shape"), "IF": ("v_reset",), "LIF": ("v_reset",), "CubaLIF": ("v_reset",)}
NEURONS = frozenset({"IF", "LIF", "CubaLIF", "LI", "Threshold"})
JOINT = "joint"
"""Kind of the input and the output of a nested graph, once that is part of the graph around it."""

_LARGEST_VALUE = 2**29
"""Elements of one value."""


class Malformed(Exception):
    """What is wrong with a node; the message names parameter, value and what is expected."""


def checked(kind: str, given: Parameters) -> dict[str, Array]:
    """The parameters of a node, those that may be left out filled in.

    Raises:
        Malformed: one is missing, is text where a number stands, or is not finite.
    """
    names = REQUIRED.get(kind)
    if names is None:
        raise Malformed(f"nodes of type {kind[:40]!r} are not supported; supported are {', '.join(REQUIRED)}")
    missing = [name for name in names if name not in given]
    if missing:
        raise Malformed(f"lacks {', '.join(missing)}")
    found = {name: given[name] for name in (*names, *OPTIONAL.get(kind, ())) if name in given}
    for name, value in found.items():
        if value.dtype.kind not in "fiub" and name != "padding":
            raise Malformed(f"{name} is text, a number is expected")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Malformed(f"{name} holds NaN or infinity")
    if kind in BROADCAST:
        found = {name: value.reshape(1) if value.size == 1 else value for name, value in found.items()}
    if kind == "Conv2d":
        found.setdefault("bias", np.zeros(found["weight"].shape[:1], np.float32))
    if "v_threshold" in found:
        found.setdefault("v_reset", np.zeros_like(found["v_threshold"]))
    for name in ("tau", "tau_syn", "tau_mem"):
        if name in found and (found[name] <= 0).any():
            raise Malformed(f"{name} is {float(found[name].min()):g}, it must be positive")
    return found


def output_shape(kind: str, given: Parameters, incoming: Shape) -> Shape:
    """The shape that a node gives for the shape that its edges bring.

    Raises:
        Malformed: the two do not fit.
    """
    match kind:
        case "Input":
            shape = sizes(given, "shape")
        case "Output":
            shape = _output(sizes(given, "shape"), incoming)
        case "Conv2d":
            shape = _conv(given, incoming)
        case "Linear" | "Affine":
            shape = _linear(given, incoming)
        case "SumPool2d" | "AvgPool2d":
            shape = _pool(given, incoming)
        case "Flatten":
            start, end = flat_axes(given, len(incoming))
            shape = (*incoming[:start], prod(incoming[start : end + 1]), *incoming[end + 1 :])
        case _ if kind in BROADCAST:
            _broadcasts(given, incoming)
            shape = incoming
        case _:
            assert kind == JOINT, kind
            shape = incoming
    if not shape or min(shape) < 1 or prod(shape) > _LARGEST_VALUE:
        raise Malformed(f"gives the shape {list(shape)}; from 1 to {_LARGEST_VALUE} elements are expected")
    return shape


def sizes(given: Parameters, name: str) -> Shape:
    """A list of whole numbers."""
    value = given[name]
    if value.dtype.kind not in "iu" or value.ndim > 1 or value.size > 8:
        raise Malformed(f"{name} is {_shown(value)}, whole numbers are expected")
    return tuple(int(n) for n in value.reshape(-1))


def pair(given: Parameters, name: str, least: int) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    numbers = sizes(given, name)
    if len(numbers) not in (1, 2) or min(numbers) < least or max(numbers) > 2**15:
        raise Malformed(f"{name} is {_shown(given[name])}, expected are two whole numbers from {least} on")
    return numbers[0], numbers[-1]


def conv_padding(given: Parameters) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a convolution; `same` and `valid` are those of torch."""
    value = given["padding"]
    if value.dtype.kind != "U":
        height, width = pair(given, "padding", 0)
        return height, width, height, width
    match str(value.reshape(-1)[0]) if value.size == 1 else "":
        case "valid":
            return 0, 0, 0, 0
        case "same":
            if pair(given, "stride", 1) != (1, 1):
                raise Malformed("padding is 'same', which needs a stride of 1")
            steps = zip(pair(given, "dilation", 1), given["weight"].shape[2:], strict=True)
            (top, bottom), (left, right) = ((d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for d, k in steps)
            return top, left, bottom, right
        case _:
            raise Malformed(f"padding is {_shown(value)}, expected are numbers, 'same' or 'valid'")


def flat_axes(given: Parameters, rank: int) -> tuple[int, int]:
    """First and last axis that are flattened into one."""
    (start,), (end,) = (
        (numbers if len(numbers) == 1 else (rank,)) for numbers in (sizes(given, "start_dim"), sizes(given, "end_dim"))
    )
    if not (-rank <= start < rank and -rank <= end < rank and start % rank <= end % rank):
        raise Malformed(f"flattens axes {start} to {end} of {rank}")
    return start % rank, end % rank


def _output(shape: Shape, incoming: Shape) -> Shape:
    # some writers add axes of size 1
    if [n for n in shape if n != 1] != [n for n in incoming if n != 1]:
        raise Malformed(f"shape is {list(shape)}, its edges bring {list(incoming)}")
    return incoming


def _conv(given: Parameters, incoming: Shape) -> Shape:
    weight, bias = given["weight"], given["bias"]
    groups_of = sizes(given, "groups")
    if len(groups_of) != 1:
        raise Malformed(f"groups is {_shown(given['groups'])}, one number is expected")
    (groups,) = groups_of
    if weight.ndim != 4 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        raise Malformed(f"weight has shape {list(weight.shape)}, bias {list(bias.shape)}; expected [O,C,h,w] and [O]")
    if groups < 1 or weight.shape[0] % groups:
        raise Malformed(f"groups is {groups}, which does not divide its {weight.shape[0]} output channels")
    if len(incoming) != 3 or incoming[0] != weight.shape[1] * groups:
        expected = f"[{weight.shape[1] * groups},H,W]"
        raise Malformed(f"its edges bring {list(incoming)}, weight and groups expect {expected}")
    if "input_shape" in given and (told := sizes(given, "input_shape")) != incoming[1:]:
        raise Malformed(f"input_shape is {list(told)}, its edges bring {list(incoming)}")
    top, left, bottom, right = conv_padding(given)
    padded = (incoming[1] + top + bottom, incoming[2] + left + right)
    dilation, stride = pair(given, "dilation", 1), pair(given, "stride", 1)
    spread = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    return (int(weight.shape[0]), *_windows(padded, spread, stride))


def _linear(given: Parameters, incoming: Shape) -> Shape:
    weight = given["weight"]
    if weight.ndim != 2 or 0 in weight.shape:
        raise Malformed(f"weight has shape {list(weight.shape)}, a matrix is expected")
    if "bias" in given and given["bias"].shape != weight.shape[:1]:
        raise Malformed(f"bias has shape {list(given['bias'].shape)}, weight {list(weight.shape)}")
    if incoming != weight.shape[1:]:
        raise Malformed(f"its edges bring {list(incoming)}, weight has shape {list(weight.shape)}")
    return (int(weight.shape[0]),)


def _pool(given: Parameters, incoming: Shape) -> Shape:
    if len(incoming) != 3:
        raise Malformed(f"its edges bring {list(incoming)}, [C,H,W] is expected")
    kernel, stride, padding = pair(given, "kernel_size", 1), pair(given, "stride", 1), pair(given, "padding", 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Malformed(f"padding {list(padding)} is more than half of kernel_size {list(kernel)}")
    padded = (incoming[1] + 2 * padding[0], incoming[2] + 2 * padding[1])
    return (incoming[0], *_windows(padded, kernel, stride))


def _windows(padded: tuple[int, int], kernel: tuple[int, ...] | list[int], stride: tuple[int, int]) -> list[int]:
    if any(n < k for n, k in zip(padded, kernel, strict=True)):
        raise Malformed(f"its window {list(kernel)} is larger than its padded input {list(padded)}")
    return [(n - k) // s + 1 for n, k, s in zip(padded, kernel, stride, strict=True)]


def _broadcasts(given: Parameters, incoming: Shape) -> None:
    for name, value in given.items():
        if value.size != 1 and value.shape != incoming:
            raise Malformed(f"{name} has shape {list(value.shape)}, its edges bring {list(incoming)}")


def _shown(value: Array) -> str:
    return " ".join(str(value.tolist() if value.size <= 8 else f"an array of shape {list(value.shape)}").split())[:80]

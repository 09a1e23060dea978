"""Which window positions of a convolution or pooling touch which input positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snnsc.energy.graph.nodes import Node


class Unsupported(Exception):
    """The node has a form that is not counted; the message says which."""


@dataclass(frozen=True)
class Windows:
    """The windows along each spatial axis.

    Attributes:
        kernel: Size of the window.
        strides: Step between windows.
        dilations: Step inside a window.
        begins: Padding before the first position.
        ends: Padding after the last position.
        sizes: Input size.
        counts: Number of windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def padded(self) -> bool:
        """Whether there is any padding."""
        return any(self.begins) or any(self.ends)

    @property
    def overhang(self) -> bool:
        """Whether some window reaches past the padded input, as `ceil_mode` allows."""
        return any(
            (count - 1) * s + (k - 1) * d + 1 > size + b + e
            for k, s, d, b, e, size, count in zip(
                self.kernel, self.strides, self.dilations, self.begins, self.ends, self.sizes, self.counts, strict=True
            )
        )

    def incidence(self, axis: int) -> np.ndarray:
        """`A[k, h]` = number of windows (0 or 1) in which kernel offset k lies on input position h."""
        matrix = np.zeros((self.kernel[axis], self.sizes[axis]))
        starts = np.arange(self.counts[axis]) * self.strides[axis] - self.begins[axis]
        for offset in range(self.kernel[axis]):
            positions = starts + offset * self.dilations[axis]
            matrix[offset, positions[(positions >= 0) & (positions < self.sizes[axis])]] = 1
        return matrix

    def spread(self, per_offset: np.ndarray) -> np.ndarray:
        """Transposed convolution of ones, separably.

        Args:
            per_offset: How many weights stand at each offset, [C, *kernel].

        Returns:
            How many weights each input position meets, [C, *sizes], float64 holding integers.
        """
        fanout = per_offset.astype(np.float64)
        for axis in range(len(self.kernel)):
            fanout = np.tensordot(fanout, self.incidence(axis), axes=([1], [0]))
        return fanout

    def reach(self, per_offset: np.ndarray) -> np.ndarray:
        """The other way round: how many weights of each window lie on a position that exists.

        Args:
            per_offset: How many weights stand at each offset, [C, *kernel].

        Returns:
            How many weights each window meets, [C, *counts].
        """
        met = per_offset.astype(np.float64)
        for axis in range(len(self.kernel)):
            offsets = np.arange(self.kernel[axis])[:, np.newaxis] * self.dilations[axis]
            positions = np.arange(self.counts[axis]) * self.strides[axis] - self.begins[axis] + offsets
            exists = (positions >= 0) & (positions < self.sizes[axis])
            met = np.tensordot(met, exists.astype(np.float64), axes=([1], [0]))
        return met


def windows(
    node: Node, kernel: tuple[int, ...], input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> Windows:
    """The windows of a Conv or pooling node, checked against the output that the runtime really made.

    Raises:
        Unsupported: The attributes do not explain the output shape.
    """
    rank = len(kernel)
    sizes, counts = input_shape[2:], output_shape[2:]
    if len(sizes) != rank or len(counts) != rank:
        msg = f"kernel {list(kernel)} does not fit input shape {list(input_shape)}"
        raise Unsupported(msg)
    strides = tuple(node.ints("strides", [1] * rank))
    dilations = tuple(node.ints("dilations", [1] * rank))
    begins, ends = _padding(node, kernel, strides, dilations, sizes)
    ceil = node.integer("ceil_mode", 0)
    for k, s, d, b, e, size, count in zip(kernel, strides, dilations, begins, ends, sizes, counts, strict=True):
        room = size + b + e - ((k - 1) * d + 1)
        if count not in ({room // s + 1, -(-room // s) + 1} if ceil else {room // s + 1}):
            msg = f"output shape {list(output_shape)} does not follow from its attributes"
            raise Unsupported(msg)
    return Windows(kernel, strides, dilations, begins, ends, tuple(sizes), tuple(counts))


def transposed(
    node: Node, kernel: tuple[int, ...], input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> Windows:
    """The windows of a ConvTranspose: one for each input position, over the positions of the output.

    Raises:
        Unsupported: The attributes do not explain the output shape.
    """
    rank = len(kernel)
    counts, sizes = input_shape[2:], output_shape[2:]
    strides = tuple(node.ints("strides", [1] * rank))
    dilations = tuple(node.ints("dilations", [1] * rank))
    more = node.ints("output_padding", [0] * rank)
    mode = node.text("auto_pad", "NOTSET")
    begins, ends = _pads(node, rank) if mode in ("NOTSET", "") else ((0,) * rank, (0,) * rank)
    needed = [
        (count - 1) * s + (k - 1) * d + 1 + extra - size
        for k, s, d, extra, size, count in zip(kernel, strides, dilations, more, sizes, counts, strict=True)
    ]
    if "output_shape" in node.attrs or mode in ("SAME_UPPER", "SAME_LOWER"):
        halves = [max(n, 0) // 2 for n in needed]
        begins = tuple(h if mode == "SAME_UPPER" else max(n, 0) - h for n, h in zip(needed, halves, strict=True))
        ends = tuple(max(n, 0) - b for n, b in zip(needed, begins, strict=True))
    elif [b + e for b, e in zip(begins, ends, strict=True)] != needed:
        msg = f"output shape {list(output_shape)} does not follow from its attributes"
        raise Unsupported(msg)
    return Windows(kernel, strides, dilations, begins, ends, tuple(sizes), tuple(counts))


def _pads(node: Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pads = node.ints("pads", [0] * (2 * rank))
    return tuple(pads[:rank]), tuple(pads[rank:])


def _padding(
    node: Node, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = len(kernel)
    mode = node.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return _pads(node, rank)
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        msg = f"auto_pad {mode!r} is unknown"
        raise Unsupported(msg)
    totals = [
        max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        for k, s, d, size in zip(kernel, strides, dilations, sizes, strict=True)
    ]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if mode == "SAME_UPPER" else (large, small)

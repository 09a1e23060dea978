"""What is known of one row before any sample has run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from snnsc.energy.plan.kinds import Kind


@dataclass(frozen=True)
class LayerFacts:
    """What chips and price models ask about a layer; shapes are of one sample and one time step.

    Attributes:
        input_shape: Of the value it reads, the samples' axis left out.
        output_shape: Of the value it makes.
        kernel: Spatial size of a convolution's or pool's window; empty elsewhere.
        strides: One for each axis of the kernel.
        pads: Begins, then ends, of each axis of the kernel.
        dilations: One for each axis of the kernel.
        groups: Of a convolution; 1 elsewhere.
        fan_in: The largest number of nonzero weights that one output element meets.
        parameters: Elements of weight and bias, zeros included.
        weight_bits: 32, 16 or 8: of the stored weight.
        sources: Names of the rows whose output it reads.
        arithmetic: (multiplications, additions) of one update of one element of a recognised foreign neuron.
    """

    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    fan_in: int = 0
    parameters: int = 0
    weight_bits: int = 32
    sources: tuple[str, ...] = ()
    arithmetic: tuple[int, int] | None = None


@dataclass(frozen=True)
class Layer:
    """One row of the report, before any sample has run.

    Attributes:
        name: Unique name.
        op: Operator type.
        kind: Kind of its input (of its output for a neuron layer).
        static: Counts per sample that follow from shapes and weights.
        tensor: The value to measure.
        fanout: For each element of one time step of one sample, how many nonzero weights (or windows) it meets;
            None to count nonzero elements only.
        inner: Elements of one time step of one sample of the measured value.
        inside: Elements inside its time axis, see `times`; 0 where time stands in front of the samples.
        role: What the measurement is: events of a linear row, pool events, spikes, pairs, or nothing. `pairs` is a
            product of two values, [..., M, K] @ [..., K, N]: events = the sum over k of (nonzeros of the left one's
            column k) * (nonzeros of the right one's row k). `kind` is binary where either operand is (an addition),
            and `inner` is the layout of [..., K], the product of both counts.
        second: The right operand, where the role is `pairs`.
        group: Name of the row that it is reported under; its own, but for nodes unrolled over time.
        step: The time step that the node is, in a graph that is unrolled over time.
        facts: See `LayerFacts`.
    """

    name: str
    op: str
    kind: Kind
    static: dict[str, int]
    tensor: str = ""
    fanout: np.ndarray | None = field(default=None, repr=False, compare=False)
    inner: int = 1
    inside: int = field(default=0, kw_only=True)
    role: str = ""
    second: str = ""
    group: str = ""
    step: int | None = None
    facts: LayerFacts = LayerFacts()

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.name)

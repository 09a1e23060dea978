"""What a target file may say: price models and chips, every number with where it was published.

    arithmetic      price of a multiplication and of an addition
    memory          those, and of reaching into memories whose size is the layer's (arXiv 2210.13107)
    event           price of a synaptic event, of a neuron's update, of a spike; static power apart
    not-published   nobody has published a price of a synaptic event; what the chip holds may still be known

`formulas` says what each is multiplied with, `fit` reads `[limits]`. The files that ship lie in `targets/`;
`targets/loihi.toml` shows how to write one.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from snnsc.recipe.schema.spec import ImpossibleCombination, NonNegative, Positive, Spec

Text = Annotated[str, StringConstraints(pattern=r"\S")]
"""Words, not blanks alone."""
Grade = Literal["measured", "simulated", "vendor", "secondary"]


class Sourced(Spec):
    """What everything published carries."""

    source: Text
    """Where it was published."""
    grade: Grade
    """Measured on silicon, simulated, told by the vendor, or taken (or derived) from what others tell."""


class Quantity(Sourced):
    """One published number, measured at one operating point."""

    value: NonNegative
    """The number."""
    unit: str
    """Its unit."""
    process: Text
    """Semiconductor process."""
    voltage: Positive | None = None
    """Supply in volt; left out where the source does not tell it."""


class Energy(Quantity):
    """Energy of one operation."""

    unit: Literal["pJ"]
    """Picojoule."""


class EnergyPerBit(Quantity):
    """By how much an access gets dearer with each bit that the memory holds."""

    unit: Literal["pJ / bit"]
    """Picojoule an access, a bit of the memory."""


class Power(Quantity):
    """Power that is drawn whether the chip works or not."""

    unit: Literal["mW"]
    """Milliwatt."""


class Limit(Sourced):
    """How much there is of something."""

    value: int = Field(gt=0)
    """The number."""
    unit: Text
    """Of what."""


class Memory(Sourced):
    """How much a memory holds."""

    value: Positive
    """The number."""
    unit: Literal["KiB"]
    """1024 bytes."""


class Sizes(Sourced):
    """The sizes that are possible."""

    values: tuple[int, ...] = Field(min_length=1)
    """All of them."""
    unit: Text
    """Of what."""


class Names(Sourced):
    """The things that are possible, by name."""

    values: tuple[str, ...] = Field(min_length=1)
    """All of them."""


class Fact(Sourced):
    """Something that is so."""

    value: Literal[True]
    """That it is so."""


class LayerCores(Sourced):
    """Memories of cores that hold one layer each."""

    kernel_words: tuple[int, ...] = Field(min_length=1)
    """Words for kernels, a core."""
    neuron_words: tuple[int, ...]
    """Words for neurons, a core."""

    @model_validator(mode="after")
    def _a_pair_a_core(self) -> Self:
        if len(self.kernel_words) != len(self.neuron_words):
            raise ImpossibleCombination([("neuron_words", f"must be {len(self.kernel_words)} numbers, one a core")])
        return self


class Limits(Spec):
    """What a chip holds; `fit` checks what stands here, and nothing else."""

    cores: Limit | None = None
    """Cores of a chip."""
    neurons_per_core: Limit | None = None
    """Neurons of a core."""
    neurons: Limit | None = None
    """Neurons of a chip, where cores are not told."""
    synapses: Limit | None = None
    """Synapses of a chip."""
    synaptic_memory_per_core: Memory | None = None
    """Memory for the synapses of a core, each of them stored."""
    weight_memory_per_core: Memory | None = None
    """Memory of a core that software fills: weights that are shared are stored once."""
    fan_in: Limit | None = None
    """Synapses of one neuron."""
    axons_in_per_core: Limit | None = None
    """Neurons whose spikes reach one core."""
    axons_out_per_core: Limit | None = None
    """Pairs of a neuron in one core and a core that its spikes reach."""
    weight_bits: Limit | None = None
    """Bits of a weight at most."""
    neuron_kinds: Names | None = None
    """Kinds of neurons that the circuit has."""
    stateless: Fact | None = None
    """Nothing is kept from one time step to the next."""
    kernels: Sizes | None = None
    """Sizes of a square kernel."""
    strides: Sizes | None = None
    """Strides of a convolution."""
    pads: Limit | None = None
    """Padding at most."""
    channels: Limit | None = None
    """Channels of a layer at most."""
    input_size: Limit | None = None
    """Side of a layer's input at most."""
    output_size: Limit | None = None
    """Side of a layer's output at most."""
    sum_pools: Sizes | None = None
    """Sizes and strides of a sum-pooling window; no other pooling there is."""
    destinations: Limit | None = None
    """Layers that one layer feeds at most."""
    layer_cores: LayerCores | None = None
    """Cores that hold one layer each."""


class Update(Spec):
    """Operations of one neuron in one time step, whether it fires or not."""

    multiplies: int = Field(ge=0)
    """Multiplications."""
    adds: int = Field(ge=0)
    """Additions."""


class TargetBase(Spec):
    """Keys of every target."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    """Its name, that of its file."""
    summary: Text
    """One line."""
    notes: tuple[Text, ...] = ()
    """What a reader of the price must know; sentences."""
    not_published: tuple[Text, ...] = ()
    """What no figure is known for, so that the price lacks it."""
    limits: Limits | None = None
    """What the chip holds."""

    @property
    def constants(self) -> dict[str, Quantity]:
        """The published numbers behind a price, by key."""
        found = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in found.items() if isinstance(value, Quantity)}


class OperationTarget(TargetBase):
    """Keys of the targets that price multiplications and additions."""

    precision: Text
    """Number format that it prices."""
    bits: int = Field(ge=1, le=64)
    """Width of a number in it."""
    multiply: Energy
    """A multiplication."""
    add: Energy
    """An addition."""
    neuron: dict[str, Update]
    """Kind of neuron -> operations of one update. A kind that is not listed is not priced."""

    @property
    def mac_pj(self) -> float:
        """Energy of a multiplication and an addition, in pJ."""
        return self.multiply.value + self.add.value


class ArithmeticTarget(OperationTarget):
    """Arithmetic alone."""

    kind: Literal["arithmetic"]
    """How it prices."""
    number: Literal["float", "integer"]
    """Whether it is the price of floating-point numbers or of integers."""


class MemoryTarget(OperationTarget):
    """Arithmetic, memories and addressing."""

    kind: Literal["memory"]
    """How it prices."""
    access: Energy
    """An access to the smallest memory."""
    access_per_bit: EnergyPerBit
    """What each bit of the memory adds to that."""
    queue_words: int = Field(ge=0)
    """Words of the queue of spikes before and after a layer."""


class EventTarget(TargetBase):
    """A chip that works on spikes."""

    kind: Literal["event"]
    """How it prices."""
    synaptic_event: Energy
    """A spike that meets a synapse."""
    neuron_update: Energy | None = None
    """An update of a neuron, whatever it does."""
    active_update: Energy | None = None
    """An update of a neuron that fires; with `inactive_update`, in place of `neuron_update`."""
    inactive_update: Energy | None = None
    """An update of a neuron that does not."""
    spike: Energy | None = None
    """A spike on its way."""
    static_power: Power | None = None
    """Of one chip; a price has it only where inferences a second are told."""
    includes_static: bool = False
    """Whether static power is in `synaptic_event` already: an average at one operating point, not a slope."""

    @model_validator(mode="after")
    def _one_way_to_price_each(self) -> Self:
        problems = []
        if (self.active_update is None) != (self.inactive_update is None):
            missing = "active_update" if self.active_update is None else "inactive_update"
            problems.append((missing, "missing; active and inactive updates are priced together"))
        if self.neuron_update and (self.active_update or self.inactive_update):
            problems.append(("neuron_update", "cannot stand beside active_update and inactive_update; leave it out"))
        if self.active_update and self.inactive_update and self.active_update.value < self.inactive_update.value:
            problems.append(("inactive_update", "must not be dearer than active_update; exchange them"))
        if self.includes_static and self.static_power:
            problems.append(("static_power", "would be charged twice, as includes_static is true; leave one out"))
        if problems:
            raise ImpossibleCombination(problems)
        return self


class NotPublishedTarget(TargetBase):
    """A chip without a published price."""

    kind: Literal["not-published"]
    """How it prices: not at all."""
    reason: Text
    """Why there is none, in one sentence."""
    source: Text
    """Where one would expect it, or where that is said."""


Target = ArithmeticTarget | MemoryTarget | EventTarget | NotPublishedTarget

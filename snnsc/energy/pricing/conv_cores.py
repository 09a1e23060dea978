"""Limits of chips whose cores hold a whole convolution each: windows, maps, and memories in words.

A fully connected layer that reads the maps of a convolution is one with a kernel as large as its map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from snnsc.energy.counting.counts import Counts, LayerCount
from snnsc.energy.pricing.formulas import is_known, number, shape
from snnsc.energy.pricing.packing import match
from snnsc.energy.pricing.populations import has_synapses, is_neuron, names
from snnsc.energy.pricing.schema import LayerCores, Limit, Limits, Sizes

_UNKNOWN = "shapes or sources of some layers are not known"


@dataclass(frozen=True)
class Finding:
    """One check; `fits` is None where it could not be made, `short` the reason with the worst layer alone."""

    name: str
    fits: bool | None
    needed: float | None
    available: float | None
    unit: str
    more_chips: bool
    reason: str
    source: str
    short: str = ""


@dataclass(frozen=True)
class Window:
    """A layer as such a core sees it.

    Attributes:
        name: Row of the counts.
        channels: Of its input.
        filters: Channels of its output.
        kernel: Height and width.
        strides: Along height and width.
        pads: The largest.
        inputs: Height and width of its input.
        outputs: Height and width of its output.
    """

    name: str
    channels: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]

    @property
    def kernel_words(self) -> int:
        """Words: c 2^(ceil(log2 k^2) + ceil(log2 f)), as an address is put together of whole bits."""
        height, width = self.kernel
        return self.channels << (_address_bits(height * width) + _address_bits(self.filters))

    @property
    def neuron_words(self) -> int:
        """Words: f 2^(ceil(log2 h) + ceil(log2 w))."""
        height, width = self.outputs
        return self.filters << (_address_bits(height) + _address_bits(width))


def check_layers(counts: Counts, limits: Limits) -> Iterator[Finding]:
    """The limits that hold for every single layer, in the order of `schema.Limits`."""
    rows = {layer.name: layer for layer in counts.layers}
    linear = [layer for layer in counts.layers if has_synapses(layer)]
    windows = [window for layer in linear if (window := _window(layer, rows))]
    complete = len(windows) == len(linear)
    if limits.kernels:
        squares: set[tuple[str, int | tuple[int, ...]]] = {
            (w.name, w.kernel[0] if w.kernel[0] == w.kernel[1] else w.kernel) for w in windows
        }
        yield _sizes("square kernels", squares, limits.kernels, complete)
    if limits.strides:
        strides = {(w.name, side) for w in windows for side in w.strides}
        yield _sizes("strides", strides, limits.strides, complete)
    for name, limit, needs in (
        ("padding", limits.pads, {w.name: w.pads for w in windows}),
        ("channels", limits.channels, {w.name: max(w.channels, w.filters) for w in windows}),
        ("side of an input", limits.input_size, {w.name: max(w.inputs) for w in windows}),
        ("side of an output", limits.output_size, {w.name: max(w.outputs) for w in windows}),
    ):
        if limit:
            yield _largest(name, limit, needs, complete)
    if limits.sum_pools:
        yield _pools(counts, limits.sum_pools)
    if limits.destinations:
        yield _destinations(counts, rows, limits.destinations)
    if limits.layer_cores:
        yield _cores(windows, limits.layer_cores, complete)


def _window(layer: LayerCount, rows: dict[str, LayerCount]) -> Window | None:
    kernel, inputs, outputs = (shape(layer, key) for key in ("kernel", "input_shape", "output_shape"))
    if kernel:
        strides, pads = shape(layer, "strides"), shape(layer, "pads")
        if not (len(kernel) == len(strides) == 2 and len(inputs) == len(outputs) == 3) or number(layer, "groups") != 1:
            return None
        sides = inputs[1:], outputs[1:]
        return Window(
            *(
                layer.name,
                inputs[0],
                outputs[0],
                (kernel[0], kernel[1]),
                (strides[0], strides[1]),
                max(pads, default=0),
            ),
            *((side[0], side[1]) for side in sides),
        )
    if len(inputs) != 1 or len(outputs) != 1 or "sources" not in layer.facts:
        return None
    maps = {shape(rows[name], "output_shape") for name in names(layer, "sources") if name in rows}
    channels, height, width = (inputs[0], 1, 1)
    if len(maps) == 1 and len(found := next(iter(maps))) == 3 and found[0] * found[1] * found[2] == inputs[0]:
        channels, height, width = found
    return Window(layer.name, channels, outputs[0], (height, width), (1, 1), 0, (height, width), (1, 1))


def _sizes(name: str, found: Iterable[tuple[str, int | tuple[int, ...]]], allowed: Sizes, complete: bool) -> Finding:
    worst_first = sorted(found, key=lambda pair: (-max(_sides(pair[1])), pair[0]))
    wrong = [f"{layer}: {_shown(size)}" for layer, size in worst_first if size not in allowed.values]
    return _known(name, wrong, f"there are {', '.join(map(str, allowed.values))}", allowed, complete)


def _largest(name: str, limit: Limit, needs: dict[str, int], complete: bool) -> Finding:
    most = max(needs.values(), default=0)
    wrong = beyond(needs, limit.value)
    if not wrong and not complete:
        return Finding(name, None, None, limit.value, limit.unit, False, _UNKNOWN, limit.source)
    told = (", ".join(wrong), limit.source, worst(wrong))
    return Finding(name, not wrong, most, limit.value, limit.unit, False, *told)


def beyond(needs: Mapping[str, float], most: float) -> list[str]:
    """Layers that need more than there is, the worst first."""
    wrong = [layer for layer, need in needs.items() if need > most]
    return sorted(wrong, key=lambda layer: needs[layer], reverse=True)


def worst(broken: Sequence[str]) -> str:
    """The first of them, and how many more there are; empty for none."""
    if len(broken) < 2:
        return "".join(broken)
    return f"{broken[0]} and {len(broken) - 1} more layer{'' if len(broken) == 2 else 's'}"


def _known(name: str, wrong: Sequence[str], allowed: str, sizes: Sizes, complete: bool) -> Finding:
    """One layer that does not fit decides; that all fit takes all of them."""
    if not wrong:
        fits = True if complete else None
        return Finding(name, fits, None, None, sizes.unit, False, "" if complete else _UNKNOWN, sizes.source)
    told = f"{'; '.join(wrong)}; {allowed}", sizes.source, f"{worst(wrong)}; {allowed}"
    return Finding(name, False, None, None, sizes.unit, False, *told)


def _pools(counts: Counts, allowed: Sizes) -> Finding:
    """Only windows that add up, as large as they are apart: an average is a sum with other weights behind it."""
    wrong, complete = [], True
    for layer in counts.layers:
        if "input_elements" not in layer.stats or "dense_macs" in layer.stats:
            continue
        kernel, strides = shape(layer, "kernel"), shape(layer, "strides")
        if "Max" in layer.op:
            wrong.append(f"{layer.name}: {layer.op}")
        elif layer.op.startswith(("Reduce", "Global")):
            kernel = shape(layer, "input_shape")[1:]
            strides = kernel
        if not kernel:
            complete = False
        elif any(size not in allowed.values for size in (*kernel, *strides)) or kernel != strides:
            wrong.append(f"{layer.name}: {_shown(kernel)}")
    sizes = ", ".join(map(str, allowed.values))
    return _known("sum pools", wrong, f"windows are added up, of {sizes}", allowed, complete)


def _destinations(counts: Counts, rows: dict[str, LayerCount], limit: Limit) -> Finding:
    """How many layers read the spikes of one, through pools."""
    reach: dict[str, set[str]] = {layer.name: set() for layer in counts.layers if is_neuron(layer)}
    complete = True
    for layer in counts.layers:
        if not has_synapses(layer):
            continue
        seen, waiting = {layer.name}, [layer]
        while waiting:
            current = waiting.pop()
            complete &= is_known(current) and "sources" in current.facts
            for name in names(current, "sources"):
                if name in reach:
                    reach[name].add(layer.name)
                elif name in rows and name not in seen and not has_synapses(rows[name]):
                    waiting.append(rows[name])
                seen.add(name)
    return _largest("destinations of a layer", limit, {name: len(found) for name, found in reach.items()}, complete)


def _cores(windows: list[Window], cores: LayerCores, complete: bool) -> Finding:
    """Every layer on a core of its own whose memories hold it."""
    name, total = "cores, one a layer, with room in both memories", len(cores.kernel_words)
    if not complete:
        return Finding(name, None, None, total, "cores", True, _UNKNOWN, cores.source)
    memories = list(zip(cores.kernel_words, cores.neuron_words, strict=True))
    needs = [(window.kernel_words, window.neuron_words) for window in windows]
    too_large = [
        f"{w.name}: {w.kernel_words:,} kernel words and {w.neuron_words:,} neuron words"
        for w in sorted(windows, key=lambda w: w.kernel_words + w.neuron_words, reverse=True)
        if not any(w.kernel_words <= kernel and w.neuron_words <= neuron for kernel, neuron in memories)
    ]
    if too_large:
        told = f"no core holds {'; '.join(too_large)}", cores.source, f"no core holds {worst(too_large)}"
        return Finding(name, False, len(windows), total, "cores", False, *told)
    placed = match(needs, memories)
    reason = "" if placed == len(windows) else f"{placed} of {len(windows)} layers find a core"
    return Finding(name, placed == len(windows), len(windows), total, "cores", True, reason, cores.source)


def _sides(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,)


def _shown(size: int | tuple[int, ...]) -> str:
    return "x".join(map(str, _sides(size)))


def _address_bits(size: int) -> int:
    """Ceil(log2(size))."""
    return (size - 1).bit_length()

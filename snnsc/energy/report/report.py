"""The energy report: what `snnsc energy` prints and what `--json` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snnsc.energy.counting.counting import count, dense
from snnsc.energy.counting.counts import Counts
from snnsc.energy.counting.embedded import read_embedded
from snnsc.energy.counting.inputs import Samples, load_told, states_at_rest
from snnsc.energy.counting.ranges import InputRange, Watch
from snnsc.energy.graph.folding import foldable
from snnsc.energy.graph.graph import STATISTICS_KEY, Graph, read_graph
from snnsc.energy.pricing.fit import Fit, fit
from snnsc.energy.pricing.pricing import Price, price
from snnsc.energy.pricing.schema import Target
from snnsc.energy.pricing.targets import find_targets, load_targets
from snnsc.energy.report.rows import chip_row, layer_row, network_row, total_row
from snnsc.energy.report.wording import strings
from snnsc.errors import DataError

_TOLD = {
    "version": "snnsc.version",
    "time_steps": "snnsc.T",
    "neuron": "snnsc.neuron",
    "input": "snnsc.input",
    "artifact": "snnsc.artifact",
}


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, as its file tells; empty or None where it does not.

    Attributes:
        version: Of the snnsc that wrote it.
        time_steps: T.
        neuron: JSON text: the neuron's equation and its constants.
        input: JSON text: layout and coding of the input.
        artifact: What of a network it is, such as `step`: one time step.
        stripped: Tensors of removable branches that were left out before it was written.
    """

    version: str | None = None
    time_steps: str | None = None
    neuron: str | None = None
    input: str | None = None
    artifact: str | None = None
    stripped: tuple[str, ...] = ()

    @classmethod
    def of(cls, graph: Graph) -> Origin:
        """From the metadata of a graph."""
        told = {name: graph.metadata.get(key) for name, key in _TOLD.items()}
        return cls(**told, stripped=tuple(strings(graph.metadata.get("snnsc.stripped"))))


@dataclass(frozen=True)
class Report:
    """Counts and prices of one model; per sample, means over the samples.

    Keys of a row in `layers`, all per sample and over all time steps together:

        name, op            node name; ONNX operator, or the kind of neuron
        input_kind          real, binary, integer, scaled (see `kinds`); of the output for a neuron row
        input_unit          what integer and scaled inputs are multiples of; null for real
        time_steps          how often the layer runs: T, or 1 where it stands before (or after) the time axis
        dense_macs          output elements x weights that one output meets, padding included, as the graph runs it
        ann_macs            dense_macs of one time step: the layer in the ANN twin. Where a layer has weights of its
                            own at every time step, it is a row for each, and only the first has ann_macs; null
                            where it cannot be told where time stands in what it reads
        max_events          events if every input element were nonzero: exact fan-out, borders and zero weights left out
        events              pairs of a nonzero input element and a nonzero weight it meets
        acs, macs           events that are additions, events that need a multiplication; acs + macs = events.
                            binary input: all acs; real: all macs; integer and scaled: an element of +-1 unit is an
                            addition, any other a multiplication
        event_magnitude     sum over events of the integer value: additions if integers are sent as unit spikes.
                            For real inputs it is `events`, as a real number cannot be unrolled
        macs_every_step     macs if a layer before the first neurons, which the graph runs once, ran at every step;
                            equals macs elsewhere
        input_density       share of nonzero input elements; null for rows without an input of their own
        bias_adds           additions of a nonzero bias
        residual_adds       additions of one varying value to another, element by element
        pool_events         pairs of a nonzero input element and a pooling window that holds it
        neuron_updates      neurons x time steps; each is one compare, one add, and one multiplication if it leaks
        spikes              ones in the output of a neuron row (each one reset)
        firing_rate         spikes / neuron_updates; null for other rows
        weight_reads        one for each event
        membrane_reads, membrane_writes   one for each event and one for each neuron update (arXiv 2210.13107); 0
                            in a graph without neurons
        events_min, events_max, spikes_min, spikes_max   of the samples
        weights             nonzero weights
        std                 quantity -> standard deviation over the samples (divisor n); {} without samples
        steps               quantity -> its mean at each time step; the sum of the list is the quantity
        spread              `events`, `spikes` -> histogram over the samples: `samples` in 20 equal bins `from` 0
                            `to` the largest value possible; {} without samples
        facts               form of the layer: shapes, kernel, fan_in, parameters, weight_bits, sources, ... (see
                            `layer.LayerFacts`)

    Keys of an entry of `energy`, one a target, in pJ a sample; null where there is no figure:

        model, kind, summary        name of the target; arithmetic, memory, event (a chip) or not-published; one line
        snn_pj, ann_pj, ratio       the network; its ANN twin, run once; the one over the other
        terms                       parts that add up to snn_pj (see `formulas`)
        layers                      name of a row -> its part of snn_pj, static power left out
        mac_pj, ac_pj, neuron_pj    those parts of an arithmetic target, as in `terms`
        snn_pj_bound                snn_pj if every input element were an event
        not_priced                  kinds of neurons whose updates are charged 0
        equal                       the ANN twin at ceil(log2(T + 1)) bits, see `pricing.EqualInformation`; of the one
                                    target that prices both in that arithmetic, null elsewhere
        constants, assumptions      published numbers with source and grade; what is taken for granted
        static                      where a rate was told: charged, included, not published; see `pricing.Price`

    Keys of an entry of `fit`, one a chip: `target`, `verdict` (fits, does not fit, not checked), `cores_used`, `cores`,
    `more_chips` (whether they would help), `checks` (`name`, `verdict`, `needed`, `available`, `unit`,
    `overflow`, `more_chips`, `detail`, `source`, `short`); see `fit.Fit`.

    `not_counted` (`op`, `reason`, `count`, `nodes`, `share`: of the compute that they hide at most, null where not
    known) and `violations` (`value`, `kind`, `elements`, `samples`: what is not of the kind that the graph promises).
    `model` is the file, `graph` the SHA-256 of all that computes, `origin` what the file tells of where it is from.

    `chips` is what the terms of chips are made of: `spike_events` (an integer n is n of them), `real_events` (of real
    inputs, at every time step; BatchNormalization, Mul and Div are no synapses), `neuron_updates`, `spikes`; null
    without samples or neurons. `foldable` names rows of BatchNormalization that could be folded into the layer before
    them. `input_range` (`name`, `found`, `expected`, `fits`: whether the samples can have been normalised as the
    metadata of the model tell; null where they do not). `inferences_per_second` is the rate that was told.

    `totals` sums the rows key by key. `network` has, for a sum over all rows, `mean`, `std`, `min` and `max` over the
    samples (of the whole network sample by sample), `firing_rate` likewise, and `spread` as a row. Without samples
    (`source` is "none") everything measured is null, and `max_events` and `snn_pj_bound` bound it from above. Clip,
    Relu, casts and moves of data cost nothing here.

    Attributes:
        source: `embedded`, the file (or the recipe) of the inputs, or `none`.
        counts: The counts, exact.
        prices: One a target.
        fits: One a target that tells what its chip holds.
        model: The file.
        origin: What the file says of itself.
        foldable: Rows of normalisations that could be folded.
        input_range: Of the samples.
        rate: Inferences a second that share static power.
    """

    source: str
    counts: Counts
    prices: tuple[Price, ...]
    fits: tuple[Fit, ...] = ()
    model: str = ""
    origin: Origin = Origin()
    foldable: tuple[str, ...] = ()
    input_range: InputRange | None = None
    rate: float | None = None

    @classmethod
    def of(
        cls,
        graph: Graph,
        counts: Counts,
        source: str,
        *,
        model: str = "",
        targets: Sequence[Target] | None = None,
        rate: float | None = None,
        input_range: InputRange | None = None,
    ) -> Report:
        """The report of a graph that was counted; `model` is its file, all targets that ship the default."""
        chosen = load_targets() if targets is None else targets
        checked = (fit(counts, target) for target in chosen)
        fits = tuple(found for found in checked if found is not None)
        prices, named = tuple(price(counts, chosen, rate)), foldable(graph)
        return cls(
            *(source, counts, prices, fits, model or graph.source, Origin.of(graph)),
            foldable=tuple(layer.name for layer in counts.layers if layer.name in named),
            input_range=input_range,
            rate=rate,
        )

    def to_dict(self) -> dict[str, object]:
        """The `--json` contract; keys are only ever added."""
        rows = [layer_row(layer, self.counts) for layer in self.counts.layers]
        return {
            "samples": self.counts.samples,
            "source": self.source,
            "split": self.counts.split,
            "layers": rows,
            "totals": total_row(rows),
            "energy": [_energy(entry) for entry in self.prices],
            "not_counted": list(self.counts.not_counted),
            "violations": list(self.counts.violations),
            "fit": [{**vars(entry), "checks": [dict(vars(check)) for check in entry.checks]} for entry in self.fits],
            "network": network_row(self.counts),
            "model": self.model,
            "graph": self.counts.graph,
            "origin": {**vars(self.origin), "stripped": list(self.origin.stripped)},
            "chips": chip_row(self.counts),
            "foldable": list(self.foldable),
            "input_range": _range(self.input_range),
            "inferences_per_second": self.rate,
        }


def estimate(
    model: Path,
    inputs: Path | Samples | None = None,
    *,
    targets: Sequence[str] | None = None,
    rate: float | None = None,
    dt: float | None = None,
) -> Report:
    """Count and price a model.

    With `inputs` the counts are measured on them. Else the statistics that the model carries are used. Else only
    dense counts and bounds are given.

    Args:
        model: An ONNX file, or a NIR file.
        inputs: A file of samples, see `load_inputs`, or samples from elsewhere.
        targets: Names of targets, or `.toml` files of one's own; all that ship if not told.
        rate: Inferences a second, which share a chip's static power; not charged if not told.
        dt: Time step of a NIR file in seconds; default as `snnsc.nir.lower` says.

    Raises:
        ModelFileError: The model cannot be read or run.
        DataError: The samples cannot be read, or do not fit.
        RecipeError: No target has that name, a file of targets is wrong, or `rate` or `dt` does not fit.
    """
    return estimate_all([model], inputs, targets=targets, rate=rate, dt=dt)[0]


def estimate_all(
    models: Sequence[Path],
    inputs: Path | Samples | None = None,
    *,
    targets: Sequence[str] | None = None,
    rate: float | None = None,
    dt: float | None = None,
) -> list[Report]:
    """Count and price several models, each on the same samples; options as of `estimate`, and checked first.

    Raises:
        DataError: As `estimate`; where samples do not fit one of several models, it is named.
        ModelFileError: As `estimate`.
        RecipeError: As `estimate`.
    """
    chosen = load_targets() if targets is None else find_targets(targets)
    price(Counts(0, ()), chosen, rate)  # refuses a wrong rate before any work
    reports = []
    for model in models:
        graph = read_graph(model, dt=dt)
        try:
            counts, source, input_range = _count(graph, inputs)
        except DataError as error:
            if len(models) == 1:
                raise
            msg = f"{model}: does not take the samples that the networks are compared on: {error}"
            raise DataError(msg) from error
        reports.append(Report.of(graph, counts, source, targets=chosen, rate=rate, input_range=input_range))
    return reports


def _count(graph: Graph, inputs: Path | Samples | None) -> tuple[Counts, str, InputRange | None]:
    """Counts, what they were measured on, and the range of that."""
    if inputs is None:
        embedded = STATISTICS_KEY in graph.metadata
        return (read_embedded(graph), "embedded", None) if embedded else (dense(graph), "none", None)
    rest = 0 if isinstance(inputs, Samples) else states_at_rest(inputs, graph)
    name = inputs.name if isinstance(inputs, Samples) else str(inputs)
    told, batches = load_told(inputs, graph)
    watch = Watch(graph)
    counts = count(told, watch.over(batches))
    return counts, f"{name}, states at their initial values: {rest}" if rest else name, watch.range


def _range(entry: InputRange | None) -> dict[str, object] | None:
    if entry is None:
        return None
    return {"name": entry.name, "found": list(entry.found), "expected": list(entry.expected), "fits": entry.fits}


def _energy(entry: Price) -> dict[str, object]:
    return {
        "model": entry.model,
        "snn_pj": entry.snn_pj,
        "ann_pj": entry.ann_pj,
        "ratio": entry.ratio,
        "mac_pj": entry.mac_pj,
        "ac_pj": entry.ac_pj,
        "neuron_pj": entry.neuron_pj,
        "snn_pj_bound": entry.snn_pj_bound,
        "not_priced": list(entry.not_priced),
        "constants": {name: quantity.model_dump() for name, quantity in entry.constants.items()},
        "kind": entry.kind,
        "summary": entry.target.summary,
        "terms": dict(entry.terms),
        "layers": None if entry.layers is None else dict(entry.layers),
        "equal": None if entry.equal is None else dict(vars(entry.equal)),
        "assumptions": list(entry.assumptions),
        "static": entry.static,
    }

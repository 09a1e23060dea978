"""Several networks side by side: the totals and the energy of each, and their ratio to the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from snnsc.energy.report.wording import Found, basis, limits, printable, spiking, stripped, unpublished

TOTALS = {
    "dense_macs": "dense MACs",
    "events": "synaptic events",
    "macs": "of them MACs",
    "acs": "of them ACs",
    "neuron_updates": "neuron updates",
    "spikes": "spikes",
}
"""Key of `totals` -> its name."""


@dataclass(frozen=True)
class Comparison:
    """Reports of several networks, the first of which is what the others are measured by.

    Attributes:
        reports: As `Report.to_dict` gives them.
    """

    reports: tuple[Found, ...]

    def to_dict(self) -> dict[str, object]:
        """What `--json` writes for several models.

        models        one object each, as for a single model
        comparison    one a model: `model`; `totals`: key -> ratio to the first model's; `energy`: price model ->
                      ratio of snn_pj to the first model's. null where one is not known, or the first one's is 0
        warnings      what keeps the figures from being comparable
        """
        first = self.reports[0]
        rows = [
            {
                "model": report["model"],
                "totals": {key: _ratio(report["totals"][key], first["totals"][key]) for key in TOTALS},
                "energy": self.energy_ratios(report),
            }
            for report in self.reports
        ]
        return {"models": list(self.reports), "comparison": rows, "warnings": self.warnings()}

    def energy_ratios(self, report: Found) -> dict[str, float | None]:
        """Price model -> energy of a network relative to that of the first."""
        base = {entry["model"]: entry["snn_pj"] for entry in self.reports[0]["energy"]}
        return {entry["model"]: _ratio(entry["snn_pj"], base[entry["model"]]) for entry in report["energy"]}

    def labels(self) -> list[str]:
        """What tells the files apart: their paths without the folders and the end that all share."""
        parts = [PurePath(str(report["model"])).parts for report in self.reports]
        if len(parts) == 1:
            return [parts[0][-1] if parts[0] else "a network"]
        while len(set(parts)) > 1 and all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
            parts = [p[1:] for p in parts]
        while len(set(parts)) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
            parts = [p[:-1] for p in parts]
        return [str(PurePath(*p)) for p in parts]

    def titles(self) -> tuple[str, str]:
        """What stands above the energies and above their ratios to the twins'."""
        kinds = [spiking(report) for report in self.reports]
        if all(kinds):
            return "SNN, energy", "SNN / ANN twin"
        return ("energy", "ratio to the twin") if any(kinds) else ("energy, zeros skipped", "skipped / dense")

    def findings(self) -> list[str]:
        """What each network was counted on and what limits its figures; what holds for several is said once."""
        labels = [printable(label) for label in self.labels()]
        said: dict[str, list[str]] = {}
        for label, report in zip(labels, self.reports, strict=True):
            for line in (basis(report), *limits(report), *unpublished(report)):
                said.setdefault(line, []).append(label)
        lines = [line if len(whose) == len(labels) else f"{', '.join(whose)}: {line}" for line, whose in said.items()]
        without = [label for label, report in zip(labels, self.reports, strict=True) if not spiking(report)]
        if 0 < len(without) < len(labels):
            lines.append(
                f"{', '.join(without)}: no neurons; the energy is that with zero inputs skipped, the twin the same "
                "network with none skipped"
            )
        return [line for line in (*lines, stripped(self.reports, labels)) if line]

    def warnings(self) -> list[str]:
        """Why the figures may not be comparable: other samples, or none."""
        told = [(r["source"], r["split"], r["samples"]) for r in self.reports]
        if len(set(told)) == 1:
            return []
        return ["the networks were not counted on the same samples; give --inputs to count them alike"]


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base

"""`--csv`: one row a layer, of one network or of several, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from snnsc.energy.report.wording import Found, printable

_NESTED = ("steps", "spread", "std", "facts")
_FORMULA = ("=", "+", "-", "@")


def to_csv(reports: Sequence[Found]) -> str:
    """The layers of reports.

    Columns: `model`, the plain keys of a row (see `Report`), `events_std`, `spikes_std`, and `NAME_pj` for the energy
    under every price model that tells it by layer. What is not known is empty. A name that a spreadsheet would take
    for a formula gets an apostrophe in front.

    Args:
        reports: As `Report.to_dict` gives them.
    """
    priced = list(dict.fromkeys(e["model"] for r in reports for e in r["energy"] if e["layers"] is not None))
    plain = [key for key in reports[0]["layers"][0] if key not in _NESTED] if reports[0]["layers"] else ["name"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", *plain, "events_std", "spikes_std", *(f"{name}_pj" for name in priced)])
    for report in reports:
        energies = {entry["model"]: entry["layers"] for entry in report["energy"] if entry["layers"] is not None}
        for row in report["layers"]:
            cells = [report["model"], *(row[key] for key in plain), *(row["std"].get(k) for k in ("events", "spikes"))]
            cells += [energies[name][row["name"]] if name in energies else None for name in priced]
            writer.writerow([_cell(value) for value in cells])
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

"""Whether a network fits a chip, in words: one line a limit that does not hold."""

from __future__ import annotations

from snnsc.energy.report.wording import Found, names, number, plural, printable

_EXACT_BELOW = 1e6


def fit_reasons(entry: Found) -> list[str]:
    """What stands in the way of a network on a chip, what was not checked, and how much of the chip it takes."""
    failed = [check for check in entry["checks"] if check["verdict"] == "does not fit"]
    told = [limit(check) for check in failed]
    if entry["more_chips"]:
        told.append("more chips would help")
    if entry["cores_used"] is not None and entry["cores"] is not None and not failed:
        told.append(f"{entry['cores_used']:,} of {plural(entry['cores'], 'core')}")
    open_ = [check["name"] for check in entry["checks"] if check["verdict"] == "not checked"]
    return [*told, *([f"not checked: {names(open_, most=9)}"] if open_ else [])]


def no_limits(found: Found) -> str:
    """Which chips publish no limits, and so have no verdict; empty where all do, or where no target is a chip."""
    checked = {entry["target"] for entry in found["fit"]}
    chips = [e["model"] for e in found["energy"] if e["kind"] in ("event", "not-published")]
    without = [chip for chip in chips if chip not in checked]
    return f"no limits are published, or told, of {names(without, most=20)}" if without else ""


def limit(check: Found) -> str:
    """One limit of a chip in words, with the layer that is farthest beyond it."""
    needed, available, why = check["needed"], check["available"], check["short"] or check["detail"]
    if needed is None or available is None:
        return printable(f"{check['name']}: {why}")
    much = f"{check['name']}: {amount(needed)}, at most {amount(available)} {check['unit']}"
    return printable(f"{much} ({why})" if why else much)


def amount(value: float | None) -> str:
    """A need or a limit: whole numbers below a million as they are; empty for one that is not known."""
    if value is None:
        return ""
    if value >= _EXACT_BELOW:
        return number(value)
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"

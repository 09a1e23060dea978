"""Where and in which number format to compute."""

from __future__ import annotations

import torch

from snnsc.errors import RecipeError


def pick_device(name: str | None) -> torch.device:
    """The device called `name` (`cpu`, `cuda`, `cuda:1`, `mps`), or the best one there is when it is None.

    Raises:
        RecipeError: no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as e:  # torch asserts that it was built with CUDA
        known = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise RecipeError(f"--device {name}: no such device here; there is {', '.join(known)}") from e
    return device


def pick_precision(asked: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where the processor multiplies it natively."""
    if asked != "auto":
        return asked
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and _cpu_has_bf16()
    return "bf16" if native else "fp32"


def _cpu_has_bf16() -> bool:
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # torch before 2.10 cannot tell: fp32 there
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which the forward pass runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

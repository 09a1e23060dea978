"""C99 for microcontrollers: one time step as a function, and a small program around it.

step model -> standard operators, one sample -> emx-onnx-cgen -> model.c, model_data.c [, model.bin]
                                             -> network.h (sizes, states, step), main.c, Makefile
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from math import prod
from string import Template

import onnx

from snnsc.errors import CheckError, RecipeError
from snnsc.export.inline import inline
from snnsc.export.metadata import STATES
from snnsc.export.trace import dims_of

LARGEST_STATIC = 2 * 2**20
"""Bytes of weights up to which they are arrays in model_data.c, 8 times as long; more are read from model.bin."""
WEIGHTS_FILE = "model.bin"
FILES = ("main.c", "network.h", "model.c", "model_data.c", "Makefile", WEIGHTS_FILE)
"""Names of all that may be written."""


def to_c(step: onnx.ModelProto) -> dict[str, str | bytes]:
    """The files of a C program: name -> content.

    Args:
        step: A model of one time step with its metadata, inlined or not; it is not changed.

    Raises:
        RecipeError: the extra `snnsc[c]` is not installed.
        CheckError: the generator cannot express an operator.
    """
    about = {p.key: p.value for p in step.metadata_props}
    model = _of_one_sample(inline(step) if step.functions else step)
    in_file = sum(prod(tensor.dims) * 4 for tensor in model.graph.initializer) > LARGEST_STATIC
    code, data, weights = _generate(model, in_file=in_file)
    return {
        "main.c": _template("main.c"),
        "network.h": Template(_template("network.h")).substitute(_header(model, about, in_file=in_file)),
        "model.c": code,
        "model_data.c": data,
        "Makefile": _template("Makefile"),
        **({} if weights is None else {WEIGHTS_FILE: weights}),
    }


def need_generator() -> None:
    """Raise RecipeError where emx-onnx-cgen is not installed."""
    try:
        import emx_onnx_cgen.compiler  # noqa: F401
    except ImportError as e:
        raise RecipeError("--format c: emx-onnx-cgen is not installed; pip install 'snnsc[c]'") from e


def _template(name: str) -> str:
    return files("snnsc.export").joinpath("templates", name).read_text(encoding="utf-8")


def _of_one_sample(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for a batch of 1, without what the generator would copy into comments."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    del one.metadata_props[:], one.graph.value_info[:]
    one.graph.name = "network"
    for value in (*one.graph.input, *one.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return one


def _generate(model: onnx.ModelProto, *, in_file: bool) -> tuple[str, str, bytes | None]:
    """What emx-onnx-cgen makes of a model: code, constants as code, and constants for a file."""
    need_generator()
    from emx_onnx_cgen.compiler import Compiler, CompilerOptions
    from emx_onnx_cgen.errors import CompilerError

    # bytes of constants from which on they go to the file; 0 stands for none
    options = CompilerOptions(large_weight_threshold=1 if in_file else 0)
    try:
        code, data, weights = Compiler(options).compile_with_data_file_and_weight_data(model)
    except CompilerError as e:
        raise CheckError(f"the network cannot be written as C: {' '.join(str(e).split())[:300]}") from e
    return code, data, weights


def _header(model: onnx.ModelProto, about: dict[str, str], *, in_file: bool) -> dict[str, object]:
    """What stands in the places of network.h."""
    frame, *states = model.graph.input
    given, classes = json.loads(about["snnsc.input"]), json.loads(about["snnsc.classes"])
    weights = json.loads(about.get("snnsc.step_weights", "null"))
    source = {entry["next"]: name for name, entry in json.loads(about[STATES]).items()}
    _, channels, height, width = dims_of(frame)
    parameters = [*(f"const {_array(v)}" for v in model.graph.input), *(_array(v) for v in model.graph.output)]
    # C before C23 does not make an array const by itself when it is handed on
    arguments = [
        f"(const float (*){_sizes(frame, 1)})frame",
        *(f"(const float (*){_sizes(s, 1)})now->{_identifier(s.name)}" for s in states),
        *(f"next->{_identifier(source[o.name])}" if o.name in source else "logits" for o in model.graph.output),
    ]
    return {
        "preparation": _preparation(given),
        "channels": channels,
        "height": height,
        "width": width,
        "classes": len(classes),
        "steps": int(about["snnsc.T"]),
        "holds_image": int(given["layout"] == "BCHW"),
        "class_names": ",\n    ".join(_string(" ".join(str(name).split())) for name in classes),
        "has_step_weights": int(weights is not None),
        "step_weights": ", ".join(f"{float(w)!r}f" for w in weights or [1.0]),
        "weights_in_file": int(in_file),
        "weights_file": WEIGHTS_FILE,
        "states": "\n    ".join(f"{_array(s)};" for s in states) or "char none; /* rectifiers keep nothing */",
        "parameters": ",\n           ".join(parameters),
        "discarded": "" if states else "\n    (void)now, (void)next;",
        "arguments": ",\n          ".join(arguments),
    }


def _array(value: onnx.ValueInfoProto) -> str:
    """A declaration, such as `float stem_neurons_0_v[1][16][8][8]`."""
    return f"float {_identifier(value.name)}{_sizes(value)}"


def _sizes(value: onnx.ValueInfoProto, start: int = 0) -> str:
    return "".join(f"[{size}]" for size in dims_of(value)[start:])


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _string(text: str) -> str:
    """A string of C: UTF-8, with octal escapes for what is not plain, question marks (trigraphs) among it."""
    plain = frozenset(range(32, 127)) - frozenset(b'"\\?')
    return (
        '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode(errors="replace")) + '"'
    )


def _preparation(given: dict[str, object]) -> str:
    """How a sample becomes a frame, in words."""
    mean, std = given["mean"], given["std"]
    scaled = f"(x - mean) / std of each channel, x from 0 to 1, mean {mean}, std {std}" if mean else "as they are"
    return f"Frames [CHANNELS][HEIGHT][WIDTH], {given['coding']}; values: {scaled}."

"""Loop, Scan and If made straight: the nodes that really run, so that every other rule sees a graph without branches.

How often a loop runs, and which branch is taken, is known once samples are there; it is read from the graph itself by
running what leads to it. A loop becomes its body, once for each iteration; a branch its nodes. A Scan that is nothing
but a layer of neurons (see `subgraphs`) stays one node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from snnsc.energy.graph.bodies import invariant
from snnsc.energy.graph.constants import live_nodes, node_inputs
from snnsc.energy.graph.graph import Graph, build
from snnsc.energy.graph.load import every_node
from snnsc.energy.graph.sizes import SMALL
from snnsc.energy.graph.unroll import Unroller
from snnsc.errors import DataError, ModelFileError
from snnsc.sessions import open_session, run_session

LONGEST = 4096  # iterations of one loop
LARGEST = 60_000  # nodes of the straight graph
_TOO_LONG_TO_RUN = 2**20  # iterations
_DEEPEST = 12  # loops in loops
CONTROL = frozenset({"Loop", "Scan", "If"})

Key = tuple[tuple[int, ...], ...]
Reading = tuple[str, str]
"""`Shape` or `Identity`, and of which value."""


def specialise(graph: Graph, feeds: dict[str, np.ndarray]) -> tuple[Graph, Key]:
    """The straight graph for one batch, and a key that is equal for batches with the same one.

    Args:
        graph: The graph as read.
        feeds: One batch, as onnxruntime takes it.

    Raises:
        ModelFileError: A loop has no known end, or is too long to be run.
    """
    return Flattener(graph).straight(feeds)


@dataclass
class Flattener:
    """Straight graphs of one graph; those that were made are kept, by the decisions that led to them.

    Attributes:
        graph: The graph as read.
    """

    graph: Graph
    _deciders: dict[Key, _Decider | None] = field(init=False, default_factory=dict)
    _graphs: dict[Key, Graph] = field(init=False, default_factory=dict)

    def straight(self, feeds: dict[str, np.ndarray]) -> tuple[Graph, Key]:
        """As `specialise`."""
        key: Key = ()
        graph = self.graph
        while True:
            if key not in self._deciders:
                self._deciders[key] = _decider(graph)
            decider = self._deciders[key]
            if decider is None:
                return graph, key
            if len(key) == _DEEPEST:
                raise ModelFileError(f"{graph.source}: loops and branches are more than {_DEEPEST} deep")
            decisions = decider.decide(feeds)
            key = (*key, decisions)
            if key not in self._graphs:
                self._graphs[key] = _straightened(graph, decider, decisions)
            graph = self._graphs[key]


@dataclass(frozen=True)
class Question:
    """One loop or branch, and the values that decide it.

    Attributes:
        node: The loop or branch.
        count: How often (Loop), of which shape (Scan), or whether (If).
        start: Whether a Loop begins; empty if it does.
        again: Whether it goes on after an iteration: the value that tells, or what is known of it; None where every
            iteration computes it.
    """

    node: onnx.NodeProto
    count: str
    start: str = ""
    again: str | bool | None = True

    @property
    def reads(self) -> list[Reading]:
        """What is to be known of which value."""
        if self.node.op_type == "Scan":
            return [("Shape", self.count)]
        names = [self.count, self.start, self.again if isinstance(self.again, str) else ""]
        return [("Identity", name) for name in names if name]

    def answer(self, values: Mapping[Reading, np.ndarray]) -> int:
        """Iterations; for a branch 1 for `then` and 0 for `else`."""
        if self.node.op_type == "Scan":
            axes = next((list(a.ints) for a in self.node.attribute if a.name == "scan_input_axes"), [0])
            return int(values["Shape", self.count][axes[0]])
        first = {name: values[_, name].reshape(-1)[0] for _, name in self.reads}
        count = int(first[self.count])
        if self.node.op_type == "If":
            return int(count != 0)
        begins = not self.start or bool(first[self.start])
        again = bool(first[self.again]) if isinstance(self.again, str) else self.again is not False
        return max(count, 0) if begins and again else int(begins and count > 0)


@dataclass(frozen=True)
class _Decider:
    """Runs the part of a graph that tells how often its loops run, and which branches are taken."""

    source: str
    questions: list[Question]
    known: dict[Reading, np.ndarray]
    told: dict[Reading, str]
    inputs: set[str]
    session: ort.InferenceSession | None

    def decide(self, feeds: dict[str, np.ndarray]) -> tuple[int, ...]:
        """One answer a question."""
        found = dict(self.known)
        if self.session is not None:
            used = {name: value for name, value in feeds.items() if name in self.inputs}
            results = run_session(self.session, list(self.told.values()), used, self.source, blame=DataError)
            found |= dict(zip(self.told, results, strict=True))
        try:
            return tuple(question.answer(found) for question in self.questions)
        except (IndexError, ValueError, OverflowError) as error:
            msg = f"{self.source}: a value that decides a loop or a branch is no number: {error}"
            raise ModelFileError(msg) from error


def _decider(graph: Graph) -> _Decider | None:
    """What decides the loops and branches that no undecided one leads to; None where the graph has none."""
    pending = {n.outputs for n in graph.nodes if n.op in CONTROL and not n.domain and not n.refused}
    if not pending:
        return None
    undecided: set[str] = set()
    questions: list[Question] = []
    for proto in graph.model.graph.node:
        if tuple(proto.output) in pending:
            if not undecided.intersection(proto.input):
                questions.append(_question(proto, graph))
            undecided.update(proto.output)
        elif undecided & node_inputs(proto):
            undecided.update(proto.output)
    given = {value.name for value in graph.model.graph.input}
    constants = {t.name: t for t in graph.model.graph.initializer if t.name not in given and prod(t.dims) <= SMALL}
    reads = [read for question in questions for read in question.reads]
    known = {
        (op, name): numpy_helper.to_array(constants[name]) for op, name in reads if op != "Shape" and name in constants
    }
    part, told = _telling(graph, questions, known.keys())
    inputs = {value.name for value in part.graph.input}
    session = open_session(part, graph.source, optimise=False) if told else None
    return _Decider(graph.source, questions, known, told, inputs, session)


def _question(node: onnx.NodeProto, graph: Graph) -> Question:
    where = f"{graph.source}: {node.op_type} {(node.name or node.output[0])[:60]!r}"
    if not _whole(node):
        raise ModelFileError(f"{where} has a body that does not take or give as many values as it; export it again")
    if node.op_type == "If":
        return Question(node, node.input[0])
    if node.op_type == "Scan":
        scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
        if graph.opset < 9 or not 0 < scanned <= len(node.input):
            raise ModelFileError(f"{where} is of opset 8, or scans nothing; convert the model to opset 9 or later")
        return Question(node, node.input[len(node.input) - scanned])
    if not node.input[0]:
        raise ModelFileError(f"{where} has no number of iterations and might never end; give it one")
    start = node.input[1] if len(node.input) > 1 else ""
    again = invariant(next(a.g for a in node.attribute if a.name == "body"))
    return Question(node, node.input[0], start, (start or True) if again == "" else again)


def _whole(node: onnx.NodeProto) -> bool:
    """Whether inputs and outputs of a loop or branch and of its bodies are as many."""
    bodies = [a.g for a in node.attribute if a.name in ("body", "then_branch", "else_branch")]
    if node.op_type == "If":
        return len(bodies) == 2 and all(len(body.output) == len(node.output) for body in bodies)
    if len(bodies) != 1 or len(bodies[0].input) != len(node.input):
        return False
    given = len(bodies[0].output)
    if node.op_type == "Scan":
        return given == len(node.output)
    return len(node.input) >= 2 and len(node.input) - 1 <= given == len(node.output) + 1


def _telling(
    graph: Graph, questions: list[Question], known: Collection[Reading]
) -> tuple[onnx.ModelProto, dict[Reading, str]]:
    """The part of the model that gives the deciding values, and under which names it does."""
    part = onnx.ModelProto()
    part.CopyFrom(graph.model)
    told: dict[Reading, str] = {}
    for question in questions:
        for read in question.reads:
            if read not in told and read not in known:
                told[read] = f"snnsc.tells.{len(told)}"
                part.graph.node.append(helper.make_node(read[0], [read[1]], [told[read]]))
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in told.values())
    live = live_nodes(part.graph)
    del part.graph.node[:]
    part.graph.node.extend(live)
    needed = set().union(*(node_inputs(node) for node in live))
    for messages in (part.graph.initializer, part.graph.input):
        kept = [message for message in messages if message.name in needed]
        del messages[:]
        messages.extend(kept)
    return part, told


def _straightened(graph: Graph, decider: _Decider, decisions: tuple[int, ...]) -> Graph:
    """The graph with these loops and branches replaced by what they run."""
    answers = {q.node.output[0]: (q, n) for q, n in zip(decider.questions, decisions, strict=True)}
    tags = {next(o for o in n.outputs if o): n.unrolled for n in graph.nodes if n.unrolled}
    refused = {next(o for o in n.outputs if o): n.refused for n in graph.nodes if n.refused}
    writer = Unroller(graph.opset, tags)
    size = len(graph.model.graph.node)
    for proto in graph.model.graph.node:
        question, count = answers.get(proto.output[0], (None, 0)) if proto.op_type in CONTROL else (None, 0)
        if question is None:
            writer.nodes.append(proto)
            continue
        size += count * sum(1 for _ in every_node([proto]))
        reason = _refusal(question, count, size, graph.source)
        if reason:
            refused[next(o for o in proto.output if o)] = reason
            writer.nodes.append(proto)
        elif proto.op_type == "If":
            writer.branch(proto, taken=bool(count))
        else:
            writer.loop(proto, count)
    straight = onnx.ModelProto()
    straight.CopyFrom(graph.model)
    del straight.graph.node[:]
    straight.graph.node.extend(writer.nodes)
    straight.graph.initializer.extend(writer.initializers)
    made = build(straight, graph.source, graph.opset, graph.digest, writer.tags, refused)
    return replace(made, inputs=graph.inputs)  # which samples may have told


def _refusal(question: Question, count: int, size: int, source: str) -> str:
    """Why a loop is left as it is; empty if it is not.

    Raises:
        ModelFileError: It cannot even be run.
    """
    node = question.node
    where = f"{source}: {node.op_type} {(node.name or node.output[0])[:60]!r}"
    if node.op_type == "If":
        return ""
    reason = ""
    if question.again is None:
        reason = "each of its iterations decides whether there is another"
    elif count == 0:
        reason = "has no iterations"
    elif count > LONGEST:
        reason = f"has {count} iterations; up to {LONGEST} are made straight"
    elif size > LARGEST:
        reason = f"its {count} iterations are more than {LARGEST} nodes"
    if reason and node.op_type == "Loop" and count > _TOO_LONG_TO_RUN:
        raise ModelFileError(
            f"{where} may take {count} iterations, more than {_TOO_LONG_TO_RUN}; such a loop is not run"
        )
    if reason and any(inner.op_type == "Loop" for inner in every_node([node]) if inner is not node):
        raise ModelFileError(f"{where} holds another loop, and {reason}; such loops are not run")
    return reason

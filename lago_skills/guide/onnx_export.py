"""A task's plan, retrieved skills and decoder as one ONNX graph: an observation in, an action and its prior out. The only door to `onnx`.

The grounding's arithmetic is what `lago_skills.worlds.traced` records of it; what cannot be followed cannot be exported. In a graph there is no lookup:
it holds the skills that the library answered each step with when it was written.
"""

# onnx has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from lago_skills.core import Playbook, Vocabulary
from lago_skills.decoder.prepared import can_prepare
from lago_skills.decoder.trained_decoder import MAX_LOGSTD, MIN_LOGSTD, DecoderWeights
from lago_skills.errors import StudyError
from lago_skills.guide.guides import LibraryGuide
from lago_skills.guide.retrieval import Answers
from lago_skills.guide.unfamiliar import FAR, OUTSIDE
from lago_skills.worlds.traced import Expression, Traced, Untraceable, traced

if TYPE_CHECKING:
    from lago_skills.guide.loaded import BundleGuide

OPSET = 18
_OPERATORS = {
    "+": "Add",
    "-": "Sub",
    "*": "Mul",
    "/": "Div",
    "neg": "Neg",
    "abs": "Abs",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "cos": "Cos",
    "sign": "Sign",
    "min": "Min",
    "max": "Max",
    "<": "Less",
    "<=": "LessOrEqual",
    "==": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "where": "Where",
}
"""ONNX's names of what groundings do with numbers."""


class _Graph:
    """Nodes and constants of a graph that is being written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._names: dict[int, str] = {}

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; its first output."""
        name = f"n{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """A tensor that does not change; equal ones are one."""
        array = np.asarray(value, dtype)
        for name, known in self.constants.items():
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def expression(self, expression: Expression, inputs: dict[str, str]) -> str:
        """(B, 1) values of an expression of the inputs.

        Raises:
            StudyError: ONNX has no operator for it.
        """
        if (known := self._names.get(id(expression))) is not None:
            return known
        if expression.op == "const":
            return self.constant(expression.value)
        if expression.op == "input":
            return inputs[expression.name]
        if expression.op == "log1p":
            one_more = self.add("Add", self.expression(expression.args[0], inputs), self.constant(1.0))
            name = self._names[id(expression)] = self.add("Log", one_more)
            return name
        operator = _OPERATORS.get(expression.op)
        if operator is None:
            raise StudyError(
                f"found {expression.op} in the grounding; expected what ONNX has an operator for, {', '.join(sorted(_OPERATORS))}; write it with these"
            )
        arguments = [self.expression(each, inputs) for each in expression.args]
        name = self._names[id(expression)] = self.add(operator, *arguments)
        return name


def export(guide: BundleGuide, task: str, path: Path) -> None:
    """Write the graph of a task that the library leads.

    Input `observation` (B, S) float32. Outputs `action` (B, A) in [-1, 1], `weights` (B, K * M), `means` and `stds` (B, K * M, A) of the prior, `step` (B,) from 0,
    and `unfamiliarity` (B,), beyond 1 where nothing is known. The metadata name entries, units, ranges, control rate, bundle and task.

    Raises:
        StudyError: the plan is in words, the grounding cannot be followed, or the decoder's actions are discrete or depend on intents.
    """
    model = model_of(guide.guide, task)
    for name, value in _metadata(guide, task).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def model_of(library: LibraryGuide, task: str) -> Any:
    """The graph of a task, without metadata; see `export`.

    Raises:
        StudyError: it cannot be written as one.
    """
    book = library.books[task]
    if book.form != "numbers" or library.config.query != "playbook" or not can_prepare(library.decoder):
        raise StudyError(
            f"task {task!r}: found a plan in {book.form}, skills looked up by the {library.config.query}, and a decoder of {type(library.decoder).__name__}; expected a plan in "
            "numbers, lookup by the playbook, and continuous actions without intents, which a graph can hold; serve the bundle instead (lago serve)"
        )
    try:
        arithmetic = traced(library.grounding)
    except Untraceable as error:
        raise StudyError(
            f"found a grounding that cannot be followed ({error}); expected NumPy arithmetic without branches on values; write it so, or serve the bundle instead (lago serve)"
        ) from error
    graph, words = _Graph(), library.grounding.vocabulary
    inputs, step, outside = _plan(graph, book, words, arithmetic, library.grounding.observation_size)
    decoder = library.decoder
    assert isinstance(decoder, DecoderWeights)  # can_prepare has seen to it
    _decoder(graph, decoder, library.of_steps.answers[task], inputs, step, book.pace, outside)
    return _model(graph, library.grounding.observation_size, decoder.action_size)


def _plan(graph: _Graph, book: Playbook, words: Vocabulary, arithmetic: Traced, size: int) -> tuple[str, str, str]:
    """Decoder inputs (B, I) float32, active steps (B,), and by how many of their ranges compared features are outside (B,), of observations."""
    observed = graph.add("Cast", "observation", to=TensorProto.DOUBLE)
    graph.add("Split", observed, outputs=size, axis=1, num_outputs=size)
    columns = {f"o{i}": f"n{len(graph.nodes) - 1}_{i}" if size > 1 else f"n{len(graph.nodes) - 1}" for i in range(size)}
    place = {feature.name: number for number, feature in enumerate(words.features)}
    ready: list[str] = []
    for step in book.steps[:-1]:
        holds = [
            graph.add(
                "Less" if each.op == "<" else "Greater",
                graph.expression(arithmetic.values[place[each.feature]], columns),
                graph.constant(each.value),
            )
            for each in step.when
        ]
        joined = holds[0]
        for each in holds[1:]:
            joined = graph.add("And", joined, each)
        ready.append(joined)

    def chosen(values: list[str]) -> str:
        """(B, 1) the value of the first step that is ready, the last one's where none is."""
        answer = values[-1]
        for condition, value in zip(reversed(ready), reversed(values[:-1]), strict=True):
            answer = graph.add("Where", condition, value, answer)
        return answer

    targets: dict[str, str] = {}
    for axis in range(words.target_size):
        points: list[str] = []
        for step in book.steps:
            assert step.target is not None  # where there are anchors, each step has one
            anchor = arithmetic.anchors[words.anchors.index(step.target.anchor)][axis]
            points.append(graph.add("Add", graph.expression(anchor, columns), graph.constant(step.target.offset[axis])))
        targets[f"t{axis}"] = chosen(points)
    rows = [graph.expression(each, columns | targets) for each in arithmetic.inputs]
    like = columns["o0"]
    zero = graph.add("Mul", like, graph.constant(0.0))
    wide = [graph.add("Add", zero, row) if row in graph.constants else row for row in rows]
    inputs = graph.add("Cast", graph.add("Concat", *wide, axis=1), to=TensorProto.FLOAT)
    numbers = [graph.add("Add", zero, graph.constant(float(number))) for number in range(len(book.steps))]
    flat = graph.add("Squeeze", chosen(numbers), graph.constant([1], np.int64))
    outside = zero
    for number in sorted({place[each.feature] for step in book.steps for each in step.when}):
        feature = words.features[number]
        span = feature.high - feature.low
        if np.isfinite(span) and span > 0.0:
            middle = graph.constant(0.5 * (feature.low + feature.high))
            away = graph.add("Abs", graph.add("Sub", graph.expression(arithmetic.values[number], columns), middle))
            share = graph.add("Sub", graph.add("Div", away, graph.constant(span)), graph.constant(0.5))
            outside = graph.add("Max", outside, share)
    beyond = graph.add("Squeeze", graph.add("Cast", outside, to=TensorProto.FLOAT), graph.constant([1], np.int64))
    return inputs, graph.add("Cast", flat, to=TensorProto.INT64), beyond


def _decoder(
    graph: _Graph, decoder: DecoderWeights, answers: Answers, inputs: str, step: str, pace: float, outside: str
) -> None:
    """The mixture of the skills that answer the active step, as `LibraryGuide.decode` has it."""
    network, latents = decoder.network, answers.latents

    def f32(value: Any) -> str:
        return graph.constant(value, np.float32)

    def ints(*values: int) -> str:
        return graph.constant(values, np.int64)

    states = graph.add("Div", graph.add("Sub", inputs, f32(network.input_mean)), f32(network.input_std))
    first, *rest = network.trunks[0].layers
    hidden = graph.add(
        "Unsqueeze", graph.add("Add", graph.add("MatMul", states, f32(first.weight.T)), f32(first.bias)), ints(1)
    )
    if first.scale.shape[1]:
        hidden = graph.add("Mul", hidden, graph.add("Gather", f32(1.0 + latents @ first.scale.T), step))
    hidden = graph.add("Relu", graph.add("Add", hidden, graph.add("Gather", f32(latents @ first.shift.T), step)))
    for layer in rest:
        hidden = graph.add("Relu", graph.add("Add", graph.add("MatMul", hidden, f32(layer.weight.T)), f32(layer.bias)))

    def head(linear: Any) -> str:
        return graph.add("Add", graph.add("MatMul", hidden, f32(linear.weight.T)), f32(linear.bias))

    m, a, k = decoder.n_components, decoder.action_size, latents.shape[1]
    shape, flat = ints(0, k, m, a), ints(0, k * m, a)
    means = head(decoder.mean)
    if decoder.skip is not None:
        seen = graph.add("Slice", states, ints(0), ints(decoder.skip.shape[1]), ints(1))
        straight = graph.add("MatMul", seen, f32(np.tile(decoder.skip, (m, 1)).T))
        means = graph.add("Add", means, graph.add("Unsqueeze", straight, ints(1)))
    means = graph.add("Tanh", means)
    if pace != 1.0:
        means = graph.add("Clip", graph.add("Mul", means, f32(pace)), f32(-1.0), f32(1.0))
    mixture = graph.add("Softmax", head(decoder.mixture), axis=-1)
    skills = graph.add("Unsqueeze", graph.add("Gather", f32(answers.weights), step), ints(2))
    weights = graph.add("Reshape", graph.add("Mul", skills, mixture), ints(0, k * m))
    distance = _distance(graph, decoder, states)
    wider = graph.add("Mul", graph.add("Relu", graph.add("Sub", distance, f32(1.0))), f32(network.novelty.slope[0]))
    theta = graph.add("Gather", f32(np.tile(network.calibration(latents), (1, 1, m))), step)
    logstd = graph.add("Clip", head(decoder.logstd), f32(MIN_LOGSTD), f32(MAX_LOGSTD))
    logstd = graph.add("Add", graph.add("Add", logstd, theta), graph.add("Unsqueeze", wider, ints(1, 2)))
    logstd = graph.add("Clip", logstd, f32(MIN_LOGSTD), f32(MAX_LOGSTD))
    stds = graph.add("Reshape", graph.add("Reshape", graph.add("Exp", logstd), shape), flat)
    flat_means = graph.add("Reshape", graph.add("Reshape", means, shape), flat)
    mixed = graph.add("Mul", graph.add("Unsqueeze", weights, ints(2)), flat_means)
    action = graph.add("Clip", graph.add("ReduceSum", mixed, ints(1), keepdims=0), f32(-1.0), f32(1.0))
    strange = graph.add("Max", graph.add("Div", distance, f32(FAR)), graph.add("Div", outside, f32(OUTSIDE)))
    for name, value in (
        ("action", action),
        ("weights", weights),
        ("means", flat_means),
        ("stds", stds),
        ("step", step),
        ("unfamiliarity", strange),
    ):
        graph.nodes.append(helper.make_node("Identity", [value], [name]))


def _distance(graph: _Graph, decoder: DecoderWeights, states: str) -> str:
    """(B,) distances from the training's states, in units of the one within which nine in ten held-out states lie."""
    novelty, size = decoder.network.novelty, decoder.network.input_size
    ones = graph.constant([1], np.int64)
    squares = graph.add("ReduceSum", graph.add("Mul", states, states), ones, keepdims=1)
    apart = graph.add("MatMul", states, graph.constant(2.0 * novelty.centres.T, np.float32))
    lengths = graph.constant(np.sum(novelty.centres**2, axis=1), np.float32)
    nearest = graph.add("ReduceMin", graph.add("Sub", lengths, apart), ones, keepdims=1)
    total = graph.add("Squeeze", graph.add("Relu", graph.add("Add", squares, nearest)), ones)
    near = float(max(novelty.near[0], 1e-9)) * float(np.sqrt(size))
    return graph.add("Div", graph.add("Sqrt", total), graph.constant(near, np.float32))


def _model(graph: _Graph, size: int, action_size: int) -> Any:
    outputs = [
        helper.make_tensor_value_info("action", TensorProto.FLOAT, ["B", action_size]),
        helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["B", None]),
        helper.make_tensor_value_info("means", TensorProto.FLOAT, ["B", None, action_size]),
        helper.make_tensor_value_info("stds", TensorProto.FLOAT, ["B", None, action_size]),
        helper.make_tensor_value_info("step", TensorProto.INT64, ["B"]),
        helper.make_tensor_value_info("unfamiliarity", TensorProto.FLOAT, ["B"]),
    ]
    observation = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["B", size])
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    written = helper.make_graph(graph.nodes, "lago", [observation], outputs, constants)
    return helper.make_model(
        written, producer_name="lago-skills", ir_version=9, opset_imports=[helper.make_opsetid("", OPSET)]
    )


def _metadata(guide: BundleGuide, task: str) -> dict[str, str]:
    """What goes in and what comes out, and what it was made from."""
    said = guide.description
    (known,) = (each for each in said["tasks"] if each["id"] == task)
    facts: dict[str, Any] = {
        "task": task,
        "sentence": known["sentence"],
        "bundle": guide.digest,
        "world_id": guide.world_id,
        "observation": said["observation"],
        "action": said["action"],
        "control_hz": said["control_hz"],
        "horizon_steps": known["horizon_steps"],
        "steps": known["plans"][0]["steps"],
        "floor": guide.guide.config.floor,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}

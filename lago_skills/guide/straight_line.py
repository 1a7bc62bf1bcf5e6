"""A plan in numbers for a single state, as straight-line code: which step is at work, and what the decoder sees of it.

NumPy's calls on batches of one take longer than their arithmetic by far. Here the grounding and the plan are written out, once, as Python
arithmetic on the numbers that matter: of all features those that the plan compares, of all anchors those it heads for. The readable twin
is `CompiledPlaybook` with the grounding's own `read`; every program is compared with it before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.core import Playbook
from lago_skills.playbook import CompiledPlaybook
from lago_skills.worlds.grounding import Grounding
from lago_skills.worlds.traced import Expression, Traced, Untraceable, traced

Program = Callable[[Sequence[float]], tuple[int, tuple[float, ...], float]]
"""S numbers -> the active step, I decoder inputs, and by how many of their ranges the features that the plan compares are outside."""
N_CHECKS, CHECK_SEED = 64, 0
CLOSE = 1e-5

_BINARY = {"+": "({} + {})", "-": "({} - {})", "*": "({} * {})"}
_WRITTEN = {
    **_BINARY,
    "/": "_divide({}, {})",
    "neg": "(-{})",
    "abs": "abs({})",
    "sqrt": "_sqrt({})",
    "tanh": "_tanh({})",
    "exp": "_exp({})",
    "log": "_log({})",
    "log1p": "_log1p({})",
    "sin": "_sin({})",
    "cos": "_cos({})",
    "atan2": "_atan2({}, {})",
    "sign": "_sign({})",
    "min": "({0} if {0} < {1} else {1})",
    "max": "({0} if {0} > {1} else {1})",
    "<": "({} < {})",
    "<=": "({} <= {})",
    "==": "({} == {})",
    "and": "({} and {})",
    "or": "({} or {})",
    "not": "(not {})",
    "where": "({1} if {0} else {2})",
}


def _divide(first: float, second: float) -> float:
    """As NumPy divides: by zero comes no error."""
    return (
        first / second if second else (math.nan if not first or math.isnan(first) else math.copysign(math.inf, first))
    )


def _sign(value: float) -> float:
    return math.copysign(1.0, value) if value else 0.0


_NAMES: dict[str, Any] = {
    **{f"_{name}": getattr(math, name) for name in ("sqrt", "tanh", "exp", "log", "log1p", "sin", "cos", "atan2")},
    "_divide": _divide,
    "_sign": _sign,
}


class _Writer:
    """Lines of a program; each expression is computed once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[int, str] = {}

    def name(self, expression: Expression) -> str:
        """What an expression is called, after the lines that compute it."""
        known = self._names.get(id(expression))
        if known is not None:
            return known
        if expression.op == "const":
            return repr(expression.value)
        if expression.op == "input":
            name = expression.name if expression.name[0] == "t" else f"o[{expression.name[1:]}]"
        else:
            arguments = [self.name(each) for each in expression.args]
            by_constant = expression.op == "/" and expression.args[1].op == "const" and expression.args[1].value != 0.0
            form = "({} / {})" if by_constant else _WRITTEN[expression.op]
            name = f"v{len(self._names)}"
            self.lines.append(f"{name} = {form.format(*arguments)}")
        self._names[id(expression)] = name
        return name


def straight_line(book: Playbook, grounding: Grounding, arithmetic: Traced | None = None) -> Program | None:
    """The program of a plan; None where the grounding cannot be followed, or the program does not say what its twin says."""
    try:
        written = _written(book, grounding, arithmetic or traced(grounding))
    except Untraceable:
        return None
    scope: dict[str, Any] = dict(_NAMES)
    exec(compile(written, f"<plan {book.task_id}>", "exec"), scope)
    program: Program = scope["plan"]
    return program if _is_right(program, CompiledPlaybook(book, grounding.vocabulary), grounding) else None


def _written(book: Playbook, grounding: Grounding, arithmetic: Traced) -> str:
    vocabulary = grounding.vocabulary
    place = {feature.name: number for number, feature in enumerate(vocabulary.features)}
    writer = _Writer()
    compared = sorted({place[each.feature] for step in book.steps for each in step.when})
    values = {number: writer.name(arithmetic.values[number]) for number in compared}
    writer.lines.append("outside = 0.0")
    for number in compared:
        feature = vocabulary.features[number]
        if math.isfinite(feature.low) and math.isfinite(feature.high) and feature.high > feature.low:
            span = feature.high - feature.low
            for beyond in (f"{feature.low!r} - {values[number]}", f"{values[number]} - {feature.high!r}"):
                writer.lines.append(f"if {beyond} > outside * {span!r}: outside = ({beyond}) / {span!r}")
    headed = {step.target.anchor for step in book.steps if step.target is not None}
    points = {
        name: [writer.name(x) for x in arithmetic.anchors[vocabulary.anchors.index(name)]] for name in sorted(headed)
    }
    for number, step in enumerate(book.steps):
        holds = " and ".join(f"{values[place[each.feature]]} {each.op} {each.value!r}" for each in step.when) or "True"
        last = number == len(book.steps) - 1
        writer.lines.append(
            "else:" if last and number else f"{'if' if number == 0 else 'elif'} {'True' if last else holds}:"
        )
        writer.lines.append(f"    step = {number}")
        if vocabulary.target_size:
            offsets = step.target.offset if step.target is not None else (0.0,) * vocabulary.target_size
            anchor = points[step.target.anchor] if step.target is not None else None
            for axis, offset in enumerate(offsets):
                start = anchor[axis] if anchor is not None else "0.0"
                writer.lines.append(f"    t{axis} = {start} + {offset!r}")
    inputs = ", ".join([writer.name(each) for each in arithmetic.inputs])
    lines = [*writer.lines, f"return step, ({inputs},), outside"]
    return "def plan(o):\n" + "\n".join(f"    {line}" for line in lines) + "\n"


def _is_right(program: Program, twin: CompiledPlaybook, grounding: Grounding) -> bool:
    """Whether the program says what its twin says of random observations, small and large, and of ones in which much is alike."""
    rng = np.random.default_rng(CHECK_SEED)
    size = grounding.observation_size
    rows = np.concatenate(
        [
            *(rng.normal(0.0, scale, (N_CHECKS, size)) for scale in (0.05, 0.5, 5.0)),
            rng.integers(-1, 2, (N_CHECKS, size)).astype(np.float64),
        ]
    )
    with np.errstate(all="ignore"):
        state = grounding.read(rows)
        steps = twin.active(state.values)
        expected = state.inputs(twin.targets(steps, state.anchors))
        try:
            answers = [program(row) for row in rows.tolist()]
        except (ArithmeticError, ValueError):
            return False
    inputs: NDArray[np.float64] = np.array([each[1] for each in answers])
    same = [each[0] for each in answers] == steps.tolist()
    return (
        same
        and inputs.shape == expected.shape
        and bool(np.allclose(inputs, expected, rtol=CLOSE, atol=CLOSE, equal_nan=True))
    )

"""A grounding as arithmetic: what it computes from one observation, recorded number by number.

A grounding is written with NumPy over batches, readable and general; for a single state most of its time is NumPy's calls, not arithmetic. Read
once with symbols in place of numbers, it says which sums, products and roots each of its outputs is, and from these one gets
straight-line code for a single state or an exported graph. Whatever cannot be followed (a branch on a value, a function that is not
known here) is `Untraceable`, and its grounding is used as it is.

Source of the technique: operator-overloading traces as in Theano (Bergstra et al. 2010) and autograd (Maclaurin et al. 2015).
"""

# NumPy's dispatch protocols pass values of any type.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lago_skills.worlds.grounding import Grounding

Number = int | float


class Untraceable(Exception):
    """The grounding does something that no symbol can stand for."""


class Expression:
    """A number that is not known yet: a constant, an input, or an operation on others. Equal ones are one object."""

    __slots__ = ("args", "name", "op", "value")
    _known: dict[tuple[Any, ...], Expression] = {}  # noqa: RUF012  (emptied by every trace)

    def __init__(self, op: str, args: tuple[Expression, ...], value: float, name: str) -> None:
        self.op, self.args, self.value, self.name = op, args, value, name

    @staticmethod
    def of(op: str, *args: Expression, value: float = 0.0, name: str = "") -> Expression:
        """The expression of an operation; of constants, its value."""
        if args and all(each.op == "const" for each in args):
            return constant(evaluate(op, *(each.value for each in args)))
        if (simple := _simplified(op, args)) is not None:
            return simple
        key = (op, *map(id, args), value if args or op == "const" else 0.0, name)
        if key not in Expression._known:
            Expression._known[key] = Expression(op, args, value, name)
        return Expression._known[key]

    @staticmethod
    def forget() -> None:
        """Begin anew: no expression of before is the same as one that is made from now on."""
        Expression._known = {}

    def __bool__(self) -> bool:
        raise Untraceable(f"a branch on {self.op}")

    def __float__(self) -> float:
        raise Untraceable(f"{self.op} as a number")

    def __add__(self, other: Any) -> Expression:
        return Expression.of("+", self, symbol(other))

    def __radd__(self, other: Any) -> Expression:
        return Expression.of("+", symbol(other), self)

    def __sub__(self, other: Any) -> Expression:
        return Expression.of("-", self, symbol(other))

    def __rsub__(self, other: Any) -> Expression:
        return Expression.of("-", symbol(other), self)

    def __mul__(self, other: Any) -> Expression:
        return Expression.of("*", self, symbol(other))

    def __rmul__(self, other: Any) -> Expression:
        return Expression.of("*", symbol(other), self)

    def __truediv__(self, other: Any) -> Expression:
        return Expression.of("/", self, symbol(other))

    def __rtruediv__(self, other: Any) -> Expression:
        return Expression.of("/", symbol(other), self)

    def __neg__(self) -> Expression:
        return Expression.of("neg", self)

    def __lt__(self, other: Any) -> Expression:
        return Expression.of("<", self, symbol(other))

    def __gt__(self, other: Any) -> Expression:
        return Expression.of("<", symbol(other), self)


def _simplified(op: str, args: tuple[Expression, ...]) -> Expression | None:
    """What adding zero and multiplying by one come to. Products with zero stay: the other factor may not be finite."""
    if len(args) != 2:
        return None
    first, second = args
    zero_first, zero_second = first.op == "const" and first.value == 0.0, second.op == "const" and second.value == 0.0
    if (op in "+-" and zero_second) or (op in "*/" and second.op == "const" and second.value == 1.0):
        return first
    if (op == "+" and zero_first) or (op == "*" and first.op == "const" and first.value == 1.0):
        return second
    return None


def constant(value: Number) -> Expression:
    """A number that is known."""
    return Expression.of("const", value=float(value))


def symbol(value: Any) -> Expression:
    """An expression, or the constant of a number.

    Raises:
        Untraceable: it is neither.
    """
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return constant(float(value))
    raise Untraceable(f"a {type(value).__name__} among numbers")


OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
    "neg": operator.neg,
    "abs": abs,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
    "exp": math.exp,
    "log": math.log,
    "log1p": math.log1p,
    "sin": math.sin,
    "cos": math.cos,
    "atan2": math.atan2,
    "sign": lambda a: float(np.sign(a)),
    "min": min,
    "max": max,
    "<": lambda a, b: float(a < b),
    "<=": lambda a, b: float(a <= b),
    "==": lambda a, b: float(a == b),
    "and": lambda a, b: float(bool(a) and bool(b)),
    "or": lambda a, b: float(bool(a) or bool(b)),
    "not": lambda a: float(not a),
    "where": lambda c, a, b: a if c else b,
}
"""What each operation does to numbers; truths are 1 and 0."""


def evaluate(op: str, *args: float) -> float:
    """An operation on numbers."""
    return float(OPERATIONS[op](*args))


def _operation(op: str, n: int = 1) -> Any:
    return np.frompyfunc(lambda *args: Expression.of(op, *map(symbol, args)), n, 1)


def _power(base: Any, exponent: Any) -> Expression:
    known = symbol(exponent)
    if known.op != "const" or known.value not in (1.0, 2.0, 0.5):
        raise Untraceable("a power that is neither a square nor a root")
    if known.value == 0.5:
        return Expression.of("sqrt", symbol(base))
    return symbol(base) * base if known.value == 2.0 else symbol(base)


_BY_UFUNC: dict[str, Any] = {
    "add": _operation("+", 2),
    "subtract": _operation("-", 2),
    "multiply": _operation("*", 2),
    "divide": _operation("/", 2),
    "negative": _operation("neg"),
    "positive": np.frompyfunc(symbol, 1, 1),
    "absolute": _operation("abs"),
    "fabs": _operation("abs"),
    "sqrt": _operation("sqrt"),
    "square": np.frompyfunc(lambda a: symbol(a) * a, 1, 1),
    "tanh": _operation("tanh"),
    "exp": _operation("exp"),
    "log": _operation("log"),
    "log1p": _operation("log1p"),
    "sin": _operation("sin"),
    "cos": _operation("cos"),
    "arctan2": _operation("atan2", 2),
    "sign": _operation("sign"),
    "minimum": _operation("min", 2),
    "maximum": _operation("max", 2),
    "fmin": _operation("min", 2),
    "fmax": _operation("max", 2),
    "clip": np.frompyfunc(
        lambda a, low, high: Expression.of("min", Expression.of("max", symbol(a), symbol(low)), symbol(high)), 3, 1
    ),
    "less": _operation("<", 2),
    "greater": np.frompyfunc(lambda a, b: Expression.of("<", symbol(b), symbol(a)), 2, 1),
    "less_equal": _operation("<=", 2),
    "greater_equal": np.frompyfunc(lambda a, b: Expression.of("<=", symbol(b), symbol(a)), 2, 1),
    "equal": _operation("==", 2),
    "logical_and": _operation("and", 2),
    "bitwise_and": _operation("and", 2),
    "logical_or": _operation("or", 2),
    "bitwise_or": _operation("or", 2),
    "logical_not": _operation("not"),
    "invert": _operation("not"),
    "matmul": np.matmul,
    "power": np.frompyfunc(_power, 2, 1),
    "float_power": np.frompyfunc(_power, 2, 1),
}


class Symbols(np.ndarray):
    """An array of expressions that NumPy's functions take for one of numbers."""

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        """Itself: expressions have no precision."""
        return self

    def mean(self, axis: Any = None, *, keepdims: Any = False, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sum through the number of what is summed: NumPy's own divides in place."""
        total = self.sum(axis=axis, keepdims=keepdims)
        return total / (self.size / np.size(total))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Record an operation."""
        if ufunc.__name__ in ("isfinite", "isnan"):  # what is not finite is refused before
            return np.full(np.shape(inputs[0]), ufunc.__name__ == "isfinite")
        known = _BY_UFUNC.get(ufunc.__name__)
        if known is None or method not in ("__call__", "reduce"):
            raise Untraceable(f"{ufunc.__name__}.{method}")
        out, where = kwargs.pop("out", None), kwargs.pop("where", True)
        kwargs.pop("dtype", None)
        kwargs.pop("casting", None)
        if out is not None or where is not True:
            raise Untraceable(f"{ufunc.__name__} in place")
        if method == "reduce":
            kwargs = {name: kwargs[name] for name in ("axis", "keepdims") if name in kwargs}
            return symbols(known.reduce(_plain(inputs[0]), **kwargs))
        return symbols(known(*map(_plain, inputs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Record what NumPy does with whole arrays."""
        own = _FUNCTIONS.get(func.__name__)
        if own is not None:
            return symbols(own(*_plain(args), **_plain(kwargs)))
        return symbols(func(*_plain(args), **_plain(kwargs)))


def symbols(value: Any) -> Any:
    """An array of expressions as `Symbols`; truths and numbers that are known stay as they are."""
    if isinstance(value, Expression):
        value = np.array(value, object)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value.view(Symbols)
    if isinstance(value, list | tuple):
        return type(value)(symbols(each) for each in cast("Sequence[Any]", value))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Symbols):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in cast("Sequence[Any]", value))
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _where(condition: Any, first: Any, second: Any) -> Any:
    return np.frompyfunc(lambda c, a, b: Expression.of("where", symbol(c), symbol(a), symbol(b)), 3, 1)(
        condition, first, second
    )


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in (None, 2):
        raise Untraceable(f"norm of order {ord}")
    squares = _BY_UFUNC["square"](x)
    return _BY_UFUNC["sqrt"](_BY_UFUNC["add"].reduce(squares, axis=axis, keepdims=keepdims))


def _clip(a: Any, a_min: Any = None, a_max: Any = None, **more: Any) -> Any:
    low, high = more.get("min", a_min), more.get("max", a_max)
    bounded = a if low is None else _BY_UFUNC["maximum"](a, low)
    return bounded if high is None else _BY_UFUNC["minimum"](bounded, high)


def _full_like(a: Any, fill_value: Any, **kwargs: Any) -> Any:
    return np.full(np.shape(a), fill_value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "norm": _norm,
    "clip": _clip,
    "mean": lambda a, axis=None, keepdims=False, **kwargs: symbols(a).mean(axis, keepdims=keepdims),
    "zeros_like": lambda a, **kwargs: np.zeros(np.shape(a)),
    "ones_like": lambda a, **kwargs: np.ones(np.shape(a)),
    "full_like": _full_like,
}


@dataclass(frozen=True)
class Traced:
    """What a grounding computes from one observation. S, F, n_anchors, D and I as in `Grounding`."""

    values: list[Expression]
    """F features of inputs `o0` to `oS`."""
    anchors: list[list[Expression]]
    """n_anchors points of D numbers."""
    inputs: list[Expression]
    """I decoder inputs, of an observation and a target `t0` to `tD`."""


def traced(grounding: Grounding) -> Traced:
    """The arithmetic of a grounding.

    Raises:
        Untraceable: it cannot be followed.
    """
    Expression.forget()
    size, target_size = grounding.observation_size, grounding.vocabulary.target_size
    try:
        state = grounding.read(_inputs("o", size))
        values, anchors = state.values, state.anchors
        inputs = state.inputs(_inputs("t", target_size))
    except Untraceable:
        raise
    except Exception as error:  # whatever a stranger's grounding makes of symbols
        raise Untraceable(f"{type(error).__name__}: {error}") from error
    n_features, n_anchors = len(grounding.vocabulary.features), len(grounding.vocabulary.anchors)
    if np.shape(values) != (1, n_features) or np.shape(anchors) != (1, n_anchors, target_size if n_anchors else 0):
        raise Untraceable(f"features {np.shape(values)} and anchors {np.shape(anchors)}")
    return Traced(_row(values[0]), [_row(point) for point in anchors[0]], _row(inputs[0]))


def _inputs(letter: str, n: int) -> NDArray[Any]:
    row = np.empty((1, n), object)
    row[0] = [Expression.of("input", name=f"{letter}{i}") for i in range(n)]
    return row.view(Symbols)


def _row(values: Any) -> list[Expression]:
    return [symbol(each) for each in np.asarray(_plain(values), object).tolist()]

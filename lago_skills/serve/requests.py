"""What a client may ask, and what it is answered: one form for websocket and HTTP."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lago_skills.errors import OtherWorld, ShapeError
from lago_skills.guide.explanation import Explanation
from lago_skills.guide.loaded import Answer
from lago_skills.prior import ActionPrior, Prior

Part = Literal["prior", "explanation"]


class Question(BaseModel):
    """A question about some states. `observations` are (B, S) numbers; of a single state, (S,) will do."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    observations: list[list[float]] | list[float] = Field(
        description="(B, S) observations in the order, units and ranges that GET /v1/bundle names; of a single state, (S,) will do",
        min_length=1,
    )
    task: str | None = Field(
        None,
        description="id of a task, its sentence, or a recorded wording; not needed where the bundle has one task",
        max_length=500,
    )
    world: str | None = Field(
        None,
        description="the world_id that the client was written for: refused where the bundle's is another",
        max_length=100,
    )
    step_id: int | str | None = Field(None, description="comes back with the answer")
    sent_at: float | None = Field(
        None,
        description="when the state was seen, seconds since 1970 by the client's clock: what age_ms is counted from",
    )
    max_age_ms: float | None = Field(
        None, gt=0, description="an answer that would be older is not computed: late is true, and there are no actions"
    )
    want: list[Part] = Field(default_factory=list[Part], description="what to answer beside actions", max_length=4)

    def rows(self) -> NDArray[np.float64]:
        """(B, S) observations.

        Raises:
            ShapeError: rows of different lengths.
        """
        return as_rows(self.observations)


class PriorOut(BaseModel):
    """A prior: of continuous actions a mixture of K Gaussians, of discrete ones of K categorical distributions."""

    kind: Literal["continuous", "discrete"]
    weights: list[list[float]] = Field(description="(B, K), rows sum to 1")
    floor: float = Field(description="share of the uniform distribution")
    means: list[list[list[float]]] | None = Field(None, description="(B, K, A), in [-1, 1]")
    stds: list[list[list[float]]] | None = Field(None, description="(B, K, A)")
    log_probs: list[list[list[float]]] | None = Field(None, description="(B, K, A)")


class Reply(BaseModel):
    """What the library would do."""

    actions: list[list[float]] | list[int] | None = Field(
        description="(B, A) numbers in [-1, 1], or (B,) numbers of discrete actions; null where the answer is late"
    )
    steps: list[int] = Field(description="(B,) step of the plan at work, from 1")
    unfamiliarity: list[float] = Field(
        description="(B,) how unlike the training's states these are: beyond 1 they are unfamiliar"
    )
    unfamiliar: list[bool] = Field(description="(B,) whether they are")
    task: str
    leader: str | None = Field(
        description="who acts: the library, or a training run whose policy does; null where the answer is late"
    )
    bundle: str = Field(description="hash of the bundle that answered")
    step_id: int | str | None = None
    age_ms: float = Field(description="since sent_at, or since the question came")
    late: bool
    prior: PriorOut | None = None
    explanation: list[dict[str, Any]] | None = None


def as_rows(observations: Any) -> NDArray[np.float64]:
    """(B, S) observations of whatever a client sent.

    Raises:
        ShapeError: rows of different lengths, or no numbers.
    """
    try:
        rows = np.asarray(observations)
        if rows.dtype.kind not in "fiu" or rows.ndim not in (1, 2):
            raise ShapeError(
                f"observations: found {rows.dtype} of shape {rows.shape}; expected numbers of shape (B, S), or (S,) of a single state; send those"
            )
    except (ValueError, TypeError) as error:
        raise ShapeError(
            "observations: found rows of different lengths; expected (B, S) numbers; send a rectangular list"
        ) from error
    return rows[None] if rows.ndim == 1 else rows


def question_of(message: Any) -> tuple[Question, NDArray[np.float64]]:
    """A question and its (B, S) observations from a map whose observations are an array.

    `observation` and `prompt` are understood for `observations` and `task`, as policy servers' clients say them.

    Raises:
        ShapeError: it is no question.
    """
    if not isinstance(message, dict):
        raise ShapeError(
            f"message: found {type(message).__name__}; expected a map with observations and task; send a dictionary"
        )
    fields: dict[str, Any] = {str(name): value for name, value in message.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    for name, other in (("observations", "observation"), ("task", "prompt")):
        if other in fields and name not in fields:
            fields[name] = fields.pop(other)
    if "observations" not in fields:
        raise ShapeError(f"message: found {sorted(fields)}; expected observations (B, S), and task; name the array so")
    rows = as_rows(fields.pop("observations"))
    fields = {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}
    try:
        return Question(observations=[0.0], **fields), rows
    except (ValidationError, TypeError) as error:
        raise ShapeError(sentence_of(error)) from error


def sentence_of(error: Exception) -> str:
    """What is wrong with a question, in a sentence that repeats none of its numbers."""
    if not isinstance(error, ValidationError):
        return f"message: found {error}; expected the fields of a question; see /openapi.json"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the message"
    return f"found {where} that cannot be used ({first['msg']}); expected the fields of a question; see /openapi.json, and correct it"


def prior_fields(prior: Prior) -> dict[str, Any]:
    """A prior as arrays by name."""
    if isinstance(prior, ActionPrior):
        return {
            "kind": "continuous",
            "weights": prior.weights,
            "means": prior.means,
            "stds": prior.stds,
            "floor": prior.floor,
        }
    return {"kind": "discrete", "weights": prior.weights, "log_probs": prior.log_probs, "floor": prior.floor}


def reply_fields(
    question: Question,
    task: str,
    digest: str,
    answer: Answer | None,
    n_states: int,
    age_ms: float,
    explanations: list[Explanation] | None,
) -> dict[str, Any]:
    """A reply with arrays; without an answer it came too late for one."""
    fields: dict[str, Any] = {
        "actions": None if answer is None else answer.actions,
        "steps": np.zeros(n_states, np.int64) if answer is None else answer.steps + 1,
        "unfamiliarity": np.zeros(n_states) if answer is None else answer.unfamiliarity,
        "unfamiliar": np.zeros(n_states, np.bool_) if answer is None else answer.unfamiliar,
        "task": task,
        "leader": None if answer is None else answer.leader,
        "bundle": digest,
        "step_id": question.step_id,
        "age_ms": age_ms,
        "late": answer is None,
    }
    if "prior" in question.want and answer is not None:
        fields["prior"] = prior_fields(answer.prior)
    if explanations is not None:
        fields["explanation"] = [each.as_json() for each in explanations]
    return fields


def check_world(question: Question, world_id: str) -> None:
    """Refuse a client that was written for another world.

    Raises:
        OtherWorld: it was.
    """
    if question.world is not None and question.world != world_id:
        raise OtherWorld(
            f"found a client for world {question.world[:12]}; expected {world_id[:12]}, that of the bundle; compare the client with GET /v1/bundle, and serve "
            "the bundle that it was written for"
        )

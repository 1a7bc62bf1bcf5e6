"""What may be set about a language-model endpoint. The key is never among it: it comes from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CapParameter = Literal["max_completion_tokens", "max_tokens"]
ResponseFormat = Literal["schema", "object", "none"]


class LiveConfig(BaseModel):
    """An endpoint that speaks the OpenAI chat protocol: OpenAI, vLLM, Ollama, llama.cpp's server, a gateway to others."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = None
    """Name of the model, as the endpoint knows it; `--model` overrides it."""
    base_url: str | None = None
    """Such as `http://localhost:11434/v1`; without it the environment's OPENAI_BASE_URL, or OpenAI itself."""
    path: str = "/chat/completions"
    """Behind the base address."""
    query: dict[str, str] = Field(default_factory=dict)
    """Added to the address, such as `api-version`; a value `$NAME` is that environment variable."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Sent with every request; a value `$NAME` is that environment variable, so that no secret stands in a study."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; local servers need none."""
    response_format: ResponseFormat = "schema"
    """How an answer in JSON is asked for: by its schema, as some object, or by the prompt alone."""
    cap_parameter: CapParameter | None = None
    """What the endpoint calls the longest answer; without it the newer name, and the older one where that is refused."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests on their way at the same time, from all of one's commands on this machine that ask this endpoint."""
    timeout_s: float = Field(default=180.0, gt=0)
    """From sending a request to the last byte of its answer; then it is tried again."""
    connect_timeout_s: float = Field(default=20.0, gt=0)
    """Up to where a server takes the connection."""
    max_tries: int = Field(default=6, ge=1, le=100)
    """How often a request is sent, at most, where trying again may help."""
    max_wait_s: float = Field(default=120.0, ge=0)
    """A server that asks for a longer pause than this ends the request with an error."""
    max_answer_tokens: int = Field(default=8192, ge=1)
    """Longest answer that is paid for, reasoning included."""
    temperature: float | None = Field(default=None, ge=0)
    """None leaves it to the endpoint."""
    budget_tokens: int = Field(default=2_000_000, ge=0)
    """Never spend more, over everything that the transcript file records. A request is sent only if its longest answer fits."""
    budget_usd: float | None = Field(default=None, ge=0)
    """The same in money; needs the two prices."""
    usd_per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    """What the provider takes; counted against `budget_usd`."""
    usd_per_million_answer_tokens: float = Field(default=0.0, ge=0)
    """The same of what is answered, reasoning included."""

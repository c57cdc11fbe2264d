"""The recipe schema (pydantic): every key with its type, default and description.

The objective, its weights and the iterations default to the paper's (arXiv 2601.08198); if a default differs, or the
paper does not state it, the docstring says so. Pure: no file is opened here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator

from ..base.errors import UsageError
from .phase import Optimizer, Schedule
from .settings import flatten

#: Pattern of names of folders that we create, and the maximum length of a run's name.
SAFE_NAME, LONGEST_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 80

MetricName = Literal["exact_match", "json_valid", "json_exact", "json_field_f1", "regex", "numeric"]


def _no_boolean(value: Any) -> Any:
    """Reject booleans: YAML's yes and true would pass as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Number = BeforeValidator(_no_boolean)
Positive = Annotated[int, Number, Field(gt=0)]
Count = Annotated[int, Number, Field(ge=0)]
AboveZero = Annotated[float, Number, Field(gt=0)]
NotNegative = Annotated[float, Number, Field(ge=0)]
Share = Annotated[float, Number, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of a recipe: immutable; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ModelSection(Section):
    """The language model to fine-tune."""

    path: str = "smollm2-135m"
    """A Hugging Face id (``org/name``), a local folder, a GGUF file, or ``smollm2-135m``, the built-in model.
    Short form: ``model: X``."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; null is its main branch."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: keep the weights as stored on a GPU, and use dense float32 on a CPU. The others dequantise and
    convert."""


class LoraSection(Section):
    """The adapter to train; its weights are always float32."""

    kind: Literal["lora", "dora"] = "lora"
    """``lora``, or ``dora``, which also learns a magnitude for each weight column."""
    rank: Positive = 16
    """Rank of each layer's update."""
    scale: AboveZero = 2.0
    """Factor on the update (mlx-lm's ``scale``; PEFT's ``lora_alpha`` divided by the rank)."""
    dropout: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Dropout on the adapter's input in training; never used in generation and scoring."""
    layers: Count = 0
    """Number of transformer layers with an adapter, counted from the last; 0: all."""
    keys: tuple[str, ...] | None = None
    """Names of the linear layers to adapt within a transformer layer, such as ``self_attn.q_proj``; null: all."""


class Columns(Section):
    """Names of the columns, if they are not the usual ones."""

    prompt: str | None = None
    """Column with the user's turn."""
    response: str | None = None
    """Column with the expert's answer."""
    system: str | None = None
    """Column with the system prompt."""
    answer: str | None = None
    """Column with the reference answer of task metrics; by default the expert's answer."""


class DataSection(Section):
    """Examples: prompts with expert answers."""

    train: str
    """A JSONL, JSON, CSV or Parquet file, or ``hub:ID[:CONFIG]:SPLIT`` for a dataset on the Hugging Face Hub."""
    validation: str | None = None
    """Held-out examples for choosing the best iteration; null: take ``validation_size`` rows from ``train``."""
    test: str | None = None
    """Held-out examples used once, at the end; null: no test."""
    validation_size: Positive = 64
    """Number of rows taken from ``train`` if there is no validation file (seeded)."""
    train_limit: Positive | None = None
    """Maximum number of training rows (a seeded choice); null: all."""
    validation_limit: Positive | None = None
    """Maximum number of validation rows (a seeded choice); null: all."""
    test_limit: Positive | None = None
    """Maximum number of test rows (a seeded choice); null: all."""
    columns: Columns = Columns()
    """Names of the columns, if they are not the usual ones."""
    turn: Literal["first", "last"] = "last"
    """Which assistant turn of chat ``messages`` is the expert's answer; later turns are dropped (paper: ``first``)."""
    system: str | None = None
    """System prompt for rows without one; null: the chat template's default, if any."""
    template: str = "chat"
    """``chat``: the model's own template; ``paper``: the template of the T-SPIN paper; or any text with
    ``{prompt}``, and ``{system}`` if rows have one."""
    max_tokens: Annotated[Positive, Field(ge=8)] = 2048
    """Maximum length of prompt plus answer in tokens (paper: 2048); longer rows are errors, or skipped."""
    skip_bad_rows: bool = False
    """Skip and count bad rows instead of stopping."""

    @property
    def sources(self) -> dict[str, str]:
        """The file or dataset of each split that the recipe has."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: source for split, source in splits.items() if source}

    @field_validator("template")
    @classmethod
    def _has_a_place_for_the_prompt(cls, value: str) -> str:
        if value not in ("chat", "paper") and "{prompt}" not in value:
            raise ValueError("must be 'chat', 'paper' or a text that contains {prompt}")
        return value


class GenerationSection(Section):
    """How the model's own answers are sampled."""

    prompts: Positive | None = None
    """Number of training prompts for self-play, taken from the start; null: all (paper: all)."""
    temperature: NotNegative = 1.0
    """Sampling temperature of synthetic responses; 1 samples the policy itself (paper: not stated)."""
    top_p: Annotated[AboveZero, Field(le=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    max_tokens: Positive = 256
    """Maximum response length in tokens (paper: not stated; SPIN: 256)."""
    batch_size: Positive = 32
    """Prompts answered at once; samples do not depend on it."""
    shard_tokens: Positive = 65_536
    """Maximum prompt and response tokens per shard (at least one prompt). Limits memory, and the work that a stopped
    run repeats."""


class ObjectiveSection(Section):
    """The loss. The defaults are exactly the paper's objective."""

    kind: Literal["tspin", "spin", "sft", "tspin_with_reference"] = "tspin"
    """``tspin``: the paper's objective. The others are for comparison: ``spin`` (arXiv 2401.01335) has no historical
    term, and subtracts the log-probabilities under the policy at the start of the iteration; ``sft`` trains on the
    expert's answers only; ``tspin_with_reference`` is ``tspin`` with log-probabilities relative to that policy."""
    alpha: AboveZero = 1.0
    """Weight of the entropy constraint: factor of both advantages inside the logistic loss (paper: 1; SPIN's
    lambda)."""
    beta: NotNegative = 0.1
    """Weight of the historical term from iteration 1 on (paper: 0.1; with 1, a small model stopped ending its answers).
    Always 0 in iteration 0, SPIN and SFT."""
    nll_weight: NotNegative = 0.0
    """Weight of the mean negative log-likelihood per token of the expert's answers, added to the loss: an anchor
    against the collapse of small models (not in the paper)."""
    entropy_weight: NotNegative = 0.0
    """Weight of the policy's mean token entropy at scored positions, subtracted from the loss (not in the paper)."""
    contrast_tokens: Positive | None = None
    """Score only this many tokens of the model's own responses, from their first difference with the expert's answer
    on; null: all tokens (paper: all)."""

    def historical_weight(self, iteration: int) -> float:
        """Return ``beta`` if the objective has a historical term in an iteration, else 0; in iteration 0 y' is y0."""
        return self.beta if iteration and self.kind in ("tspin", "tspin_with_reference") else 0.0

    @property
    def has_reference(self) -> bool:
        """Whether log-probabilities are relative to those at the start of the iteration."""
        return self.kind in ("spin", "tspin_with_reference")


class WarmupSection(Section):
    """Supervised fine-tuning before self-play: if the model's own answers are far off, they give no useful contrast."""

    epochs: Count = 0
    """Passes over the training examples; 0: no warm-up (the paper starts from a supervised model)."""
    prompts: Positive | None = None
    """Number of training examples for the warm-up, taken from the start; null: all. The others are new to the model in
    self-play."""
    learning_rate: AboveZero = 2e-4
    """Peak learning rate of the warm-up."""


class TrainingSection(Section):
    """Iterations, batch sizes, optimiser and learning rate."""

    iterations: Count = 5
    """Self-play iterations (paper: 5)."""
    epochs: Positive = 2
    """Passes over the triplets in each iteration (paper: not stated; SPIN: 2)."""
    batch_size: Positive = 16
    """Triplets per optimiser step (paper: 64, for 50,000 examples)."""
    micro_batch_size: Positive = 4
    """Triplets computed at once; gradients are accumulated exactly, so this only trades memory for speed."""
    optimizer: Optimizer = "adamw"
    """Optimiser, reset in every iteration (paper: RMSProp)."""
    learning_rate: AboveZero = 1e-5
    """Peak learning rate (paper: not stated)."""
    schedule: Schedule = "linear"
    """Learning-rate decay to 0 after the learning-rate warm-up; ``constant``: none."""
    warmup_ratio: Annotated[NotNegative, Field(le=1)] = 0.1
    """Share of the steps in which the learning rate rises from 0 (paper: 0.1)."""
    weight_decay: NotNegative = 0.0
    """Weight decay of AdamW and Lion (paper: none)."""
    max_grad_norm: AboveZero | None = 1.0
    """Clip the gradient to this norm; null: no clipping."""
    grad_checkpoint: Literal["auto"] | StrictBool = "auto"
    """Gradient checkpointing: ``true`` recomputes activations in the backward pass, which needs much less memory and
    takes 50 to 80 % longer; ``auto`` measures memory and uses it only if nothing else fits."""

    @model_validator(mode="after")
    def _decay_is_read(self) -> TrainingSection:
        if self.weight_decay and self.optimizer not in ("adamw", "lion"):
            raise ValueError(f"weight_decay has no effect with {self.optimizer}; use adamw or lion, or set it to 0")
        return self


class EvaluationSection(Section):
    """Measures on held-out examples, before the first iteration and after each one."""

    metrics: tuple[MetricName, ...] = ()
    """Task metrics of greedy answers, from 0 to 1. ``exact_match``: the same text, ignoring space around it.
    ``json_valid``: one JSON object or list and nothing else. ``json_exact``: JSON with the same content.
    ``json_field_f1``: F1 over the fields and their values. ``numeric``: the same last number. ``regex``: the answer
    matches a pattern."""
    regex: str | None = None
    """Pattern of the metric ``regex``, searched anywhere in the answer."""
    best: str = "nll"
    """The measure that chooses the best iteration: one of ``metrics``, or ``nll``."""
    max_tokens: Positive | None = None
    """Maximum length of greedy answers in tokens; null: ``generation.max_tokens``."""
    samples: Count = 3
    """Number of sample answers shown before and after training."""

    @model_validator(mode="after")
    def _choices_fit_together(self) -> EvaluationSection:
        if self.best != "nll" and self.best not in self.metrics:
            allowed = ", ".join(["nll", *self.metrics])
            raise ValueError(f"best is {self.best!r}, which is not measured; choose one of: {allowed}")
        if ("regex" in self.metrics) != (self.regex is not None):
            raise ValueError("the metric 'regex' and the key 'regex' must be used together")
        return self

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class GuardSection(Section):
    """The collapse guard: compares the policy after each iteration with the one before self-play."""

    stop_rate_drop: Share = 0.25
    """Warn if the share of held-out answers that end by themselves falls by more than this."""
    nll_rise: AboveZero = 0.1
    """Warn if the negative log-likelihood of the expert's held-out answers rises by more than this, in nats per
    token."""
    truncated_rise: Share = 0.25
    """Warn if the share of sampled answers that were cut off rises by more than this."""
    stop: bool = False
    """Early stopping: on such a warning, stop iterating, then choose and test the best policy so far."""


class RunSection(Section):
    """Folder, seed and checkpoints of the run."""

    name: str | None = Field(default=None, pattern=SAFE_NAME, max_length=LONGEST_NAME)
    """Name of the run's folder; null: the recipe's name."""
    folder: str = "runs"
    """Folder that holds the runs."""
    seed: Count = 0
    """The seed of all randomness: splits, order, dropout and samples."""
    checkpoint_seconds: NotNegative = 30.0
    """Seconds between checkpoints (at least 20 times as long as saving one takes): the most work that a killed run
    repeats. 0: after every step. Results do not depend on it."""


def check_name(name: str, what: str, hint: str | None = None) -> None:
    """Check the name of a folder that we are to create.

    Args:
        what: the kind of folder, with its article.
        hint: how to choose another name.

    Raises:
        UsageError: it contains other characters than those allowed.
    """
    if not re.fullmatch(SAFE_NAME, name):
        raise UsageError(f"{name!r} cannot be the name of {what} (letters, digits, '.', '_' and '-')", hint=hint)


class Recipe(Section):
    """A complete description of a fine-tuning run with triplet self-play."""

    description: str = ""
    """What the recipe teaches, in one or two sentences for people."""
    measured: str = ""
    """What was measured with it and on which machine, for people."""
    model: ModelSection = ModelSection()
    lora: LoraSection = LoraSection()
    data: DataSection
    generation: GenerationSection = GenerationSection()
    objective: ObjectiveSection = ObjectiveSection()
    warmup: WarmupSection = WarmupSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()
    guard: GuardSection = GuardSection()
    run: RunSection = RunSection()

    @field_validator("model", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """``model: org/name`` is short for ``model: {path: org/name}``."""
        return {"path": value} if isinstance(value, str) else value

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values by dotted key: ``{"training.epochs": 2, ...}``."""
        return flatten(self.model_dump(mode="json"))

    @property
    def answer_tokens(self) -> int:
        """Maximum length of greedy answers in tokens, in evaluation and in samples shown."""
        return self.evaluation.max_tokens or self.generation.max_tokens

    @model_validator(mode="after")
    def _does_something(self) -> Recipe:
        if not self.training.iterations and not self.warmup.epochs:
            raise ValueError("nothing to do: training.iterations and warmup.epochs are both 0")
        return self

"""What the user wrote: a recipe, with every key documented, checked and given its default.

The objective, its weights and the iterations default to the paper's (arXiv 2601.08198); where a default is another, or
the paper states nothing, the docstring says so. Pure: parsing works on text, no file is opened here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator, model_validator

from ..base.errors import UsageError
from .phase import Optimizer, Schedule
from .settings import flatten

#: What a folder made by us may be called; and a run's at most so long.
SAFE_NAME, LONGEST_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 80

MetricName = Literal["exact_match", "json_valid", "json_exact", "json_field_f1", "regex", "numeric"]


def _no_boolean(value: Any) -> Any:
    """YAML's yes and true would pass as 1."""
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
    """A part of a recipe: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ModelSection(Section):
    """The language model to teach."""

    path: str = "smollm2-135m"
    """A Hugging Face id (``org/name``), a local folder, a GGUF file, or ``smollm2-135m``, the built-in model.
    ``model: X`` is short for it."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; null is its main branch."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto`` keeps the weights as they are stored on a GPU and computes in dense float32 on a CPU;
    the others dequantise and convert."""


class LoraSection(Section):
    """The adapter that is trained; its weights are always float32."""

    kind: Literal["lora", "dora"] = "lora"
    """LoRA, or DoRA, which also learns the length of each weight column."""
    rank: Positive = 16
    """Rank of the update of each adapted layer."""
    scale: AboveZero = 2.0
    """Factor on the update (mlx-lm's ``scale``; PEFT's ``lora_alpha`` divided by the rank)."""
    dropout: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Dropout on the adapter's input while training; generation and scoring never use it."""
    layers: Count = 0
    """How many of the last transformer layers get an adapter; 0 is all."""
    keys: tuple[str, ...] | None = None
    """Names of the linears inside a layer, such as ``self_attn.q_proj``; null is every linear."""


class Columns(Section):
    """Names of the columns when they are not the usual ones."""

    prompt: str | None = None
    """Column with the user's turn."""
    response: str | None = None
    """Column with the expert's answer."""
    system: str | None = None
    """Column with the system prompt."""
    answer: str | None = None
    """Column with what task metrics compare to; without one, the expert's answer itself."""


class DataSection(Section):
    """Examples: prompts with an expert's answer."""

    train: str
    """A JSONL, JSON, CSV or Parquet file, or ``hub:ID[:CONFIG]:SPLIT`` for a dataset on the Hugging Face Hub."""
    validation: str | None = None
    """Held-out examples that choose the best iteration; null takes ``validation_size`` rows from ``train``."""
    test: str | None = None
    """Held-out examples looked at once, at the end; null is no test."""
    validation_size: Positive = 64
    """Rows split from ``train`` when there is no validation file (seeded)."""
    train_limit: Positive | None = None
    """Use at most this many training rows (a seeded choice); null is all."""
    validation_limit: Positive | None = None
    """Use at most this many validation rows; null is all."""
    test_limit: Positive | None = None
    """Use at most this many test rows; null is all."""
    columns: Columns = Columns()
    """Names of the columns when they are not the usual ones."""
    turn: Literal["first", "last"] = "last"
    """Which assistant turn of chat ``messages`` is the expert's answer; what comes after it is left out (paper:
    the first)."""
    system: str | None = None
    """System prompt for rows without one; null leaves it to the model's chat template."""
    template: str = "chat"
    """``chat``: the model's own template; ``paper``: the template of the T-SPIN paper; or any text with
    ``{prompt}``, and ``{system}`` if rows have one."""
    max_tokens: Annotated[Positive, Field(ge=8)] = 2048
    """Longest prompt plus answer in tokens (the paper's 2048); a longer row is an error, or skipped."""
    skip_bad_rows: bool = False
    """Skip and count rows that cannot be used, instead of stopping."""

    @property
    def sources(self) -> dict[str, str]:
        """The files and datasets of its parts, of those that it has."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: source for part, source in parts.items() if source}

    @field_validator("template")
    @classmethod
    def _has_a_place_for_the_prompt(cls, value: str) -> str:
        if value not in ("chat", "paper") and "{prompt}" not in value:
            raise ValueError("must be 'chat', 'paper' or a text that contains {prompt}")
        return value


class GenerationSection(Section):
    """How the model answers the prompts itself."""

    prompts: Positive | None = None
    """Self-play uses the first so many training prompts; null is all (paper: all)."""
    temperature: NotNegative = 1.0
    """Sampling temperature of synthetic responses; 1 samples the policy itself (paper: not stated)."""
    top_p: Annotated[AboveZero, Field(le=1)] = 1.0
    """Nucleus sampling; 1 is off."""
    max_tokens: Positive = 256
    """Longest response in tokens (paper: not stated; SPIN's 256)."""
    batch_size: Positive = 32
    """Prompts answered at once; the samples do not depend on it."""
    shard_tokens: Positive = 65_536
    """Prompt and response tokens per shard, at most (but at least one prompt): what a stopped run repeats, and what
    bounds memory."""


class ObjectiveSection(Section):
    """The loss. The defaults are the paper's objective and nothing else."""

    kind: Literal["tspin", "spin", "sft", "tspin_with_reference"] = "tspin"
    """``tspin``: the paper's objective. The others are for comparison: ``spin`` (arXiv 2401.01335) has no historical
    term, and counts log-probabilities from those of the policy at the start of the iteration; ``sft`` trains on the
    expert's answers alone; ``tspin_with_reference`` is ``tspin`` with log-probabilities counted as in ``spin``."""
    alpha: AboveZero = 1.0
    """Weight of the entropy constraint; multiplies both advantages inside the logistic (paper: 1; in SPIN it is
    lambda)."""
    beta: NotNegative = 0.1
    """Weight of the historical term from iteration 1 on (paper: 0.1; with 1 a small model ended no answer any more);
    iteration 0, SPIN and SFT always use 0."""
    nll_weight: NotNegative = 0.0
    """Adds this times the mean negative log-likelihood per token of the expert's answers: an anchor against
    the collapse of small models (not in the paper)."""
    entropy_weight: NotNegative = 0.0
    """Subtracts this times the policy's mean token entropy at the scored positions (not in the paper)."""
    contrast_tokens: Positive | None = None
    """The model's own responses count up to so many tokens from their first difference with the expert's answer on;
    null counts all of their tokens (paper: all)."""

    def historical_weight(self, iteration: int) -> float:
        """``beta``, where the objective has a historical term: not in iteration 0, whose y' are the y0; else 0."""
        return self.beta if iteration and self.kind in ("tspin", "tspin_with_reference") else 0.0

    @property
    def has_reference(self) -> bool:
        """Whether log-probabilities are counted from those at the start of the iteration."""
        return self.kind in ("spin", "tspin_with_reference")


class WarmupSection(Section):
    """Plain supervised training before self-play: a model whose samples are far off gives no useful contrast."""

    epochs: Count = 0
    """Passes over the training examples; 0 starts self-play from the model as it is (the paper's start is
    already a supervised model)."""
    prompts: Positive | None = None
    """The warm-up uses the first so many training examples; null is all. Those that it leaves, self-play meets
    unprepared."""
    learning_rate: AboveZero = 2e-4
    """Peak learning rate of the warm-up."""


class TrainingSection(Section):
    """The optimiser and its pace."""

    iterations: Count = 5
    """Self-play iterations (paper: 5)."""
    epochs: Positive = 2
    """Passes over the triplets in each iteration (paper: not stated; SPIN's 2)."""
    batch_size: Positive = 16
    """Triplets per optimiser step (paper: 64, for 50,000 examples)."""
    micro_batch_size: Positive = 4
    """Triplets computed at once; gradients are accumulated exactly, so this only trades memory for speed."""
    optimizer: Optimizer = "adamw"
    """Optimiser, fresh in every iteration (paper: RMSProp)."""
    learning_rate: AboveZero = 1e-5
    """Peak learning rate (paper: not stated)."""
    schedule: Schedule = "linear"
    """How the rate falls to 0 after its warm-up."""
    warmup_ratio: Annotated[NotNegative, Field(le=1)] = 0.1
    """Share of the steps in which the rate rises from 0 (paper: 0.1)."""
    weight_decay: NotNegative = 0.0
    """Weight decay of AdamW and Lion (paper: none)."""
    max_grad_norm: AboveZero | None = 1.0
    """Clip the gradient to this norm; null does not clip."""
    grad_checkpoint: Literal["auto"] | StrictBool = "auto"
    """Gradient checkpointing: ``true`` computes the activations of layers a second time in the backward pass, which
    needs much less memory and half to four fifths more time; ``auto`` measures, and does so only if nothing else
    fits."""

    @model_validator(mode="after")
    def _decay_is_read(self) -> TrainingSection:
        if self.weight_decay and self.optimizer not in ("adamw", "lion"):
            raise ValueError(f"weight_decay has no effect with {self.optimizer}; use adamw or lion, or 0")
        return self


class EvaluationSection(Section):
    """What is measured on held-out examples, before the first iteration and after every one."""

    metrics: tuple[MetricName, ...] = ()
    """How good greedy answers are, from 0 to 1. ``exact_match``: the same text, but for space around it.
    ``json_valid``: one JSON object or list and nothing else. ``json_exact``: JSON with the same content.
    ``json_field_f1``: F1 over the fields and their values. ``numeric``: the same last number. ``regex``: the pattern is
    found in the answer."""
    regex: str | None = None
    """For the metric ``regex``: the answer counts if this pattern is found in it."""
    best: str = "nll"
    """The measure that chooses the best iteration: one of ``metrics``, or ``nll``."""
    max_tokens: Positive | None = None
    """Longest greedy answer in tokens; null is ``generation.max_tokens``."""
    samples: Count = 3
    """Answers shown before and after."""

    @model_validator(mode="after")
    def _choices_fit_together(self) -> EvaluationSection:
        if self.best != "nll" and self.best not in self.metrics:
            allowed = ", ".join(["nll", *self.metrics])
            raise ValueError(f"best is {self.best!r}, which is not measured; one of: {allowed}")
        if ("regex" in self.metrics) != (self.regex is not None):
            raise ValueError("the metric 'regex' and the key 'regex' need each other")
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
    """The collapse guard: after each iteration the policy is compared with the one before self-play."""

    stop_rate_drop: Share = 0.25
    """Warn when the share of held-out answers that end by themselves has fallen by more than this."""
    nll_rise: AboveZero = 0.1
    """Warn when the expert's held-out answers have become less likely by more than this, in nats per token."""
    truncated_rise: Share = 0.25
    """Warn when the share of sampled answers that were cut off has risen by more than this."""
    stop: bool = False
    """On such a warning, make no further iterations: the best policy so far is chosen and tested."""


class RunSection(Section):
    """Where the run lives, its seed, and how often it is saved."""

    name: str | None = Field(default=None, pattern=SAFE_NAME, max_length=LONGEST_NAME)
    """Name of the run's folder; null is the recipe's name."""
    folder: str = "runs"
    """Folder that holds the runs."""
    seed: Count = 0
    """The one seed: it decides splits, order, dropout and samples."""
    checkpoint_seconds: NotNegative = 30.0
    """Seconds between checkpoints, and at least 20 times as long as saving one takes: what a killed run repeats at
    most. 0 saves one after every step. The results do not depend on it."""


def check_name(name: str, what: str, hint: str | None = None) -> None:
    """Refuse what a folder made by us may not be called.

    Args:
        what: it is the name of, with its article.
        hint: how to give another name.

    Raises:
        UsageError: it has other characters than those.
    """
    if not re.fullmatch(SAFE_NAME, name):
        raise UsageError(f"{name!r} cannot be the name of {what} (letters, digits, '.', '_' and '-')", hint=hint)


class Recipe(Section):
    """A complete description of a fine-tuning by triplet self-play."""

    description: str = ""
    """One or two sentences for people: what it teaches."""
    measured: str = ""
    """For people, too: what it was measured to do, and on what machine."""
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
        """Longest greedy answer in tokens, where answers are measured and shown."""
        return self.evaluation.max_tokens or self.generation.max_tokens

    @model_validator(mode="after")
    def _does_something(self) -> Recipe:
        if not self.training.iterations and not self.warmup.epochs:
            raise ValueError("nothing to do: training.iterations and warmup.epochs are both 0")
        return self

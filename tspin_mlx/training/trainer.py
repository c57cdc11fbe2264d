"""The training loop: gradient accumulation over compiled micro-batches, finite check, clipping, optimiser step."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_map_with_path

from ..base.errors import DivergedError, SetupError
from ..base.seeds import derive
from ..method.losses import batch_loss
from ..method.objective import Objective
from ..method.step_metrics import significant, step_metrics
from ..models.adapters import differing
from ..models.load import Policy
from ..recipe.phase import TrainConfig
from ..scoring.collate import Example, MicroBatch, Signature, batch_order, micro_batches
from ..scoring.head import FEW_LOGITS_AT_ONCE, LOGITS_AT_ONCE, Differentiate
from ..scoring.logprobs import BatchArrays, as_arrays
from .grad_checkpoint import LayerSeeds, grad_checkpointed
from .schedule import learning_rate_at

OPTIMIZERS = {"adamw": optim.AdamW, "adam": optim.Adam, "rmsprop": optim.RMSprop, "lion": optim.Lion}

_COMPILED_SHAPES = 32  # at most
_LOOKED_AT = 2000  # micro-batches, to find the frequent shapes

#: A micro-batch with its log-probabilities, entropies and reference log-probabilities, each (k, m) float32.
Seen = tuple[MicroBatch, np.ndarray, np.ndarray, np.ndarray]

#: Loss share, log-probabilities, entropies; and the gradients.
GradientResult = tuple[tuple[mx.array, mx.array, mx.array], Any]

#: Takes a batch, reference log-probabilities (k, m), and counts (3,).
Gradient = Callable[[BatchArrays, mx.array, mx.array], GradientResult]


class Gradients:
    """Gradient functions of a policy's loss with respect to its adapter, shared by all phases that train it."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._compiled: dict[Objective, tuple[Gradient, frozenset[Signature]]] = {}

    def plain(self, objective: Objective, logits_at_once: int = LOGITS_AT_ONCE) -> Gradient:
        """Return the gradient function, not compiled."""
        scorer, scale = self._policy.scorer, self._policy.loss_scale
        differentiate: Differentiate = "both" if objective.entropy_weight else "logps"

        def loss_of(batch: BatchArrays, reference: mx.array, counts: mx.array) -> tuple[mx.array, mx.array, mx.array]:
            logps, entropies = scorer(batch, differentiate, logits_at_once)
            share = batch_loss(logps, entropies, counts, objective, reference=reference)
            return share * scale, logps, entropies

        def unscaled(
            batch: BatchArrays, reference: mx.array, counts: mx.array
        ) -> tuple[tuple[mx.array, mx.array, mx.array], Any]:
            (share, logps, entropies), grads = scaled(batch, reference, counts)
            return (share / scale, logps, entropies), tree_map(lambda gradient: gradient / scale, grads)

        scaled = nn.value_and_grad(self._policy.model, loss_of)
        return scaled if scale == 1 else unscaled

    def compiled(self, objective: Objective, shapes: frozenset[Signature]) -> Gradient:
        """Return the gradient function, compiled at the first call with each shape; a new one once it has too many."""
        function, known = self._compiled.get(objective, (None, frozenset()))
        if function is None or len(known | shapes) > _COMPILED_SHAPES:
            state = [self._policy.model.state, mx.random.state]
            function, known = mx.compile(self.plain(objective), inputs=state, outputs=state), frozenset()
        self._compiled[objective] = function, known | shapes
        return function


class Trainer:
    """Trains a policy's adapter in place, one optimiser step at a time.

    Args:
        objective: the weights of the loss.
        config: batch sizes, optimiser and schedule.
        seed: of the examples' order and of dropout.
        gradients: of this policy, from an earlier phase, so that no shape is traced twice.
        reference: log-probabilities of each prompt's responses at the start of the iteration, by the prompt's id; for
            an objective with a reference.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        config: TrainConfig,
        seed: int,
        gradients: Gradients | None = None,
        reference: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.policy, self.objective, self.config, self.seed = policy, objective, config, seed
        self._reference = reference or {}
        self.optimizer = make_optimizer(config)
        self.optimizer.init(policy.model.trainable_parameters())
        self._grad_checkpoint, self._layer_seeds = config.grad_checkpoint is True, LayerSeeds()
        self._gradients = gradients or Gradients(policy)
        self._plain = self._gradients.plain(objective, FEW_LOGITS_AT_ONCE if self._grad_checkpoint else LOGITS_AT_ONCE)
        self._compiled, self._worth_compiling = self._plain, frozenset[Signature]()
        #: Log-probabilities of each prompt's responses when it was first trained on, by the prompt's id, in nats.
        self.first_logps: dict[str, list[float]] = {}

    def run(self, examples: Sequence[Example], on_step: Callable[[int, dict[str, float]], None], done: int = 0) -> None:
        """Run all steps.

        Args:
            examples: prompts with their responses, y first; all with the same number of responses.
            on_step: called after each update with the step's number, from 1, and its metrics.
            done: steps already made; adapter and optimiser state are restored.

        Raises:
            DivergedError: a loss or gradient is not finite. The adapter is as it was after the previous step.
        """
        config, model = self.config, self.policy.model
        model.train()
        try:
            with grad_checkpointed(model, self._grad_checkpoint, self._layer_seeds):
                order = list(batch_order(len(examples), config.epochs, config.batch_size, self.seed))
                self.compile_for([examples[i] for i in chosen] for chosen in order)
                for step, chosen in islice(enumerate(order, start=1), done, None):
                    metrics = self.step(step, [examples[i] for i in chosen])
                    on_step(step, {"epoch": step * config.epochs / config.steps, **metrics})
        finally:
            model.eval()

    def compile_for(self, batches: Iterable[Sequence[Example]]) -> None:
        """Compile the most frequent shapes, of those that occur more than once: MLX keeps every compiled graph.

        Other shapes run uncompiled. The choice depends on the batches alone, so that a resumed run makes the same.
        """
        if self._grad_checkpoint:  # MLX 0.32.4 loses an array when it compiles this with shared prompts
            return
        micros = (micro for batch in batches for micro in micro_batches(batch, self.config.micro_batch_size))
        shapes = Counter(self.policy.scorer.collate(micro).signature for micro in islice(micros, _LOOKED_AT))
        self._worth_compiling = frozenset(shape for shape, times in shapes.most_common(_COMPILED_SHAPES) if times > 1)
        self._compiled = self._gradients.compiled(self.objective, self._worth_compiling)

    def step(self, number: int, batch: Sequence[Example]) -> dict[str, float]:
        """Make one update and return its metrics (see :func:`tspin_mlx.method.step_metrics.step_metrics`).

        Args:
            number: of the step, from 1; decides its learning rate and its dropout.
            batch: prompts with their responses, y first.

        Raises:
            DivergedError: the loss or the gradient is not finite; nothing is updated.
        """
        started = time.perf_counter()
        self._seed(number)
        loss, grads, seen = self._accumulated(batch)
        norm = grad_norm(grads)
        check_finite(loss.item(), norm.item(), number, batch)
        config = self.config
        self.optimizer.learning_rate = learning_rate_at(
            number, config.steps, config.learning_rate, config.warmup_steps, config.schedule
        )
        if config.max_grad_norm is not None and norm.item() > config.max_grad_norm:
            factor = config.max_grad_norm / norm.item()
            grads = tree_map(lambda gradient: gradient * factor, grads)
        self.optimizer.update(self.policy.model, grads)
        mx.eval(self.policy.model.trainable_parameters(), self.optimizer.state)
        elapsed = time.perf_counter() - started
        metrics = {
            "loss": loss.item(),
            "learning_rate": self.optimizer.learning_rate.item(),
            "grad_norm": norm.item(),
            **_measured(seen, self.objective),
            **_stops(batch),
            "tokens_per_s": sum(len(x.tokens) + len(r.tokens) for x, rs in batch for r in rs) / elapsed,
            "elapsed_s": elapsed,
            "memory/peak_bytes": mx.get_peak_memory(),
            "memory/active_bytes": mx.get_active_memory(),
        }
        return {name: significant(value) for name, value in metrics.items()}

    def peak_bytes(self, batch: Sequence[Example]) -> int:
        """Measure the peak memory of a batch's gradients in bytes, beyond the memory in use; updates nothing."""
        gc.collect()  # memory freed meanwhile would be subtracted
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        self.policy.model.train()  # in eval mode some models use kernels without a gradient
        try:
            with grad_checkpointed(self.policy.model, self._grad_checkpoint):
                self._accumulated(batch)
        finally:
            self.policy.model.eval()
        return int(mx.get_peak_memory() - before)

    def optimizer_state(self) -> dict[str, mx.array]:
        """Return the optimiser's state, by name."""
        return dict(tree_flatten(self.optimizer.state))

    def restore_optimizer(self, tensors: dict[str, mx.array]) -> None:
        """Restore a state returned by :meth:`optimizer_state`.

        Raises:
            SetupError: not a state of this optimiser for this adapter.
        """
        if wrong := differing(self.optimizer_state(), tensors):
            raise SetupError(f"not this run's optimiser state: {len(wrong)} tensors differ, such as {wrong[0]}")
        self.optimizer.state = tree_map_with_path(lambda name, _: tensors[name], self.optimizer.state)

    def _seed(self, number: int) -> None:
        """Seed dropout, the only randomness of a step, by the step's number."""
        mx.random.seed(seed := derive(self.seed, "step", number))
        self._layer_seeds.begin(seed)

    def _accumulated(self, batch: Sequence[Example]) -> tuple[mx.array, Any, list[Seen]]:
        """Compute loss and gradients of a whole batch, accumulated over its micro-batches."""
        counts = batch_counts(batch)
        loss, grads, seen = mx.array(0.0), None, []
        for chosen in micro_batches(batch, self.config.micro_batch_size):
            micro = self.policy.scorer.collate(chosen)
            gradients = self._compiled if micro.signature in self._worth_compiling else self._plain
            reference = self._reference_of(chosen)
            (share, logps, entropies), share_grads = gradients(as_arrays(micro), mx.array(reference), counts)
            loss = loss + share
            grads = share_grads if grads is None else tree_map(mx.add, grads, share_grads)
            mx.eval(loss, grads, logps, entropies)
            seen.append((micro, np.array(logps), np.array(entropies), reference))
            for (prompt, _), own_logps in zip(chosen, np.array(logps).T, strict=True):
                self.first_logps.setdefault(prompt.id, own_logps.tolist())
        return loss, grads, seen

    def _reference_of(self, examples: Sequence[Example]) -> np.ndarray:
        """Return the reference log-probabilities, (k, n) float32; zeros if the objective has no reference."""
        nothing = [0.0] * len(examples[0][1])
        return np.array([self._reference.get(prompt.id, nothing) for prompt, _ in examples], np.float32).T


def make_optimizer(config: TrainConfig) -> optim.Optimizer:
    """Create an optimiser; its learning rate is set before each step."""
    options: dict[str, Any] = {}
    if config.optimizer in ("adam", "adamw"):
        options["bias_correction"] = True
    if config.optimizer in ("adamw", "lion"):
        options["weight_decay"] = config.weight_decay
    return OPTIMIZERS[config.optimizer](learning_rate=config.learning_rate, **options)


def batch_counts(batch: Sequence[Example]) -> mx.array:
    """Count triplets, tokens of y, and tokens of all responses in a whole batch, (3,) float32.

    The losses of its micro-batches are divided by them, so that accumulation is exact.
    """
    annotated_tokens = sum(len(responses[0].tokens) for _, responses in batch)
    scored_tokens = sum(len(response.tokens) for _, responses in batch for response in responses)
    return mx.array([len(batch), annotated_tokens, scored_tokens], mx.float32)


def grad_norm(grads: Any) -> mx.array:
    """Compute the Euclidean norm of all gradients together, scalar float32."""
    squares = [gradient.astype(mx.float32).square().sum() for _, gradient in tree_flatten(grads)]
    return mx.sqrt(mx.stack(squares).sum())


def check_finite(loss: float, norm: float, step: int, batch: Sequence[Example]) -> None:
    """Check that loss and gradient norm are finite, before an update.

    Raises:
        DivergedError: one is not; the message names the step and its examples.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    names = ", ".join(prompt.id for prompt, _ in batch)
    what = "loss" if not math.isfinite(loss) else "gradient"
    raise DivergedError(
        f"step {step}: the {what} is not finite (examples: {names}); no update was made",
        hint="try a smaller training.learning_rate, or model.dtype=float32",
    )


def _stops(batch: Sequence[Example]) -> dict[str, float]:
    """Compute the share of the y' that ended by themselves, if there are any."""
    own = [responses[1] for _, responses in batch if len(responses) > 1]
    return {"stops/rejected": sum(y.finish_reason == "stop" for y in own) / len(own)} if own else {}


def _measured(seen: list[Seen], objective: Objective) -> dict[str, float]:
    lengths = np.concatenate([micro.lengths for micro, *_ in seen], axis=1)
    logps, entropies, reference = (np.concatenate([micro[i] for micro in seen], axis=1) for i in (1, 2, 3))
    return step_metrics(logps, entropies, lengths, objective.alpha, reference)

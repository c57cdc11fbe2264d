"""Chat with the policies of a run: one loaded model, switching adapters and KV caches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import mlx.core as mx

from ..base.errors import UsageError
from ..base.seeds import derive
from ..data.tokenize import BadExample, render_prompt, takes_conversations
from ..models.adapters import set_adapter
from ..models.of_run import load_run
from ..runs.policies import find_policy, policies
from ..runs.run import Run
from .batch import Decoding
from .stream import Piece, PromptCache, stream

Message = dict[str, str]


class ChatSession:
    """A run's model, ready to answer as any of the run's policies.

    Args:
        trusted: whether the model's own Python code may run.

    Attributes:
        system: the system prompt of training: the recipe's, or the one that all training examples share.
        multi_turn: whether the recipe's template supports conversations; if not, each prompt is independent.
        max_tokens: longest answer in the recipe's evaluation, in tokens.

    Raises:
        SetupError, HubError: the model cannot be loaded.
    """

    def __init__(self, run: Run, *, trusted: bool = False) -> None:
        self.run = run
        self._recipe = run.recipe()
        self.system = self._recipe.data.system or run.system_prompt()
        self.multi_turn = takes_conversations(self._recipe.data.template)
        self.max_tokens = self._recipe.answer_tokens
        self._policy = load_run(run, self._recipe, trusted=trusted)
        self._adapters: dict[str, dict[str, mx.array]] = {}
        self._caches: dict[str, PromptCache] = defaultdict(PromptCache)

    @property
    def names(self) -> list[str]:
        """The policies that exist so far."""
        return list(policies(self.run))

    def answer(
        self,
        messages: Sequence[Message],
        policy: str,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> Iterator[Piece]:
        """Stream one policy's answer; consume or drop the iterator before asking for the next answer.

        Args:
            messages: ``role`` and ``content`` of each turn, including the user's last one; rendered as in training.
            policy: see :func:`tspin_mlx.runs.policies.find_policy`.
            temperature: 0 is greedy.
            max_tokens: None is the recipe's; limited by the model's context length.
            seed: the same seed gives the same answer to the same conversation.

        Raises:
            UsageError: no such policy, or the conversation does not fit the template or the model's context length.
        """
        try:
            prompt = render_prompt(messages, self._policy.tokenizer, self._recipe.data.template)
        except BadExample as error:
            raise UsageError(f"the prompt cannot be rendered: {error}") from None
        longest = self._fitting(len(prompt), max_tokens or self.max_tokens)
        decoding = Decoding(temperature=temperature, top_p=1, max_tokens=longest, batch_size=1)
        folder = find_policy(self.run, policy)
        self._use(folder)
        sampler_seed = derive(seed, "chat", len(messages)) if temperature else None
        return stream(self._policy, prompt, decoding, sampler_seed, self._caches[folder])

    def _fitting(self, prompt: int, wanted: int) -> int:
        """Limit the number of new tokens to the model's context length."""
        window = self._policy.window
        if window is None:
            return wanted
        if prompt >= window:
            raise UsageError(
                f"the conversation has {prompt} tokens, but the model's context length is {window}",
                hint="start a new one (/reset; ctrl+n in the app)",
            )
        return min(wanted, window - prompt)

    def _use(self, folder: str) -> None:
        """Switch to the adapter in ``folder``; it is read once and kept in memory."""
        if folder in self._adapters:
            self._policy.model.load_weights(list(self._adapters[folder].items()), strict=False)
        else:
            set_adapter(self._policy, self.run.path / folder / "adapter")
            self._adapters[folder] = self._policy.adapter()

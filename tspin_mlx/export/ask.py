"""Build the example prompt of usage instructions: rendered as in training, with system prompt and length."""

from __future__ import annotations

from pathlib import Path

from ..base.text import printable, shorten
from ..data.tokenize import prompt_text, takes_conversations
from ..models.folder import chat_template, read_json
from ..models.rope import UNKNOWN_ROPE, rope_settings
from ..runs.run import Run
from .usage import Ask

#: Characters of a prompt to show.
_SHOWN = 200

_ROPE = "mlx-lm does not read this model's RoPE settings, which the adapter needs: to use it there, fuse it."


def first_ask(run: Run, model: Path, adapter: Path) -> Ask:
    """Return the first validation prompt, shortened.

    Args:
        model: the folder of the run's model.
        adapter: the folder of the policy's adapter.
    """
    prompt = run.prompts().validation[0]
    return ask(run, model, adapter, shorten(prompt.text, _SHOWN), prompt.system)


def ask(run: Run, model: Path, adapter: Path, prompt: str, system: str | None) -> Ask:
    """Return a prompt of one turn; works also for runs whose recipe this version does not understand.

    Args:
        model: the folder of the run's model.
        adapter: the folder of the policy's adapter.
        system: the system prompt, if there is one.
    """
    settings = run.outline.settings
    template: str = settings["data.template"]
    longest = settings.get("evaluation.max_tokens") or settings["generation.max_tokens"]
    unknown_rope = read_json(adapter, "adapter_config.json").get("base", {}).get(UNKNOWN_ROPE)
    if unknown_rope is None and (model / "config.json").is_file():  # an adapter of an earlier version
        unknown_rope = bool(rope_settings(read_json(model)))
    remark = _ROPE if unknown_rope else ""
    system = printable(system, keep_newlines=True) if system else None
    if takes_conversations(template):
        return Ask(prompt, system, longest, thinks="enable_thinking" in (chat_template(model) or ""), remark=remark)
    turns = [{"role": "system", "content": system}] if system else []
    text = prompt_text([*turns, {"role": "user", "content": prompt}], None, template)
    return Ask(text, system, longest, chat=False, remark=remark)

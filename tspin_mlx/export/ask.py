"""How to ask a policy of a run what it was trained to answer, in other programs."""

from __future__ import annotations

from pathlib import Path

from ..base.text import printable, shorten
from ..data.tokenize import prompt_text, takes_conversations
from ..models.folder import chat_template, read_json
from ..models.rope import UNKNOWN_ROPE, rope_settings
from ..runs.run import Run
from .usage import Ask

#: Of a prompt so many characters are shown.
_SHOWN = 200

_ROTARY = "mlx-lm does not find this model's rotary settings, without which the adapter does not fit: fuse it for that."


def first_ask(run: Run, model: Path, adapter: Path) -> Ask:
    """The first validation prompt, shortened.

    Args:
        model: the folder of the run's model.
        adapter: of the policy that is asked.
    """
    prompt = run.prompts().validation[0]
    return ask(run, model, adapter, shorten(prompt.text, _SHOWN), prompt.system)


def ask(run: Run, model: Path, adapter: Path, prompt: str, system: str | None) -> Ask:
    """A prompt of one turn. Also of a run whose recipe this version would not understand.

    Args:
        model: the folder of the run's model.
        adapter: of the policy that is asked.
        system: the system prompt, if there is one.
    """
    settings = run.outline.settings
    template: str = settings["data.template"]
    longest = settings.get("evaluation.max_tokens") or settings["generation.max_tokens"]
    known = read_json(adapter, "adapter_config.json").get("base", {}).get(UNKNOWN_ROPE)
    if known is None and (model / "config.json").is_file():  # an adapter of an earlier version
        known = bool(rope_settings(read_json(model)))
    remark = _ROTARY if known else ""
    system = printable(system, keep_newlines=True) if system else None
    if takes_conversations(template):
        return Ask(prompt, system, longest, thinks="enable_thinking" in (chat_template(model) or ""), remark=remark)
    turns = [{"role": "system", "content": system}] if system else []
    text = prompt_text([*turns, {"role": "user", "content": prompt}], None, template)
    return Ask(text, system, longest, chat=False, remark=remark)

"""How to ask a policy of a run what it was trained to answer, in other programs."""

from __future__ import annotations

from pathlib import Path

from ..chat import prompt_text, takes_conversations
from ..model_folder import chat_template
from ..recipe import Recipe
from ..runs.directory import Run
from ..text import printable, shorten
from .usage import Ask

#: Of a prompt so many characters are shown.
_SHOWN = 200


def first_ask(run: Run, recipe: Recipe) -> Ask:
    """The first validation prompt, shortened.

    Args:
        recipe: the run's, ``run.recipe()``.
    """
    prompt = run.prompts().validation[0]
    return ask(run, recipe, shorten(prompt.text, _SHOWN), prompt.system)


def ask(run: Run, recipe: Recipe, prompt: str, system: str | None) -> Ask:
    """A prompt of one turn.

    Args:
        recipe: the run's, ``run.recipe()``.
        system: the system prompt, if there is one.
    """
    system = printable(system, keep_newlines=True) if system else None
    template, longest = recipe.data.template, recipe.answer_tokens
    if takes_conversations(template):
        thinks = "thinking" in (chat_template(Path(run.about["model"]["path"])) or "")
        return Ask(prompt, system, longest, thinks=thinks)
    turns = [{"role": "system", "content": system}] if system else []
    text = prompt_text([*turns, {"role": "user", "content": prompt}], None, template)
    return Ask(text, None, longest, chat=False)

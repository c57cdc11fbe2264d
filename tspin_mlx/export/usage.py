"""How to use what was exported, in each program that loads it: the same words in the terminal and in the card. Pure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

_UNTRIED = "(From {}'s documentation; not tried with this model.)"


@dataclass(frozen=True)
class Way:
    """One program, and what to type or write there.

    Attributes:
        program: its name.
        language: of the text, ``sh`` or ``python``.
        text: the commands or the code.
        remark: one sentence on when it holds; may be empty.
    """

    program: str
    language: str
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Example:
    """What to ask.

    Attributes:
        prompt: the user's turn.
        system: the system prompt that the training data had, if any.
    """

    prompt: str
    system: str | None


def mlx_adapter(model: str, adapter: str, ask: Example, fetch: str | None = None) -> Way:
    """mlx-lm with the adapter.

    Args:
        model: a Hub id or a folder.
        adapter: the adapter's folder.
        fetch: a repository to fetch it from first.
    """
    lines = [f"hf download {fetch} --local-dir {adapter}"] if fetch else []
    generate = ["mlx_lm.generate", "--model", model, "--adapter-path", adapter]
    return Way("MLX", "sh", "\n".join([*lines, shlex.join([*generate, *_asked(ask)])]))


def mlx_model(model: str, ask: Example) -> Way:
    """mlx-lm with a whole model."""
    return Way("MLX", "sh", shlex.join(["mlx_lm.generate", "--model", model, *_asked(ask)]))


def peft(base: str, adapter: str, ask: Example) -> Way:
    """transformers with PEFT."""
    text = f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = {json.dumps(base)}, {json.dumps(adapter)}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)

{_transformers_call(ask)}"""
    return Way("transformers with PEFT", "python", text)


def transformers_model(model: str, ask: Example) -> Way:
    """transformers with a whole model."""
    text = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

name = {json.dumps(model)}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)

{_transformers_call(ask)}"""
    return Way("transformers", "python", text)


def vllm_adapter(base: str, adapter: str, rank: int) -> Way:
    """vLLM, which serves the base model and the adapter beside it."""
    fitting = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)
    text = f"vllm serve {base} --enable-lora --lora-modules tuned={adapter} --max-lora-rank {fitting}"
    return Way("vLLM", "sh", text, f"Ask for the model `tuned`. {_UNTRIED.format('vLLM')}")


def vllm_model(model: str) -> Way:
    """vLLM with a whole model."""
    return Way("vLLM", "sh", f"vllm serve {model}", _UNTRIED.format("vLLM"))


def ollama_adapter(base: str, repo: str) -> Way:
    """Ollama, which puts the adapter on a base model that it has."""
    name = repo.split("/")[-1]
    text = f"""\
hf download {repo} --local-dir {name}
printf 'FROM the-base-model\\nADAPTER ./{name}\\n' > Modelfile
ollama create {name.lower()}"""
    remark = f"`the-base-model` is Ollama's name of {base}; Llama, Mistral and Gemma models only."
    return Way("Ollama", "sh", text, f"{remark} {_UNTRIED.format('Ollama')}")


def ollama_model(repo: str) -> Way:
    """Ollama with a whole model."""
    name = repo.split("/")[-1]
    text = f"""\
hf download {repo} --local-dir {name}
printf 'FROM ./{name}\\n' > Modelfile
ollama create {name.lower()}"""
    return Way("Ollama", "sh", text, f"Llama, Mistral, Gemma and Phi-3 models only. {_UNTRIED.format('Ollama')}")


def ollama_gguf(folder: str, name: str) -> Way:
    """Ollama with a GGUF file, by the Modelfile beside it."""
    return Way("Ollama", "sh", f"ollama create {name} -f {shlex.quote(folder)}/Modelfile\nollama run {name}")


def _asked(ask: Example) -> list[str]:
    system = ["--system-prompt", ask.system] if ask.system else []
    return [*system, "--prompt", ask.prompt]


def _transformers_call(ask: Example) -> str:
    turns = [("system", ask.system)] if ask.system else []
    rows = [{"role": role, "content": content} for role, content in [*turns, ("user", ask.prompt)]]
    messages = "".join(f"    {json.dumps(row, ensure_ascii=False)},\n" for row in rows)
    return f"""\
messages = [
{messages}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=256, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""

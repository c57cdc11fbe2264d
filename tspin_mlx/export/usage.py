"""Usage instructions for exports (mlx-lm, transformers, PEFT, vLLM, Ollama), for the terminal and the card. Pure."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

_UNTRIED = "(From {}'s documentation; not tried with this model.)"


@dataclass(frozen=True)
class Way:
    """Usage instructions for one program.

    Attributes:
        program: its name.
        language: of the text, ``sh`` or ``python``.
        text: the commands or the code.
        remark: a sentence on limitations; may be empty.
    """

    program: str
    language: str
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Ask:
    """An example prompt, so that each program renders it as training did.

    Attributes:
        prompt: the user's turn; without a chat template, the whole text before the answer.
        system: the system prompt of the training data, if any; without a chat template it is part of the prompt.
        max_tokens: longest answer, in tokens.
        chat: whether the model's chat template renders it.
        thinks: whether that template has a switch for thinking, which is off in training.
        remark: a limitation of mlx-lm with the adapter; may be empty.
    """

    prompt: str
    system: str | None
    max_tokens: int
    chat: bool = True
    thinks: bool = False
    remark: str = ""


def mlx_adapter(model: str, adapter: str, ask: Ask, fetch: str | None = None, generate: str = "mlx_lm.generate") -> Way:
    """Return the usage of mlx-lm with the adapter.

    Args:
        model: a Hub id or a folder.
        adapter: the adapter's folder.
        fetch: a repository to download it from first.
        generate: the command of mlx-lm.
    """
    lines = [f"hf download {fetch} --local-dir {adapter}"] if fetch else []
    words = ["--model", model, "--adapter-path", adapter, *_asked(ask)]
    return Way("MLX", "sh", "\n".join([*lines, f"{generate} {shlex.join(words)}"]), ask.remark)


def mlx_model(model: str, ask: Ask) -> Way:
    """Return the usage of mlx-lm with a whole model."""
    return Way("MLX", "sh", shlex.join(["mlx_lm.generate", "--model", model, *_asked(ask)]))


def peft(base: str, adapter: str, ask: Ask) -> Way:
    """Return the usage of transformers with PEFT."""
    text = f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = {json.dumps(base)}, {json.dumps(adapter)}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)

{_transformers_call(ask)}"""
    return Way("transformers with PEFT", "python", text)


def transformers_model(model: str, ask: Ask) -> Way:
    """Return the usage of transformers with a whole model."""
    text = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

name = {json.dumps(model)}
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)

{_transformers_call(ask)}"""
    return Way("transformers", "python", text)


def vllm_adapter(base: str, adapter: str, rank: int) -> Way:
    """Return the usage of vLLM, which serves the base model together with the adapter."""
    fitting = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)
    text = f"vllm serve {base} --enable-lora --lora-modules tuned={adapter} --max-lora-rank {fitting}"
    return Way("vLLM", "sh", text, f"Ask for the model `tuned`. {_UNTRIED.format('vLLM')}")


def vllm_model(model: str) -> Way:
    """Return the usage of vLLM with a whole model."""
    return Way("vLLM", "sh", f"vllm serve {model}", _UNTRIED.format("vLLM"))


def ollama_adapter(base: str, repo: str) -> Way:
    """Return the usage of Ollama, which adds the adapter to a base model of its own."""
    name = repo.split("/")[-1]
    text = f"""\
hf download {repo} --local-dir {name}
printf 'FROM the-base-model\\nADAPTER ./{name}\\n' > Modelfile
ollama create {name.lower()}"""
    remark = f"`the-base-model` is Ollama's name of {base}; Llama, Mistral and Gemma models only."
    return Way("Ollama", "sh", text, f"{remark} {_UNTRIED.format('Ollama')}")


def ollama_model(repo: str) -> Way:
    """Return the usage of Ollama with a whole model."""
    name = repo.split("/")[-1]
    text = f"""\
hf download {repo} --local-dir {name}
printf 'FROM ./{name}\\n' > Modelfile
ollama create {name.lower()}"""
    return Way("Ollama", "sh", text, f"Llama, Mistral, Gemma and Phi-3 models only. {_UNTRIED.format('Ollama')}")


def ollama_gguf(folder: str, name: str) -> Way:
    """Return the usage of Ollama with a GGUF file, by the Modelfile next to it."""
    return Way("Ollama", "sh", f"ollama create {name} -f {shlex.quote(folder)}/Modelfile\nollama run {name}")


def _asked(ask: Ask) -> list[str]:
    words = ["--system-prompt", ask.system] if ask.system and ask.chat else []
    words += ["--prompt", ask.prompt, "--max-tokens", str(ask.max_tokens)]
    if not ask.chat:
        words += ["--ignore-chat-template"]
    if ask.thinks:
        words += ["--chat-template-config", json.dumps({"enable_thinking": False})]
    return words


def _transformers_call(ask: Ask) -> str:
    return f"""\
{_tokenized(ask)}
answer = model.generate(**inputs, max_new_tokens={ask.max_tokens}, do_sample=False)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _tokenized(ask: Ask) -> str:
    if not ask.chat:
        return f'inputs = tokenizer({json.dumps(ask.prompt, ensure_ascii=False)}, return_tensors="pt")'
    turns = [("system", ask.system)] if ask.system else []
    rows = [{"role": role, "content": content} for role, content in [*turns, ("user", ask.prompt)]]
    messages = "".join(f"    {json.dumps(row, ensure_ascii=False)},\n" for row in rows)
    how = 'add_generation_prompt=True, return_tensors="pt", return_dict=True'
    if ask.thinks:
        how += ", enable_thinking=False"
    return f"messages = [\n{messages}]\ninputs = tokenizer.apply_chat_template(messages, {how})"

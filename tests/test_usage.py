"""The commands that are printed and published ask a model in the words, and in the form, that it was trained on."""

import json
import re
import shlex
import shutil
from types import SimpleNamespace

import pytest
from mlx_lm.generate import setup_arg_parser
from mlx_lm.tokenizer_utils import load as load_tokenizer

from tspin_mlx.chat import Example, render
from tspin_mlx.export.ask import ask
from tspin_mlx.export.usage import mlx_model, transformers_model
from tspin_mlx.recipe_text import parse_recipe

THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{{ '<think></think>' if m.role == 'assistant' }}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}"
)


def asked_by_mlx_lm(words, tokenizer):
    """The token ids that ``mlx_lm.generate`` would begin with."""
    args = setup_arg_parser().parse_args(words)
    if args.ignore_chat_template:
        return tokenizer.encode(args.prompt, add_special_tokens=True)
    system = [{"role": "system", "content": args.system_prompt}] if args.system_prompt else []
    return tokenizer.encode(
        tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": args.prompt}],
            tokenize=False,
            add_generation_prompt=True,
            **{"enable_thinking": True, **json.loads(args.chat_template_config or "{}")},  # for a thinking tokenizer
        ),
        add_special_tokens=False,
    )


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.mark.parametrize("template", ["chat", "thinking", "paper", "Q: {prompt} ({system})\nA:"])
@pytest.mark.parametrize(
    "system", [None, "Reply with JSON,\nand with nothing else: " + "it is read by a machine. " * 4]
)
def test_mlx_lm_is_asked_what_was_trained(model, template, system):
    if template == "thinking":
        (model / "chat_template.jinja").write_text(THINKING)
    if system and template == "paper":
        pytest.skip("the paper's template has no place for it")
    overrides = [f"data.template={json.dumps(template)}"] if template != "thinking" else []
    recipe = parse_recipe("data: {train: t.jsonl}\nevaluation: {max_tokens: 300}", "r.yaml", overrides)
    tokenizer = load_tokenizer(model)
    turns = [{"role": "system", "content": system}] if system else []
    example = Example((*turns, {"role": "user", "content": "two lamps"}), "[2]", "[2]")
    trained = list(render(example, "1", tokenizer, recipe.data, 300).tokens)
    made = ask(SimpleNamespace(about={"model": {"path": str(model)}}), recipe, "two lamps", system)
    program, *words = shlex.split(mlx_model("org/m", made).text)
    assert program == "mlx_lm.generate"
    assert asked_by_mlx_lm(words, tokenizer) == trained
    assert setup_arg_parser().parse_args(words).max_tokens == 300


def test_transformers_is_told_of_thinking_and_of_other_templates(model):
    recipe = parse_recipe("data: {train: t.jsonl}", "r.yaml")
    run = SimpleNamespace(about={"model": {"path": str(model)}})
    plain = transformers_model("org/m", ask(run, recipe, "two lamps", None)).text
    assert "enable_thinking" not in plain and "max_new_tokens=256" in plain
    (model / "chat_template.jinja").write_text(THINKING)
    assert "return_dict=True, enable_thinking=False)" in transformers_model("org/m", ask(run, recipe, "x", None)).text
    paper = parse_recipe("data: {train: t.jsonl, template: paper}", "r.yaml")
    text = transformers_model("org/m", ask(run, paper, "two lamps", None)).text
    assert re.search(r'tokenizer\("### Instruction: two lamps\\n\\n### Response: ", return_tensors="pt"\)', text)
    compile(text, "usage", "exec")

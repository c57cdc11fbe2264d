"""The commands that are printed and published ask a model in the words, and in the form, that it was trained on."""

import json
import re
import shlex
import shutil
from types import SimpleNamespace

import pytest
from mlx_lm.generate import setup_arg_parser
from mlx_lm.tokenizer_utils import load as load_tokenizer

from tspin_mlx.base.errors import UsageError
from tspin_mlx.cli.result import print_result
from tspin_mlx.data.tokenize import RawExample, render
from tspin_mlx.export.ask import ask
from tspin_mlx.export.usage import mlx_adapter, mlx_model, transformers_model
from tspin_mlx.models.rope import UNKNOWN_ROPE
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.runs.run import Run

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
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"base": {}}')  # of an adapter in the same folder
    return folder


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
    run = SimpleNamespace(outline=SimpleNamespace(settings=recipe.settings))
    tokenizer = load_tokenizer(model)
    turns = [{"role": "system", "content": system}] if system else []
    example = RawExample((*turns, {"role": "user", "content": "two lamps"}), "[2]", "[2]")
    trained = list(render(example, "1", tokenizer, recipe.data, 300).tokens)
    made = ask(run, model, model, "two lamps", system)
    program, *words = shlex.split(mlx_model("org/m", made).text)
    assert program == "mlx_lm.generate"
    assert asked_by_mlx_lm(words, tokenizer) == trained
    assert setup_arg_parser().parse_args(words).max_tokens == 300


def test_transformers_code_covers_thinking_and_other_templates(model):
    def asked(template="chat"):
        recipe = parse_recipe(f"data: {{train: t.jsonl, template: {template}}}", "r.yaml")
        return ask(SimpleNamespace(outline=SimpleNamespace(settings=recipe.settings)), model, model, "two lamps", None)

    plain = transformers_model("org/m", asked()).text
    assert "enable_thinking" not in plain and "max_new_tokens=256" in plain
    (model / "chat_template.jinja").write_text(THINKING)
    assert "return_dict=True, enable_thinking=False)" in transformers_model("org/m", asked()).text
    text = transformers_model("org/m", asked("paper")).text
    assert re.search(r'tokenizer\("### Instruction: two lamps\\n\\n### Response: ", return_tensors="pt"\)', text)
    compile(text, "usage", "exec")


def test_a_remark_says_that_mlx_lm_misses_the_rotary_settings(model):
    recipe = parse_recipe("data: {train: t.jsonl}", "r.yaml")
    run = SimpleNamespace(outline=SimpleNamespace(settings=recipe.settings))
    assert mlx_adapter("org/m", "a", ask(run, model, model, "x", None)).remark == ""
    config = json.loads((model / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    (model / "config.json").write_text(json.dumps(config))
    for base, remarked in (({}, True), ({UNKNOWN_ROPE: True}, True), ({UNKNOWN_ROPE: False}, False)):
        (model / "adapter_config.json").write_text(json.dumps({"base": base}))
        assert ("fuse" in mlx_adapter("org/m", "a", ask(run, model, model, "x", None)).remark) == remarked


def test_next_steps_are_printed_for_runs_whose_recipe_is_not_understood(small_run, monkeypatch, capsys):
    def refuse(run):
        raise UsageError("the recipe has keys that this version does not know")

    monkeypatch.setattr(Run, "recipe", refuse)
    monkeypatch.setattr(Run, "replan", refuse)
    print_result(Run(small_run), 1)
    said = capsys.readouterr().out
    assert "Next:" in said and f"--adapter-path {small_run}/best" in said and "--max-tokens 12" in said

"""Shared fixtures: a tiny random llama with a byte tokenizer, as a model folder on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MLX_ENABLE_TF32", "0")  # where a GPU has it, float32 would not be float32

import tspin_mlx  # noqa: F401  before any test imports MLX: on a Linux CPU it loads OpenBLAS, which has to come first

# No property fails because the machine is busy.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory):
    """The keys and colours of whoever runs the tests change none of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patched.delenv("NO_COLOR", raising=False)
        yield


CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two layers whose tokens are bytes; loads with mlx-lm like any other model."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_model(folder)
    return folder


def save_tiny_model(folder: Path, *, tied: bool = True, head_dim: int = 8) -> None:
    """Write config, weights and tokenizer of a tiny llama."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
        "vocab_size": len(vocab),
        "tie_word_embeddings": tied,
        "eos_token_id": 1,
    }
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(config))
    # Larger weights than the default ones, so that the policy has opinions to differ by.
    weights = {name: value * 2 if value.ndim > 1 else value for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def same_as_kept():
    """Compares a text with a file in tests/snapshots; with UPDATE_SNAPSHOTS=1 the file is written instead."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "snapshots" / name
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} looks different; UPDATE_SNAPSHOTS=1 accepts it"

    return compare


SMALL_RECIPE = """
description: a small task
model: {model}
lora: {{rank: 4, layers: 1}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
generation: {{max_tokens: 12, batch_size: 4}}
objective: {{alpha: 0.5, nll_weight: 1}}
warmup: {{epochs: 1, learning_rate: 0.01}}
training: {{iterations: 2, epochs: 1, batch_size: 4, learning_rate: 0.01}}
evaluation: {{metrics: [exact_match], best: nll, samples: 1}}
run: {{folder: {folder}, name: small}}
"""


def make_small_run(model: Path, folder: Path, *overrides: str) -> Path:
    """A finished run of a few steps on a tiny model; its path."""
    from tspin_mlx.engine.worker import work

    run = prepare_small_run(model, folder, *overrides)
    work(run)
    return run.path


def prepare_small_run(model: Path, folder: Path, *overrides: str):
    """The same run before anybody has worked on it."""
    from tspin_mlx.jobs.launch import prepare
    from tspin_mlx.recipe.catalog import find_recipe, parse_source

    for name, count in (("train", 8), ("validation", 4), ("test", 3)):
        rows = [{"prompt": f"{name} {i}", "response": f"[{i}]", "system": "Be brief."} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(SMALL_RECIPE.format(model=model, folder=folder / "runs"))
    source = find_recipe(str(folder / "task.yaml"))
    return prepare(parse_source(source, list(overrides)), source).run


@pytest.fixture(scope="session")
def small_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny llama. Whoever writes into it works on a copy."""
    return make_small_run(tiny_model, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with adapters on all layers and a second metric; not to be changed."""
    changes = ["lora.layers=0", "evaluation.metrics=[exact_match, json_valid]", "objective.nll_weight=0.5"]
    return make_small_run(tiny_model, tmp_path_factory.mktemp("tiny"), *changes, "training.learning_rate=0.02")


#: What a terminal would obey, what Textual would take for markup, and text that turns itself around.
HOSTILE = "\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\ [/foo] [@click=app.quit]x[/] \u202eabc\x9b2J"


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes runs as the engine leaves them, without any model: ``make_run(name, until=..., hostile=...)``."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "waves", **options):
        return _fake_run(tmp_path / "runs" / name, **options)

    return make


@pytest.fixture
def done(make_run):
    """A finished run."""
    return make_run("done")


@pytest.fixture
def working(make_run):
    """A run in the middle of training, on which somebody works."""
    from tspin_mlx.runs.lock import RunLock

    run = make_run("working", until="iterations/001/adapter")
    lock = RunLock.acquire(run.path)
    yield run
    lock.close()


def _fake_run(path: Path, *, until: str | None = None, steps: int = 12, hostile: bool = False, overrides=()):
    """A run whose phases are done before the one with the target ``until``; all, if it is None.

    The event log tells of everything, with times of its own; of the phase ``until`` it tells the first half.
    """
    from tspin_mlx.data.read import Splits
    from tspin_mlx.method.triplets import Prompt, Response
    from tspin_mlx.recipe.parse import parse_recipe
    from tspin_mlx.recipe.phase import TrainPhase
    from tspin_mlx.recipe.plan import make_plan
    from tspin_mlx.runs.create import create_run, data_digests

    evil = HOSTILE if hostile else ""

    def example(split: str, i: int) -> Prompt:
        answer = Response((3, 4, 1), f'{{"action": "{split} {i}"}}{evil}')
        return Prompt(f"{split}-{i}", (1, 2), f"please do {split} number {i}{evil}", answer, answer.text, "Reply.")

    parts = {name: tuple(example(name, i) for i in range(count)) for name, count in (("train", 8), ("validation", 3))}
    prompts = Splits(parts["train"], parts["validation"], ())
    (path.parent.parent / "train.jsonl").write_text('{"prompt": "say yes", "response": "yes"}\n' * 5)
    text = (
        f"description: waves\nmodel: tiny\ndata: {{train: {path.parent.parent / 'train.jsonl'}, validation_size: 1}}\n"
        "warmup: {epochs: 1}\ntraining: {iterations: 2, batch_size: 4}\nevaluation: {metrics: [json_valid]}\n"
    )
    recipe_file = path.parent.parent / "waves.yaml"
    recipe_file.write_text(text)
    recipe = parse_recipe(text, "waves.yaml", [*overrides, f"run.name={path.name}"])
    plan = make_plan(recipe, prompts.counts, "m", data_digests(prompts))
    model = {"name": f"tiny{evil}", "path": "/m", "fingerprint": "m"}
    path.parent.mkdir(exist_ok=True)
    run = create_run(path, plan, text, model, prompts, None, recipe_file)
    events = _Events(path / "events.jsonl", evil)
    events.tell("run_started", name=path.name, phases=len(plan.phases), phases_done=0, steps=plan.steps, counts={})
    events.tell("machine", device=f"M9{evil}", memory_bytes=16 << 30)
    for phase in plan.phases:
        events.tell("phase_started", phase=phase.target, title=phase.title, iteration=phase.iteration)
        if phase.target == until:
            if isinstance(phase, TrainPhase):
                events.steps(phase, steps, steps // 2)
            return run
        events.do(run, phase, steps)
        events.tell("phase_finished", phase=phase.target, elapsed_s=5.0)
    events.tell("run_finished", elapsed_s=90.0)
    return run


class _Events:
    """Writes an event log and the results it tells of, with a clock of its own."""

    def __init__(self, path: Path, evil: str) -> None:
        self.path, self.evil, self.time, self.number = path, evil, 1_700_000_000.0, 0

    def tell(self, kind: str, **fields) -> None:
        self.time += 1.0
        with self.path.open("a") as file:
            file.write(json.dumps({"time": self.time, "kind": kind, **fields}) + "\n")

    def do(self, run, phase, steps: int) -> None:
        from tspin_mlx.recipe.phase import TrainPhase

        texts = {row["id"]: row for row in run.store.read_jsonl("prompts.jsonl")}
        answer = {"tokens": [5, 1], "text": f"answer of {phase.policy}{self.evil}", "finish_reason": "stop", "seed": 1}
        if isinstance(phase, TrainPhase):
            self.steps(phase, steps, steps)
        if phase.kind in ("keep", "warmup", "train"):
            with run.store.new_folder(phase.target) as folder:
                (folder / "adapters.safetensors").write_bytes(b"0" * 1000)
        elif phase.kind == "generate":
            self.tell("progress", phase=phase.target, done=8, total=8, tokens_per_s=90.0)
            measures = {"stop_rate": 0.75, "truncated": 0.25, "identical": 0.125, "tokens_per_s": 90.0}
            self.tell("generated", phase=phase.target, iteration=phase.iteration,
                      **{f"generate/{name}": value for name, value in measures.items()})  # fmt: skip
            with run.store.new_folder(phase.target) as folder:
                (folder / "shard-0000.jsonl").write_text("{}\n")
        elif phase.kind == "pair":
            rows = [{"prompt": {k: v for k, v in row.items() if k != "split"}, "synthetic": answer,
                     "proto_synthetic": answer if phase.iteration else None}
                    for row in texts.values() if row["split"] == "train"]  # fmt: skip
            run.store.write_jsonl(phase.target, rows)
        elif phase.kind == "evaluate":
            metrics = {
                "nll": 2.0 - 0.25 * self.number,
                "stop_rate": 0.5,
                "length": 3.0,
                "json_valid": 0.25 * self.number,
            }
            logps = {
                "annotated": [-9.0, -5.0, -7.0],
                "synthetic": [-4.0, -8.0, -7.5],
                "proto_synthetic": [-6.0, -5.0, -7.0],
            }
            run.store.write_json(phase.target, {
                "metrics": metrics, "signs_of_collapse": [], "logps": {} if phase.policy == "base" else logps,
                "responses": [answer] * 3,
            })  # fmt: skip
            self.tell("evaluated", policy=phase.policy, **{f"eval/{name}": value for name, value in metrics.items()})
            self.tell("warning", message=f"a look at {phase.policy}{self.evil}")
        elif phase.kind == "choose":
            result = {"best": "iterations/001", "metric": "nll", "value": 1.0, "candidates": {}}
            run.store.write_json(phase.target, result)
            run.store.point("best", "iterations/001/adapter")
            self.tell("chosen", policy="iterations/001", metric="nll", value=1.0)

    def steps(self, phase, steps: int, count: int) -> None:
        import math

        for step in range(1, count + 1):
            self.number += step == 1
            at = phase.iteration or 0
            event = {"phase": phase.target, "iteration": phase.iteration, "step": step, "steps": steps,
                     "loss": 2.0 / (step + at), "learning_rate": 1e-4, "grad_norm": 1.5, "nll": 1.0 / step,
                     "tokens_per_s": 200.0 + step, "elapsed_s": 0.5, "memory/peak_bytes": 2_000_000_000,
                     "memory/active_bytes": 1_500_000_000}  # fmt: skip
            if phase.iteration is not None:
                value = 4.0 * at + step / 2 + math.sin(step)
                event |= {"advantage/current": value, "advantage/current_min": value - 2,
                          "advantage/current_max": value + 2, "rewards/accuracies": 0.75}  # fmt: skip
            if phase.iteration:
                value = -1 + step / 6
                event |= {"advantage/historical": value, "advantage/historical_min": value - 1,
                          "advantage/historical_max": value + 1}  # fmt: skip
            self.tell("step", **event)

"""Runs as the engine leaves them, written without any model."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tests.support.hostile import HOSTILE
from tspin_mlx.data.read import Splits
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.phase import TrainPhase
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.runs.create import create_run, data_digests


def fake_run(path: Path, *, until: str | None = None, steps: int = 12, hostile: bool = False, overrides=()):
    """A run that is done up to the phase with the target ``until``, or entirely if that is None.

    Its event log reports every phase, with times of its own, and the first half of the phase ``until``.
    """
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
    events.emit("run_started", name=path.name, phases=len(plan.phases), phases_done=0, steps=plan.steps, counts={})
    events.emit("machine", device=f"M9{evil}", memory_bytes=16 << 30)
    for phase in plan.phases:
        events.emit("phase_started", phase=phase.target, title=phase.title, iteration=phase.iteration)
        if phase.target == until:
            if isinstance(phase, TrainPhase):
                events.steps(phase, steps, steps // 2)
            return run
        events.do(run, phase, steps)
        events.emit("phase_finished", phase=phase.target, elapsed_s=5.0)
    events.emit("run_finished", elapsed_s=90.0)
    return run


class _Events:
    """Writes an event log and the results it reports, with a clock of its own."""

    def __init__(self, path: Path, evil: str) -> None:
        self.path, self.evil, self.time, self.number = path, evil, 1_700_000_000.0, 0

    def emit(self, kind: str, **fields) -> None:
        self.time += 1.0
        with self.path.open("a") as file:
            file.write(json.dumps({"time": self.time, "kind": kind, **fields}) + "\n")

    def do(self, run, phase, steps: int) -> None:
        texts = {row["id"]: row for row in run.store.read_jsonl("prompts.jsonl")}
        answer = {"tokens": [5, 1], "text": f"answer of {phase.policy}{self.evil}", "finish_reason": "stop", "seed": 1}
        if isinstance(phase, TrainPhase):
            self.steps(phase, steps, steps)
        if phase.kind in ("keep", "warmup", "train"):
            with run.store.new_folder(phase.target) as folder:
                (folder / "adapters.safetensors").write_bytes(b"0" * 1000)
        elif phase.kind == "generate":
            self.emit("progress", phase=phase.target, done=8, total=8, tokens_per_s=90.0)
            measures = {"stop_rate": 0.75, "truncated": 0.25, "identical": 0.125, "tokens_per_s": 90.0}
            self.emit("generated", phase=phase.target, iteration=phase.iteration,
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
            self.emit("evaluated", policy=phase.policy, **{f"eval/{name}": value for name, value in metrics.items()})
            self.emit("warning", message=f"a look at {phase.policy}{self.evil}")
        elif phase.kind == "choose":
            result = {"best": "iterations/001", "metric": "nll", "value": 1.0, "candidates": {}}
            run.store.write_json(phase.target, result)
            run.store.point("best", "iterations/001/adapter")
            self.emit("chosen", policy="iterations/001", metric="nll", value=1.0)

    def steps(self, phase, steps: int, count: int) -> None:
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
            self.emit("step", **event)

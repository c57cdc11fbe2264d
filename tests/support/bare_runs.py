"""Runs without a model: the plan of a few examples, and phases done as the engine would leave them."""

from __future__ import annotations

from tspin_mlx.data.read import Splits
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.recipe.parse import parse_recipe
from tspin_mlx.recipe.plan import make_plan
from tspin_mlx.runs.create import data_digests

TEXT = "data: {train: t.jsonl}\nwarmup: {epochs: 1}\ntraining: {iterations: 2}\n"
MODEL = {"name": "tiny", "path": "/models/tiny", "fingerprint": "m"}

TARGETS = [
    "base/adapter",
    "base/eval.json",
    "initial/adapter",
    "initial/eval.json",
    "iterations/000/proto_synthetic",
    "iterations/000/triplets.jsonl",
    "iterations/000/adapter",
    "iterations/000/eval.json",
    "iterations/001/synthetic",
    "iterations/001/triplets.jsonl",
    "iterations/001/adapter",
    "iterations/001/eval.json",
    "result.json",
    "base/test.json",
    "initial/test.json",
    "test.json",
]


CONCLUSIONS = TARGETS[-4:]
TESTED = ["base/test.json", "initial/test.json"]


def prompt(name, text="p\u2028?"):
    return Prompt(name, (1, 2), text, Response((3, 4), "r"), "r")


PROMPTS = Splits((prompt("a"), prompt("b")), (prompt("c"),), (prompt("d"),))


def plan(*overrides, prompts=PROMPTS, model="m"):
    recipe = parse_recipe(TEXT, "r.yaml", overrides)
    return make_plan(recipe, prompts.counts, model, data_digests(prompts))


def evaluation(nll=1.0, signs=()):
    return {"metrics": {"nll": nll}, "signs_of_collapse": list(signs), "responses": []}


def finish(run, *targets, signs=()):
    """Do phases as the engine would leave them."""
    for target in targets or TARGETS:
        if target.endswith(("adapter", "synthetic")):
            with run.store.new_folder(target) as folder:
                (folder / "content").write_text(target)
        elif target.endswith("eval.json"):
            run.store.write_json(target, evaluation(signs=signs))
        elif target == "result.json":
            run.store.write_json(target, {"best": "iterations/000"})
        else:
            run.store.write_text(target, "{}\n")

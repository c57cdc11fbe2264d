"""The Python API: train, resume, load, generate, evaluate, push.

    import tspin_mlx as ts

    rows = [{"prompt": "dim the lights", "response": '{"action": "dim"}'}, ...]
    run = ts.train(model="smollm2-135m", data=rows, name="lights")
    policy = ts.load(run)
    policy.generate("switch the fan on")

Everything here is stable: it changes only with a new minor version and a line in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import filesystem
from .base.errors import Stopped, UsageError, error_of
from .data.tokenize import BadExample, render_prompt, takes_conversations
from .jobs.control import outcome, request_stop
from .jobs.control import resume as start_engine
from .jobs.follow import follow
from .recipe.catalog import find_recipe, parse_source
from .recipe.parse import to_override
from .recipe.policy_names import BEST, wanted_policy
from .runs.event_log import log_size
from .runs.run import Run, find_run
from .view.event_text import event_text
from .view.events import Event

#: One example: ``prompt`` and ``response``, or any other shape that data files may have (docs/guide.md).
Row = Mapping[str, Any]

#: One turn of a conversation: ``role`` and ``content``.
Message = Mapping[str, str]

#: What a policy is asked: a user's turn, or a whole conversation that ends with one.
Prompt = str | Sequence[Message]


def print_event(event: Event) -> None:
    """Print an event as one line, if it is worth one."""
    if (line := event_text(event)) is not None:
        print(line, flush=True)  # noqa: T201


def train(
    recipe: str | Path = "starter",
    *,
    model: str | Path | None = None,
    data: str | Path | Sequence[Row] | None = None,
    validation: str | Path | Sequence[Row] | None = None,
    test: str | Path | Sequence[Row] | None = None,
    name: str | None = None,
    folder: str | Path = "runs",
    settings: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], None] | None = print_event,
    trust_remote_code: bool = False,
) -> Run:
    """Train a model by triplet self-play, and wait for the end. Called again, it continues where it stopped.

    Training runs in a process of its own, which holds the run's lock: this process needs no memory for the model, and
    an interrupt (Ctrl-C, or the stop button of a notebook) ends it after the optimiser step, with nothing lost.

    Args:
        recipe: the name of a ready recipe, or a YAML file.
        model: a Hugging Face id, a local folder, a GGUF file, or ``smollm2-135m``; None is the recipe's.
        data: training examples: rows, a file, or ``hub:ID[:CONFIG]:SPLIT``; None is the recipe's. With it the recipe's
            own validation and test files are left out: validation examples are taken from the training data.
        validation: held-out examples that choose the best iteration.
        test: held-out examples looked at once, at the end.
        name: of the run's folder; None is the recipe's.
        folder: holds the runs. Rows are kept in its subfolder ``data``, named by their content.
        settings: other values of the recipe by dotted key, such as ``{"training.iterations": 2}``.
        on_event: called with each event (see :mod:`tspin_mlx.view.events`); None is silent.
        trust_remote_code: run Python code that comes with the model.

    Returns:
        The finished run: ``path``, ``evaluations()``, ``result()``, ``test()``.

    Raises:
        UsageError, RecipeError, DataError: nothing was written.
        BusyError: another process works on the run.
        Stopped: the run was asked to stop; ``train`` or :func:`resume` continues it.
        TspinError: of the kind that fits; its ``hint`` says what to do.
    """
    from .jobs.launch import prepare

    changes: dict[str, Any] = {} if data is None else {"data.validation": None, "data.test": None}
    sources = {"data.train": data, "data.validation": validation, "data.test": test}
    given = {key: _source(source, Path(folder)) for key, source in sources.items() if source is not None}
    changes |= {**given, "run.folder": str(folder), **(settings or {})}
    changes |= {} if model is None else {"model.path": str(model)}
    changes |= {} if name is None else {"run.name": name}
    source = find_recipe(str(recipe))
    overrides = [to_override(key, value) for key, value in changes.items()]
    made = prepare(parse_source(source, overrides), source, trusted=trust_remote_code)
    return resume(made.run, on_event=on_event, trust_remote_code=trust_remote_code)


def resume(
    run: Run | str | Path,
    *,
    on_event: Callable[[Event], None] | None = print_event,
    trust_remote_code: bool = False,
) -> Run:
    """Continue a run exactly where it stopped, and wait for the end; a finished run is returned as it is.

    Args:
        run: a run, its name in ``runs``, or its path.
        on_event, trust_remote_code: see :func:`train`, also for what is raised.
    """
    run = _open(run)
    if run.is_finished:
        return run
    offset = log_size(run.events_path)
    engine = start_engine(run, trusted=trust_remote_code)
    show = on_event or (lambda event: None)
    try:
        last = follow(run, offset, lambda: engine.poll() is None, show)
    except BaseException:  # an interrupt, or an error of the caller's on_event
        _stop(run, engine)
        raise
    end = outcome(run, last, engine.returncode)
    if end.what == "stopped":
        raise Stopped(end.exit_code)
    if end.what == "failed":
        raise error_of(end.exit_code)(end.message, hint=end.hint)
    return run


def load(run: Run | str | Path, policy: str | int = BEST, *, trust_remote_code: bool = False) -> TrainedModel:
    """Load the model of a run with the adapter of one of its policies.

    Args:
        run: a run, its name in ``runs``, or its path.
        policy: ``best``, ``base``, ``initial``, or the number of an iteration.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        UsageError: no such run or policy, or not yet.
        DamagedError, SetupError, HubError: the adapter or the model cannot be used.
    """
    from .models.of_run import load_run, use_policy

    run = _open(run)
    recipe = run.recipe()
    loaded = load_run(run, recipe, trusted=trust_remote_code)
    return TrainedModel(run, str(policy), use_policy(loaded, run, policy), loaded)


@dataclass(frozen=True)
class TrainedModel:
    """A policy of a run, ready to use.

    Attributes:
        run: the run.
        name: the policy, as it was asked for.
        folder: the policy's folder, relative to the run.
        policy: mlx-lm's ``model`` and ``tokenizer``, with the adapter.
    """

    run: Run
    name: str
    folder: str
    policy: Any

    def __repr__(self) -> str:
        return f"<{wanted_policy(self.name, self.folder)} of {self.run.name}>"

    def generate(self, prompt: Prompt, **options: Any) -> str:
        """Answer one prompt, in the form that training used; options and errors as :meth:`generate_batch` has them."""
        return self.generate_batch([prompt], **options)[0]

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        system: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_tokens: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[str]:
        """Answer many prompts, in their order.

        Args:
            prompts: texts, or conversations that end with the user's turn.
            system: system prompt of prompts that are plain text; None is the one used in training.
            temperature: 0 is greedy.
            top_p: nucleus sampling in (0, 1]; 1 is off.
            max_tokens: longest answer; None is the recipe's.
            seed: of the samples; they do not depend on the batch.
            batch_size: prompts answered at once.

        Raises:
            UsageError: a prompt that does not fit the template or the model's context length.
        """
        from .generation.batch import Decoding, generate
        from .tspin import answer

        if not prompts:
            return []
        recipe = self.run.recipe()
        shared = system if system is not None else recipe.data.system or self.run.system_prompt()
        rendered = [self._rendered(i, prompt, shared) for i, prompt in enumerate(prompts)]
        decoding = Decoding(temperature, top_p, max_tokens or recipe.answer_tokens, batch_size)
        if temperature:
            responses = answer(self.policy, rendered, decoding, seed)
        else:
            responses = generate(self.policy, rendered, [None] * len(rendered), decoding)
        return [response.text for response in responses]

    def evaluate(
        self,
        data: str | Path | Sequence[Row] | None = None,
        *,
        metrics: Sequence[str] | None = None,
        regex: str | None = None,
        limit: int | None = None,
    ) -> dict[str, float]:
        """Measure the policy's greedy answers on examples.

        Args:
            data: rows, a file, or ``hub:ID[:CONFIG]:SPLIT``; None is the run's validation examples.
            metrics: such as ``exact_match`` and ``json_field_f1``; None is the recipe's.
            regex: for the metric ``regex``.
            limit: use only this many examples, from the first.

        Returns:
            ``nll`` (nats per token), ``stop_rate``, ``length``, and each metric from 0 to 1.

        Raises:
            DataError: a row that cannot be used.
            UsageError: no such metric.
        """
        from .evaluation.of_run import evaluation_section, held_out_prompts, measure_policy

        section = evaluation_section(self.run, metrics, regex)
        with _as_file(data) as source:
            prompts = held_out_prompts(self.run, source, limit)
        measures, _ = measure_policy(self.policy, self.run.recipe(), prompts, section)
        return measures

    def push(self, repo: str, *, public: bool = False, fused: bool = False) -> str:
        """Send the policy to the Hugging Face Hub, with a model card; nothing is asked.

        Args:
            repo: ``owner/name``, or a name, which is then the user's own.
            public: make the repository public.
            fused: send a whole model instead of the adapter.

        Returns:
            The address of the repository.

        Raises:
            HubError: no token, offline, or refused.
            UsageError: the base model's id on the Hub is not known.
        """
        from .export.publish import prepare_push
        from .export.push import push
        from .export.source import open_source

        ready = prepare_push(open_source(self.run, self.name), repo, public=public, fused=fused)
        return push(ready.target, ready.files, ready.message).url

    def _rendered(self, i: int, prompt: Prompt, system: str | None) -> Any:
        from .method import triplets

        template = self.run.recipe().data.template
        if isinstance(prompt, str):
            turns = [{"role": "system", "content": system}] if system and takes_conversations(template) else []
            messages = [*turns, {"role": "user", "content": prompt}]
        else:
            messages = [dict(turn) for turn in prompt]
        try:
            tokens = render_prompt(messages, self.policy.tokenizer, template)
        except BadExample as error:
            raise UsageError(f"prompt {i} cannot be rendered: {error}") from None
        if self.policy.window is not None and len(tokens) >= self.policy.window:
            raise UsageError(
                f"prompt {i} has {len(tokens)} tokens, but the model's context length is {self.policy.window}"
            )
        return triplets.Prompt(str(i), tuple(tokens), messages[-1]["content"], triplets.Response((), ""), "")


def _open(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else find_run(str(run), Path("runs"))


def _stop(run: Run, engine: subprocess.Popen[bytes]) -> None:
    """Ask the engine to stop after its step, and wait for it."""
    try:
        request_stop(run, "step")
    except UsageError:  # it has just ended
        return
    engine.wait()


def _source(data: str | Path | Sequence[Row], folder: Path) -> str:
    """A file of the examples: rows are kept next to the runs, under a name that follows from their content."""
    if isinstance(data, str | Path):
        return str(data)
    text = filesystem.to_jsonl(dict(row) for row in data)
    path = folder / "data" / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        filesystem.make_folder(path.parent)
        filesystem.write_text(path, text)
    return str(path)


@contextmanager
def _as_file(data: str | Path | Sequence[Row] | None) -> Iterator[str | None]:
    """A file or dataset with the examples, as long as the block lasts."""
    if data is None or isinstance(data, str | Path):
        yield None if data is None else str(data)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(filesystem.to_jsonl(dict(row) for row in data), encoding="utf-8")
        yield str(path)

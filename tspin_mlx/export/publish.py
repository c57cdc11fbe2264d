"""Prepare a push to the Hugging Face Hub: export the adapter or fuse it, and write the model card and its curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..runs.event_log import view_of
from ..view.chart import advantage_svg
from .adapter import export_adapter
from .ask import ask
from .card import CURVE, Facts, card
from .folder import Export
from .fuse import fuse
from .push import Target, find_target
from .source import Source
from .upstream import no_base
from .usage import (
    Ask,
    Way,
    mlx_adapter,
    mlx_model,
    ollama_adapter,
    ollama_model,
    peft,
    transformers_model,
    vllm_adapter,
    vllm_model,
)

_ASKED = "Write your prompt here."


@dataclass(frozen=True)
class ReadyToPush:
    """A prepared push; nothing has been sent.

    Attributes:
        target: the repository.
        files: everything to send, by name.
        message: the commit message.
    """

    target: Target
    files: dict[str, Path | bytes]
    message: str


def prepare_push(
    source: Source, repo: str, *, public: bool, fused: bool, on_stage: Callable[[str], None] = lambda stage: None
) -> ReadyToPush:
    """Check the repository on the Hub, and make everything that a push sends. Nothing is sent.

    Args:
        repo: ``owner/name``, or a name for a repository of the user.
        public: whether everybody may see it.
        fused: a whole model instead of the adapter.
        on_stage: called with each next stage that takes a while, in words.

    Raises:
        UsageError: the base model is not known.
        HubError: see :func:`tspin_mlx.export.push.find_target`.
    """
    if source.base.id is None:
        raise no_base(source.base)
    target = find_target(repo, public=public)
    export = fuse(source, on_stage=on_stage) if fused else export_adapter(source, "both")
    files = repository(source, export, target.repo, fused=fused)
    return ReadyToPush(target, files, f"{source.label} of {source.run.name}")


def repository(source: Source, export: Export, repo: str, *, fused: bool) -> dict[str, Path | bytes]:
    """Collect everything to send, by name.

    Args:
        export: the adapter for both formats, or the fused model.

    Raises:
        UsageError: the base model is not known.
    """
    curve = _curve(source)
    asked = ask(source.run, source.base.folder, source.adapter, _ASKED, source.run.system_prompt())
    text = card(_facts(source, export, repo, fused, asked), _ways(source, repo, fused, asked), curve=curve is not None)
    files: dict[str, Path | bytes] = {path.relative_to(export.path).as_posix(): path for path in export.files()}
    card_files: dict[str, bytes] = {"README.md": text.encode()}
    if curve is not None:
        card_files[CURVE] = curve.encode()
    return {**card_files, **files}


def _curve(source: Source) -> str | None:
    """Plot both advantages over the steps, if the run has steps of self-play."""
    view = view_of(source.run.events_path)
    return advantage_svg(view, title="Advantages during self-play") if view.self_play else None


def _facts(source: Source, export: Export, repo: str, fused: bool, asked: Ask) -> Facts:
    run, base = source.run, source.base
    if base.id is None:
        raise no_base(base)
    results, split = run.test(), "test"
    if results is None or source.policy not in results:
        results, split = run.evaluations(), "validation"
    machine = run.about["machine"]
    trained_on = f"{base.trained_on} with {base.bits}-bit weights" if base.bits else None
    return Facts(
        repo=repo,
        base=base.id,
        trained_on=trained_on,
        license=base.license,
        fused=fused,
        policy=source.policy,
        system=asked.system,
        thinks=asked.thinks,
        recipe=source.recipe,
        measured={folder: content["metrics"] for folder, content in results.items()},
        split=split,
        examples=dict(run.outline.counts),
        versions=run.about["versions"],
        machine=f"{machine['system']} {machine['machine']}",
        agreement=export.note.get("agreement"),
    )


def _ways(source: Source, repo: str, fused: bool, asked: Ask) -> list[Way]:
    if fused:
        return [mlx_model(repo, asked), transformers_model(repo, asked), vllm_model(repo), ollama_model(repo)]
    base = source.base.id or ""
    return [
        mlx_adapter(base, repo.split("/")[-1], asked, fetch=repo),
        peft(base, repo, asked),
        vllm_adapter(base, repo, source.recipe.lora.rank),
        ollama_adapter(base, repo),
    ]

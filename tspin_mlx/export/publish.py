"""From a run to what its repository on the Hub holds: an export, its card and its curve."""

from __future__ import annotations

from pathlib import Path

from ..runs.event_log import view_of
from ..view.chart import advantage_svg
from .ask import ask
from .card import CURVE, Facts, card
from .folder import Export
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


def repository(source: Source, export: Export, repo: str, *, fused: bool) -> dict[str, Path | bytes]:
    """Everything that is sent, by name.

    Args:
        export: the adapter for both, or the fused model.

    Raises:
        UsageError: the base model is not known.
    """
    curve = _curve(source)
    asked = ask(source.run, source.base.folder, source.adapter, _ASKED, source.run.system_prompt())
    text = card(_facts(source, export, repo, fused, asked), _ways(source, repo, fused, asked), curve=curve is not None)
    files: dict[str, Path | bytes] = {path.relative_to(export.path).as_posix(): path for path in export.files()}
    made: dict[str, bytes] = {"README.md": text.encode()}
    if curve is not None:
        made[CURVE] = curve.encode()
    return {**made, **files}


def _curve(source: Source) -> str | None:
    """Both advantages over the steps, if the run made any of self-play."""
    view = view_of(source.run.events_path)
    return advantage_svg(view, title="Advantages during self-play") if view.self_play else None


def _facts(source: Source, export: Export, repo: str, fused: bool, asked: Ask) -> Facts:
    run, base = source.run, source.base
    if base.id is None:
        raise no_base(base)
    kept, split = run.test(), "test"
    if kept is None or source.policy not in kept:
        kept, split = run.evaluations(), "validation"
    machine = run.about["machine"]
    trained_on = f"{base.trained_on}, whose weights have {base.bits} bits" if base.bits else None
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
        measured={folder: content["metrics"] for folder, content in kept.items()},
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

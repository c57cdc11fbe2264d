"""The house's floors: imports point down only, and the command line and screens stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tspin_mlx

PACKAGE = Path(tspin_mlx.__file__).parent

#: From the ground up. A module may import from its own floor and from those below it.
FLOORS = [
    # pure: no files, no clock, no global randomness
    {
        "errors", "text", "seeds", "objective", "recipe", "recipe_text", "plan", "method", "triplets", "chat",
        "batching", "schedule", "step_metrics", "metrics", "choice", "guard", "events", "run_view", "lineage", "ending",
        "steps", "chart", "colours", "narrate", "estimate", "sweep", "comparison", "policy_names", "rope",
    },
    # effects: files, models, the machine
    {
        "durable", "hub", "machine", "user_path", "runs", "catalog", "data", "gguf", "builtin", "model_folder",
        "models", "prefix", "recompute", "scoring", "generation", "streaming", "harness", "training", "checkpoints",
        "evaluation", "metal",
    },
    # orchestration
    {
        "stop", "run_model", "held_out", "chat_session", "chat_server", "export",
        "desk", "phases", "memory", "engine", "worker", "supervisor", "launch", "control", "sweep_members", "sweeping",
        "doctor", "report",
    },
    # frontends
    {"cli", "__main__"},
]  # fmt: skip

MAY_IMPORT_MLX_LM = {"model_folder", "models", "metal", "generation", "streaming", "harness", "export"}
MAY_IMPORT_MLX = MAY_IMPORT_MLX_LM | {
    "machine", "method", "gguf", "prefix", "recompute", "scoring", "training", "memory", "chat_session", "doctor",
}  # fmt: skip


def modules():
    return [path for path in PACKAGE.glob("**/*.py") if "recipes" not in path.relative_to(PACKAGE).parts]


def room(path):
    """The top-level module or package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Absolute names of everything a file imports, wherever in it."""
    inside = path.is_relative_to(PACKAGE)
    package = ("tspin_mlx", *path.relative_to(PACKAGE).parent.parts) if inside else ("tspin_mlx_tui",)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield ".".join([*base, node.module])
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def floor(name):
    found = [i for i, names in enumerate(FLOORS) if name in names]
    assert len(found) == 1, f"{name} must stand on exactly one floor"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    if path == PACKAGE / "__init__.py":
        assert [name for name in imports(path) if name.startswith("tspin_mlx")] == ["tspin_mlx.machine"]
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tspin_mlx" and len(parts) > 1 and parts[1] != "__version__":
            assert floor(parts[1]) <= floor(room(path)), f"{room(path)} imports {name} from a floor above"
        if parts[0] == "mlx_lm":
            assert room(path) in MAY_IMPORT_MLX_LM, f"{room(path)} touches mlx-lm"
        if parts[0] == "mlx":
            assert room(path) in MAY_IMPORT_MLX, f"{room(path)} touches MLX"


SCREENS = PACKAGE.parent / "tui"

#: What only a process of its own may do, and what belongs to the command line.
NOT_FOR_SCREENS = {"cli", "worker", "engine", "phases", "launch", "models", "generation", "scoring", "training"}


@pytest.mark.parametrize("path", sorted(SCREENS.glob("*.py")), ids=lambda path: path.name)
def test_screens_import_what_loads_no_model(path):
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in ("mlx", "mlx_lm", "transformers", "tokenizers"), f"{path.name} imports {name}"
        if parts[0] == "tspin_mlx" and path.parent == SCREENS and len(parts) > 1:
            assert parts[1] not in NOT_FOR_SCREENS, f"{path.name} imports {name}"


def test_only_the_command_line_knows_the_screens():
    for path in modules():
        if room(path) != "cli":
            assert not [name for name in imports(path) if name.startswith("tspin_mlx_tui")], path


def loaded_after(code):
    """Names of the modules that a fresh process has after running ``code``."""
    script = f"import sys\n{code}\nprint(*sys.modules, file=sys.stdout)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    loaded = loaded_after("import tspin_mlx")
    assert "tspin_mlx" in loaded
    assert not {"mlx", "mlx.core", "mlx_lm", "textual", "rich", "pydantic", "transformers"} & loaded


def test_the_command_line_loads_no_mlx_before_it_needs_it():
    loaded = loaded_after("import tspin_mlx.cli.app")
    assert "typer" in loaded
    assert not {"mlx.core", "mlx_lm", "pydantic", "transformers", "huggingface_hub"} & loaded


def test_screens_and_the_supervisor_load_no_mlx():
    loaded = loaded_after(
        "import tspin_mlx.run_view, tspin_mlx.runs.directory, tspin_mlx.runs.event_log, tspin_mlx.plan, "
        "tspin_mlx.runs.policies, tspin_mlx.cli.samples, tspin_mlx.supervisor, "
        "tspin_mlx.cli.control"
    )
    assert not {"mlx.core", "mlx_lm", "transformers"} & loaded


def test_a_run_is_shown_without_what_checks_recipes():
    """Which takes a quarter of a second to load."""
    loaded = loaded_after("import tspin_mlx_tui.app, tspin_mlx_tui.run_screen")
    assert "textual" in loaded
    assert not {"pydantic", "mlx.core", "mlx_lm", "transformers", "huggingface_hub"} & loaded


def test_nothing_below_the_frontends_prints():
    for path in modules():
        if room(path) in FLOORS[-1]:
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path

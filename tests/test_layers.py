"""What a fresh process loads, and what may print; which folder may import which is checked by import-linter."""

import ast
import subprocess
import sys
from pathlib import Path

import tspin_mlx

PACKAGE = Path(tspin_mlx.__file__).parent


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
        "import tspin_mlx.view.run_view, tspin_mlx.runs.run, tspin_mlx.runs.event_log, tspin_mlx.recipe.plan, "
        "tspin_mlx.runs.policies, tspin_mlx.runs.samples, tspin_mlx.cli.commands.samples, "
        "tspin_mlx.jobs.supervisor, tspin_mlx.cli.commands.stop, tspin_mlx.cli.start"
    )
    assert not {"mlx.core", "mlx_lm", "transformers"} & loaded


def test_a_run_is_shown_without_what_checks_recipes():
    """Which takes a quarter of a second to load."""
    loaded = loaded_after("import tspin_mlx.tui.app, tspin_mlx.tui.screens.run")
    assert "textual" in loaded
    assert not {"pydantic", "mlx.core", "mlx_lm", "transformers", "huggingface_hub"} & loaded


def test_nothing_below_the_frontends_prints():
    for path in [*PACKAGE.glob("**/*.py"), *(PACKAGE / "tui").glob("**/*.py")]:
        if path.relative_to(PACKAGE).parts[0] in ("cli", "api.py", "recipes"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path

"""Import cycles: no module of the app imports one that imports it, not even lazily or for type checking only."""

import ast
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import tspin_mlx.tui

PACKAGE = tspin_mlx.tui.__name__
FOLDER = Path(tspin_mlx.tui.__file__).parent


def module_name(path):
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def imported_modules(path, known):
    """Yield the modules out of ``known`` that a file imports anywhere in its source."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield from {f"{source}.{alias.name}", source} & known
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & known


def test_the_app_has_no_import_cycles():
    files = {module_name(path): path for path in FOLDER.rglob("*.py")}
    graph = {name: set(imported_modules(path, files.keys())) for name, path in files.items()}
    assert f"{PACKAGE}.screens.run" in graph[f"{PACKAGE}.app"]  # a lazy import
    TopologicalSorter(graph).prepare()  # raises CycleError

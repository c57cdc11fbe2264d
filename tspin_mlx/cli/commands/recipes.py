"""``recipes`` and ``schema``: list, show, copy and validate recipes; the JSON Schema of them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text
from typer import Argument

from ...base.errors import UsageError
from ..options import Json, Overrides, RecipeName
from ..output import plain_table, print_json, print_table


def ls(as_json: Json = False) -> None:
    """List the ready recipes.

    Example: tspin-mlx recipes ls
    """
    from ...recipe.catalog import packaged_recipes, parse_source

    rows = [(source.name, parse_source(source)) for source in packaged_recipes()]
    if as_json:
        keys = ("description", "measured")
        print_json([{"name": n, "model": r.model.path, **{k: getattr(r, k).strip() for k in keys}} for n, r in rows])
        return
    table = plain_table("recipe", no_wrap=True)
    table.add_column("what it teaches, on which model, and what was measured", overflow="fold")
    for name, recipe in rows:
        about = Text(recipe.description.strip())
        about.append(f"\nModel: {recipe.model.path}", style="dim")
        about.append(f"\nMeasured: {recipe.measured.strip()}\n" if recipe.measured else "\n", style="dim")
        table.add_row(name, about)
    print_table(table)


def show(recipe: RecipeName, as_json: Json = False) -> None:
    """Print a recipe; with --json, with every default filled in.

    Example: tspin-mlx recipes show quickstart --json
    """
    from ...recipe.catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    if as_json:
        print_json(parse_source(source).model_dump(mode="json"))
    else:
        typer.echo(source.text, nl=False)


def cp(
    recipe: RecipeName,
    target: Annotated[Path, Argument(help="New file or folder; by default NAME.yaml.", show_default=False)] = Path(),
) -> None:
    """Copy a ready recipe, to change it. Its data files are copied next to it.

    Example: tspin-mlx recipes cp quickstart my-task.yaml
    """
    from ...base import filesystem
    from ...data.read import is_remote
    from ...recipe.catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    if target == Path() or target.is_dir():
        target = target / source.path.name
    copies = [(source.path, target)]
    for file in parse_source(source).data.sources.values():
        if not is_remote(file) and (source.path.parent / file).is_file() and not Path(file).is_absolute():
            copies.append((source.path.parent / file, target.parent / file))
    taken = [str(copy) for _, copy in copies if copy.exists()]
    if taken:
        raise UsageError(f"{taken[0]} exists already", hint="give another name or folder")
    for original, copy in copies:
        filesystem.write_file(copy, partial(shutil.copyfile, original))
        typer.echo(str(copy))


def validate(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a recipe's keys and values, without reading its data; `plan` reads it.

    Example: tspin-mlx recipes validate my-task.yaml training.iterations=3
    """
    from ...recipe.catalog import find_recipe, parse_source

    source = find_recipe(recipe)
    checked = parse_source(source, overrides or [])
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        typer.echo(f"{source.name} is valid")


def schema() -> None:
    """Print the JSON Schema of recipes, with every key's meaning.

    Example: tspin-mlx schema > recipe.schema.json
    """
    from ...recipe.schema import Recipe

    print_json(Recipe.model_json_schema())

"""The commands in the documentation are commands that the command line takes, and its recipes are valid."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tspin_mlx.cli.app import app
from tspin_mlx.sweeps.file import parse_sweep

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Text that stands for something else, or says that there is more.
PLACEHOLDER = re.compile(r"[…⟨⟩]|\.\.\.|\[|\||<")


def commands(page):
    """Every ``tspin-mlx …`` of a page: lines of code, without the comments beside them, and code within a text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    tspin-mlx.*", text, re.MULTILINE)
    for line in "\n".join([*fenced, *indented]).splitlines():
        if re.match(r" *tspin-mlx( |$)", line):
            yield re.split(r" {2,}| #", line.strip())[0]
    for span in re.findall(r"`(tspin-mlx [^`]+)`", text):
        words = span.split()
        yield " ".join(words if len(words) > 2 else [*words, "--help"])  # two only name a command


def exit_code(line):
    """Parse a command as the shell and the program would, and do nothing."""
    program = without_effect(get_command(app))
    with pytest.raises(SystemExit) as ended:
        program.main(shlex.split(re.split(r" [<>] ", line)[0])[1:], prog_name="tspin-mlx")
    return ended.value.code or 0


def without_effect(command):
    """A command of which nothing but its parser is left, with all commands below it."""
    command.callback = None
    for below in getattr(command, "commands", {}).values():
        without_effect(below)
    return command


FOUND = [(page, line) for page in PAGES for line in dict.fromkeys(commands(page)) if not PLACEHOLDER.search(line)]


def test_commands_are_found_in_the_pages_that_have_them():
    pages = {page.name for page, _ in FOUND}
    assert {"README.md", "guide.md", "sweeps.md", "evaluate.md", "export.md", "tui.md"} <= pages and len(FOUND) > 50


@pytest.mark.parametrize(("page", "line"), FOUND, ids=[f"{page.name}: {line}" for page, line in FOUND])
def test_a_command_of_the_documentation_is_one_of_the_program(page, line):
    assert exit_code(line) == 0


@pytest.mark.parametrize(
    "line", ["tspin-mlx rum quickstart", "tspin-mlx run", "tspin-mlx fuse quickstart --quantise 4"]
)
def test_a_command_that_does_not_exist_would_be_found(line):
    assert exit_code(line) == 2


SWEEPS = [
    pytest.param(block, id=page.name)
    for page in PAGES
    for block in re.findall(r"```(?:yaml)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if re.search(r"^recipe: ", block, re.MULTILINE)
]


@pytest.mark.parametrize("text", SWEEPS)
def test_the_sweeps_of_the_documentation_are_valid(text):
    made = parse_sweep(text, "sweep.yaml")
    assert made.recipe and yaml.safe_load(text)


def test_every_page_links_to_what_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tests_that_pages_name_are_there():
    tests = ROOT / "tests"
    named = 0
    for page in sorted((ROOT / "docs").glob("**/*.md")):
        file = None
        for name in re.findall(
            r"`((?:tests/)?(?:[\w/]*test_\w+\.py|…)(?:::test_\w+)?)", page.read_text(encoding="utf-8")
        ):
            path, _, function = name.removeprefix("tests/").partition("::")
            file = file if path == "…" else tests / path
            assert file is not None and file.exists(), f"{page.name}: {name}"
            assert f"def {function}" in file.read_text(encoding="utf-8"), f"{page.name}: {name}"
            named += 1
    assert named > 40

"""Mistakes on the command line: the message says what to do next."""

import pytest

from tests.support.command_line import cli

LEADS_ON = {
    "a misspelt key that another needs": ("data: {trian: x}\n", ["plan", "x.yaml"], "x.yaml:1: unknown key data.trian"),
    "a recipe for a sweep": ("data: {train: x}\n", ["sweep", "x.yaml"], "x.yaml: this is a recipe, not a sweep"),
    "a sweep without a recipe": ("set: {}\n", ["sweep", "x.yaml"], "for example: recipe: quickstart"),
    "two ways to stop": ("", ["stop", "x", "--now", "--after", "step"], "give --after or --now, not both"),
    "the app in a pipe": ("", ["--folder", "x"], "`tspin-mlx runs ls --folder x` lists the runs"),
    "a folder before the command": ("", ["--folder", "x", "runs", "ls"], "--folder comes after the command"),
    "a picture in no format of ours": ("", ["runs", "export", "x", "x.png"], "a file that ends in .svg, .csv or .json"),
    "a run elsewhere": ("", ["runs", "show", "x", "--folder", "y"], "`tspin-mlx runs ls --folder y` lists the runs"),
}


@pytest.mark.parametrize("name", LEADS_ON)
def test_a_message_leads_on(tmp_path, name):
    text, words, said = LEADS_ON[name]
    (tmp_path / "x.yaml").write_text(text)
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr, done.stderr

"""`--help`: every command has one, and it is quick."""

from typer.testing import CliRunner

from tests.support.command_line import cli
from tspin_mlx.cli.app import app


def commands(command, path=()):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_every_command_has_help():
    from typer.main import get_command

    for path in commands(get_command(app)):
        result = CliRunner().invoke(app, [*path, "--help"])
        assert result.exit_code == 0, path
        assert "Usage" in result.output


def test_help_loads_nothing_that_it_does_not_need(tmp_path):
    """Each of these takes as long to import as a good part of the command."""
    done = cli("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in loaded and "Usage" in done.stdout
    assert not {"mlx.core", "mlx_lm", "numpy", "pydantic", "textual", "transformers", "huggingface_hub"} & loaded

"""The `brenier` command: one module per subcommand, and one place where errors become one line.

A subcommand's module is imported when it is asked for, and imports what computes when it runs: `--version`, `--help`
and completion wait for none of it. Exit status: 0; 1 where `audit` finds something off; 2 after a wrong argument or bad
input (one line on stderr); 130 after Ctrl-C. What a user is warned of is one line on stderr, too.
"""

import io
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from brenier.core.reading.files import line
from brenier.core.work import enough_memory

COMMANDS = (
    *("probe", "chain", "plan", "sample", "express", "compare", "evaluate", "transport", "pairs", "flow", "train"),
    *("coupling", "calibrate", "difficulty", "audit", "reproduce", "show", "report", "laws"),
)


HELP = {"help_option_names": ["-h", "--help"]}


class _Help:
    """Help in which flags have no type: they take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as the help shows them."""
        params: list[Any] = cast(Any, super()).get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_Help, TyperCommand):
    """A subcommand."""


class Commands(_Help, TyperGroup):
    """The subcommands by name: `name` is the function `run_name` of the module `name`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update(cast(Any, dict.fromkeys(COMMANDS)))  # the names, for suggestions

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The subcommand, with its module imported; None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        one.command(cmd_name, cls=Command, context_settings=HELP)(
            getattr(import_module(f"brenier.cli.{cmd_name}"), f"run_{cmd_name}")
        )
        return typer.main.get_command(one)


app = typer.Typer(name="brenier", cls=Commands, context_settings=HELP, pretty_exceptions_enable=False)


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib import metadata

        typer.echo(f"brenier {metadata.version('brenier')}")
        raise typer.Exit
    return wanted


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Probe diffusion models, and plan their steps: where is denoising hard, how hard, and what becomes of errors?"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without the letter "±" is no reason to fail
    by_python = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *where, **line: (
        f"brenier: warning: {message}\n" if category is UserWarning else by_python(message, category, *where, **line)
    )
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        advice = "fewer --queries, --particles or --pilots, a smaller --max-memory or --batch"
        with enough_memory(advice), warnings.catch_warnings():  # which --quiet changes
            return app(args=given or ["--help"], prog_name="brenier", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except TyperException as error:
        return _complain(error.format_message().replace(": Value error, ", ": "))  # pydantic's words, inside
    except (ValueError, TypeError) as error:
        return _complain(str(error))
    finally:
        warnings.formatwarning = by_python


def _complain(message: str) -> int:
    sys.stderr.write(f"brenier: {line(message)}\n")
    return 2

"""The `brenier` command: one module per subcommand, and one place where errors become one line.

Exit status: 0, or 2 after a wrong argument or bad input (one line on stderr), or 130 after Ctrl-C. What a user is
warned of is one line on stderr, too.
"""

import io
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import TyperException

from brenier.cli.calibrate import run_calibrate
from brenier.cli.chain import run_chain
from brenier.cli.compare import run_compare
from brenier.cli.evaluate import run_evaluate
from brenier.cli.express import run_express
from brenier.cli.flow import run_flow
from brenier.cli.plan import run_plan
from brenier.cli.probe import run_probe
from brenier.cli.reproduce import run_reproduce
from brenier.cli.sample import run_sample
from brenier.cli.show import run_show
from brenier.cli.targets import run_targets
from brenier.cli.train import run_train
from brenier.cli.transport import run_transport

app = typer.Typer(name="brenier", add_completion=False, pretty_exceptions_enable=False)
app.command("probe")(run_probe)
app.command("chain")(run_chain)
app.command("plan")(run_plan)
app.command("sample")(run_sample)
app.command("express")(run_express)
app.command("compare")(run_compare)
app.command("evaluate")(run_evaluate)
app.command("transport")(run_transport)
app.command("flow")(run_flow)
app.command("train")(run_train)
app.command("calibrate")(run_calibrate)
app.command("reproduce")(run_reproduce)
app.command("show")(run_show)
app.command("targets")(run_targets)


def _version(wanted: bool) -> bool:
    if wanted:
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
        return app(args=given or ["--help"], prog_name="brenier", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except TyperException as error:
        return _complain(error.format_message())
    except (ValueError, TypeError) as error:
        return _complain(str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        options = "--queries, --particles or --pilots, a smaller --max-memory or --batch"
        return _complain(f"out of memory: give fewer {options}, or fewer points")
    finally:
        warnings.formatwarning = by_python


def _complain(message: str) -> int:
    sys.stderr.write(f"brenier: {' '.join(message.split())}\n")
    return 2

"""`brenier laws`: what can be probed."""

from brenier.cli import options


def run_laws(json: options.Json = False) -> None:
    """List the built-in laws and the kinds of files that can be probed."""
    from brenier.catalog import BUILT_IN, FAMILIES, FILE_KINDS
    from brenier.cli.outputs import print_json
    from brenier.reports.laws import show_laws

    known = {name: built_in.law for name, built_in in BUILT_IN.items()} | FAMILIES
    if json:
        print_json({"laws": known, "files": FILE_KINDS})
    else:
        show_laws(known, FILE_KINDS)

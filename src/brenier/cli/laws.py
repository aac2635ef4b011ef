"""`brenier laws`: what can be probed."""


def run_laws() -> None:
    """List the built-in laws and the kinds of files that can be probed."""
    from brenier.catalog import BUILT_IN, FAMILIES, FILE_KINDS
    from brenier.reports.laws import show_laws

    show_laws({name: built_in.law for name, built_in in BUILT_IN.items()} | FAMILIES, FILE_KINDS)

"""The face of the package: what it loads and when, and that every name is where it is said to be."""

import ast
import inspect
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import brenier

HEAVY = {"torch", "xarray", "pandas", "matplotlib", "scipy", "sklearn", "diffusers"}
LAWS = {"xarray", "matplotlib", "sklearn", "diffusers", "pandas", "scipy.stats", "ot", "torchmetrics", "torchdiffeq"}
FACES = [path.parent for path in Path(str(brenier.__file__)).parent.rglob("__init__.pyi")]
ROOMS = ("complexity", "distances", "figures", "metrics", "scales", "transport")


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after the code, which may print or exit."""
    after = "import sys; print('\\n' + ' '.join(sys.modules))"
    whole = f"try:\n    {code}\nexcept SystemExit:\n    pass\nfinally:\n    {after}"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def of_command(*arguments: str) -> str:
    return f"from brenier.cli import main; main({list(arguments)!r})"


@pytest.mark.parametrize(
    "code",
    [
        "import brenier; dir(brenier)",
        of_command("--version"),
        of_command("--help"),
        of_command("probe", "--help"),
        "import brenier.scales, brenier.complexity",
    ],
)
def test_what_computes_nothing_loads_nothing_that_computes(code: str) -> None:
    assert not loaded(code) & HEAVY


def test_completion_loads_nothing_that_computes() -> None:
    ask = "os.environ.update(_BRENIER_COMPLETE='complete_bash', COMP_WORDS='brenier pro', COMP_CWORD='1')"
    found = loaded(f"import os; {ask}; {of_command()}")
    assert "brenier.cli" in found
    assert not found & HEAVY


def test_the_version_loads_no_subcommand_and_no_rich() -> None:
    found = loaded(of_command("--version"))
    assert not {name for name in found if name.startswith("brenier.cli.") or name.split(".")[0] == "rich"}


def test_laws_load_no_room_but_their_own() -> None:
    assert not loaded("import brenier; brenier.GaussianMixture, brenier.Empirical, brenier.load_target") & LAWS


def test_public_names_are_listed_and_are_what_they_are_called() -> None:
    assert {"probe", "plan", "sample", "evaluate", "w2", "summary", "table", *ROOMS} <= set(dir(brenier))
    for name in dir(brenier):
        found = getattr(brenier, name)
        assert found.__name__ == (f"brenier.{name}" if name in ROOMS else name)


@pytest.mark.parametrize("folder", FACES, ids=lambda folder: folder.name)
def test_a_stub_exports_each_name_once_from_where_it_is_made(folder: Path) -> None:
    package = ".".join(("brenier", *folder.relative_to(Path(str(brenier.__file__)).parent).parts))
    stub = ast.parse((folder / "__init__.pyi").read_text()).body
    stated = [(node.module, alias) for node in stub if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = sorted(alias.name for _, alias in stated)
    listed = [ast.literal_eval(node.value) for node in stub if isinstance(node, ast.Assign)]
    exported = listed[0] if listed else [alias.asname for _, alias in stated]  # to type checkers, these alone
    assert names == sorted(exported) == dir(import_module(package))
    for module, alias in stated:
        made = getattr(import_module(package), alias.name)
        assert module in (package, getattr(made, "__module__", module))


@pytest.mark.parametrize("folder", FACES, ids=lambda folder: folder.name)
def test_no_module_shares_its_name_with_a_public_name_beside_it(folder: Path) -> None:
    # Importing the module would put it in the place of the name.
    package = "brenier" + "".join(f".{part}" for part in folder.relative_to(Path(str(brenier.__file__)).parent).parts)
    names = {name for name in import_module(package).__all__ if not (folder / name / "__init__.py").exists()}
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert not names & modules - {"complexity", "scales"}


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'brenier' has no attribute 'prob'"):
        brenier.prob  # noqa: B018 - asking for it is the test


def test_names_come_by_star_and_survive_pickling() -> None:
    space: dict[str, object] = {}
    exec("from brenier import *", space)
    assert set(dir(brenier)) <= set(space)
    law = pickle.loads(pickle.dumps(brenier.GaussianMixture([1.0], [[0.0]], 1.0)))  # noqa: S301 - our own bytes
    assert isinstance(law, brenier.GaussianMixture)


def test_types_ship() -> None:
    assert Path(str(brenier.__file__)).with_name("py.typed").exists()


def test_help_says_what_a_function_takes_in_words() -> None:
    """And no union of all that an array can be."""
    for name in ("probe", "plan", "sample", "chain", "difficulty", "calibrate", "evaluate", "train", "w2", "Empirical"):
        shown = str(inspect.signature(getattr(brenier, name)))
        assert len(shown) < 900, name
        assert "_SupportsArray" not in shown, name
    assert "law: 'LawLike', snrs: 'Sequence[float] | ArrayLike | None' = None" in str(inspect.signature(brenier.probe))

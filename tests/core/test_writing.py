import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr

from brenier.core import writing as writing_module
from brenier.core.writing import atomic_path, atomic_paths, check_output, locked, write_dataset


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_whole_at_the_end(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.nc") as draft:
        assert draft.suffix == ".nc"
        assert draft.parent == tmp_path
        draft.write_text("new")
        assert not (tmp_path / "a.nc").exists()
    assert content(tmp_path) == {"a.nc": "new"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_no_file_and_the_old_one_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "b.png").write_text("old")
    with pytest.raises(error), atomic_paths(tmp_path / "a.nc", tmp_path / "b.png", force=True) as (first, second):
        first.write_text("new")
        second.write_text("half")
        raise error
    assert content(tmp_path) == {"b.png": "old"}


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_text("old")
    with pytest.raises(ValueError, match=r"exists.*--force"), atomic_path(tmp_path / "a.nc"):
        pytest.fail("the block must not run")
    with atomic_path(tmp_path / "a.nc", force=True) as draft:
        draft.write_text("new")
    assert content(tmp_path) == {"a.nc": "new"}


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists"), atomic_paths(tmp_path / "a.nc", tmp_path / "b.nc") as drafts:
        for draft in drafts:
            draft.write_text("new")
        (tmp_path / "b.nc").write_text("somebody else's")
    assert content(tmp_path) == {"b.nc": "somebody else's"}


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.nc").mkdir()
    for path, words in {
        tmp_path / "missing" / "a.nc": "does not exist",
        tmp_path / "folder.nc": "is a folder",
        tmp_path / "a.doc": "must end in .nc or .png",
        tmp_path / f"{'a' * 5000}.nc": "cannot be written: File name too long",
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            check_output(path, (".nc", ".png"), force=True)
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        refusal = pytest.raises(ValueError, match=r"a\.nc' cannot be written: File too large")
        with refusal, atomic_path(tmp_path / "a.nc") as draft:
            draft.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path) == {}


def test_new_files_get_the_permissions_that_the_user_gives_to_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_path(tmp_path / "a.json") as draft:
        draft.write_text(json.dumps(1))
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_same_dataset_makes_the_same_bytes(tmp_path: Path) -> None:
    data = xr.Dataset({"a": ("k", [1.0, 2.0])}, {"k": ["one", "two"]}, {"list": [1, 2], "text": ""})
    write_dataset(data, tmp_path / "a.nc")
    write_dataset(xr.load_dataset(tmp_path / "a.nc", engine="h5netcdf"), tmp_path / "b.nc")
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()


# Other processes

HELD = """
import os, signal, sys
from brenier.core.writing import atomic_paths
with atomic_paths(*sys.argv[1:], force=True) as drafts:
    drafts[0].write_text("half")
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A process that has begun to write files and stands still; it is killed in the end."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*names: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", HELD, *(str(tmp_path / name) for name in names)]
        begun.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        stream = begun[-1].stdout
        assert stream is not None
        assert stream.readline() == "writing\n"
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_drafts_of_a_killed_process_are_removed_by_the_next_and_those_of_a_live_one_are_not(
    tmp_path: Path, writing: Callable[..., subprocess.Popen[str]]
) -> None:
    (tmp_path / "a.nc").write_text("old")
    process = writing("a.nc", "a.png")
    drafts = {path for path in tmp_path.iterdir() if path.name != "a.nc"}
    assert len(drafts) == 2
    with atomic_path(tmp_path / "a.nc", force=True) as draft:
        draft.write_text("new")
    assert set(tmp_path.iterdir()) == drafts | {tmp_path / "a.nc"}
    process.kill()
    process.wait()
    with atomic_paths(tmp_path / "a.nc", tmp_path / "a.png", force=True) as new:
        assert set(tmp_path.iterdir()) == {*new, tmp_path / "a.nc"}
        new[0].write_text("newer")
    assert content(tmp_path) == {"a.nc": "newer", "a.png": ""}


@pytest.mark.parametrize("name", ["b.nc", "a.png", "a.nc.nc", "ab.nc", "a-b.nc", "A.nc"])
def test_drafts_of_other_files_stay(tmp_path: Path, name: str) -> None:
    left = tmp_path / f".{Path(name).stem}.brenier-0123456789ab{Path(name).suffix}"
    left.write_text("")
    for path in (".a.brenier-notes.nc", ".a.nc", "a.brenier-0123456789ab.nc", ".a.brenier-0123456789abc.nc"):
        (tmp_path / path).write_text("mine")
    with atomic_path(tmp_path / "a.nc") as draft:
        draft.write_text("")
    assert left.exists()
    assert len(content(tmp_path)) == 6


@pytest.mark.parametrize("stem", ["a" * 252, "é" * 126, "図" * 84, "🙂" * 63, "a[b]*?", "a.b", "$x_1^2$", "a\nb", " "])
def test_names_of_any_letters_are_written_and_cleaned_up(tmp_path: Path, stem: str) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / f"{stem}.nc") as draft:
        left = draft
        raise RuntimeError
    left.write_text("as if it had been killed")
    with atomic_path(tmp_path / f"{stem}.nc") as draft:
        draft.write_text("new")
    assert content(tmp_path) == {f"{stem}.nc": "new"}


def test_of_two_writers_of_one_file_the_later_is_refused_or_replaces_it_with_force(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.nc", force=True) as forced, ExitStack() as stack:
        second = stack.enter_context(atomic_path(tmp_path / "a.nc"))
        first = stack.enter_context(atomic_path(tmp_path / "a.nc"))
        assert len({forced, first, second}) == len(content(tmp_path)) == 3
        for draft, text in ((first, "first"), (second, "second"), (forced, "forced")):
            draft.write_text(text)
        with pytest.raises(ValueError, match=r"a\.nc' exists: give another name"):
            stack.close()
        assert (tmp_path / "a.nc").read_text() == "first"
    assert content(tmp_path) == {"a.nc": "forced"}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_made_at_the_last_moment_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """After all checks, when the first of two has its name already: it is taken back, the other's is not touched."""
    real = os.link

    def late(draft: Path, target: Path) -> None:
        if not links:
            raise PermissionError(errno.EPERM, "no hard links here")
        if target.name == "b.nc":
            target.write_text("somebody else's")
        real(draft, target)

    monkeypatch.setattr(os, "link", late)
    if links:
        with pytest.raises(ValueError, match=r"b\.nc' exists"), atomic_paths(tmp_path / "a.nc", tmp_path / "b.nc"):
            pass
        assert content(tmp_path) == {"b.nc": "somebody else's"}
    else:
        with atomic_paths(tmp_path / "a.nc", tmp_path / "b.nc") as drafts:
            drafts[0].write_text("a")
        assert content(tmp_path) == {"a.nc": "a", "b.nc": ""}


def test_a_folder_that_is_gone_or_replaced_by_a_file_is_one_line(tmp_path: Path) -> None:
    for become in (lambda path: None, lambda path: path.write_text("")):
        (tmp_path / "out").mkdir()
        with (
            pytest.raises(ValueError, match=r"cannot be written|does not exist"),
            atomic_path(tmp_path / "out" / "a.nc"),
        ):
            shutil.rmtree(tmp_path / "out")
            become(tmp_path / "out")
    assert content(tmp_path) == {"out": ""}


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    with locked(tmp_path) as mine, locked(tmp_path) as second:
        assert (mine, second) == (True, False)
    with locked(tmp_path) as again:
        assert again


def test_without_locks_files_are_written_and_leftovers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".a.brenier-0123456789ab.nc").write_text("perhaps alive")
    for system in (None, SimpleNamespace(flock=unknown, LOCK_EX=2, LOCK_NB=4)):
        monkeypatch.setattr(writing_module, "fcntl", system)
        with atomic_path(tmp_path / "a.nc", force=True) as draft, locked(tmp_path) as held:
            assert held
            draft.write_text("new")
        assert content(tmp_path) == {"a.nc": "new", ".a.brenier-0123456789ab.nc": "perhaps alive"}

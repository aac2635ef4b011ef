import json
import resource
from pathlib import Path

import pytest
import xarray as xr

from brenier.core.writing import atomic_path, atomic_paths, check_output, write_dataset


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

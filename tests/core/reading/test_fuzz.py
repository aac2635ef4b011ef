"""Whatever a file holds, it is read, or refused in one line, in bounded memory, and nothing is written.

`make test` tries 500 files, the same every time; `make fuzz` as many as `BRENIER_FUZZ` says, and others every time.
"""

import gzip
import io
import json
import os
import resource
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import brenier
from brenier.catalog import load_target
from brenier.cli import main
from brenier.core import records
from brenier.core.reading.read import READERS, TABLES, read_array
from brenier.sampling.schedule import Schedule

# What hypothesis says of itself; it would hide what it found.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

CASES = int(os.environ.get("BRENIER_FUZZ", "500"))
SPACE = 2 * 2**30  # bytes of address space that reading a file of a few kB may take
SUFFIXES = (*READERS, *TABLES, ".zip")
NETWORK = Path(str(brenier.__file__)).parent / "resources" / "digits-network"
POINTS = np.random.default_rng(0).normal(size=(6, 2))
MIXTURE = {"type": "gaussian-mixture", "weights": [1, 2], "means": [[0, 0], [1, 1]], "covariances": [1, [1, 2]]}


def image(kind: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert(mode).save(stream, kind)
    return stream.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def written(write: Callable[[Path], object], name: str = "file") -> bytes:
    """What a library writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def frame() -> pd.DataFrame:
    return pd.DataFrame(POINTS, columns=["a", "b"])


def matlab(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"x": POINTS})


def hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["X"] = POINTS


def netcdf(path: Path) -> None:
    xr.Dataset({"x": (("n", "d"), POINTS)}).to_netcdf(path, engine="h5netcdf")


def safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": POINTS}, path)


def store(path: Path) -> None:
    """A Zarr store; the folder's name says of which version."""
    import zarr

    zarr.create_array(path, data=POINTS, zarr_format=2 if "2" in path.name else 3)


def stored(name: str) -> bytes:
    """A file of a Zarr store, which is named first."""
    folder, file = name.split("/", 1)
    with tempfile.TemporaryDirectory() as base:
        store(Path(base, folder))
        return Path(base, folder, file).read_bytes()


def text(separator: str) -> bytes:
    return frame().to_csv(index=False, sep=separator).encode()


# A valid file of every kind, by its suffix; for folders by the name of the file in it that is damaged.
FILES: dict[str, Callable[[], bytes]] = {
    ".npy": lambda: written(lambda path: np.save(path, POINTS), "file.npy"),
    ".npz": lambda: written(lambda path: np.savez_compressed(path, x=POINTS), "file.npz"),
    ".csv": lambda: text(","),
    ".tsv": lambda: text("\t"),
    ".csv.gz": lambda: gzip.compress(text(","), mtime=0),
    ".tsv.gz": lambda: gzip.compress(text("\t"), mtime=0),
    ".parquet": lambda: written(frame().to_parquet),
    ".feather": lambda: written(frame().to_feather),
    ".arrow": lambda: written(frame().to_feather),
    ".pt": lambda: written(lambda path: torch.save(torch.from_numpy(POINTS), path)),
    ".pth": lambda: written(lambda path: torch.save({"x": torch.from_numpy(POINTS)}, path)),
    ".safetensors": lambda: written(safetensors),
    ".h5": lambda: written(hdf5),
    ".hdf5": lambda: written(hdf5),
    ".h5ad": lambda: written(hdf5),
    ".nc4": lambda: written(netcdf),
    ".mat": lambda: written(matlab, "file.mat"),
    ".nc": lambda: bytes(saved().to_netcdf(engine="h5netcdf")),
    ".zip": lambda: archive({"0/a.png": image("png"), "1/b.png": image("png"), "dataset.json": b'{"labels": null}'}),
    "mixture.json": lambda: json.dumps(MIXTURE).encode(),
    "schedule.json": lambda: Schedule([10, 1, 0.1, 0], "euler", criterion="mine").to_json().encode(),
    "images/a.png": lambda: image("png"),
    "images/a.jpg": lambda: image("jpeg"),
    "images/a.gif": lambda: image("gif", "P"),
    "tables/a.parquet": lambda: written(frame().to_parquet),
    "two2.zarr/.zarray": lambda: stored("two2.zarr/.zarray"),
    "two2.zarr/0.0": lambda: stored("two2.zarr/0.0"),
    "three.zarr/zarr.json": lambda: stored("three.zarr/zarr.json"),
    "network/config.json": (NETWORK / "config.json").read_bytes,
    "network/model.safetensors": (NETWORK / "model.safetensors").read_bytes,
}
KINDS = list(FILES)


@cache
def saved() -> xr.Dataset:
    return brenier.probe("two-points", [1.0, 2.0], progress=False)


@cache
def valid(kind: str) -> bytes:
    return FILES[kind]()


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An .npy file of this header."""
    body = header.encode("latin1").ljust(118) + b"\n"
    return b"\x93NUMPY" + version + len(body).to_bytes(2, "little") + body + content


HOSTILE: list[bytes] = [
    b"",
    b"\0" * 1000,
    b"\xff\xfe" + "1,2\n".encode("utf-16-le") * 9,
    b"1,2\n" * 3 + b"\0,1\n",
    b"a\rb\r1\r2",
    b'"a\nb",c\n1,2\n3,4\n',
    b"1," * 1_000_000,
    b"1," * 200_000 + b"\n" + b"2," * 200_000 + b"\n",
    b"\n" * 100_000,
    b"9" * 5000 + b",1\n2,3\n",
    b"1e999,nan\n-inf,2\n",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"type": "gaussian-mixture", "weights": [1e400], "means": [[1]], "covariances": [1]}',
    b'{"type": "gaussian-mixture", "weights": [' + b"9" * 5000 + b'], "means": [[1]], "covariances": [1]}',
    b'{"sigmas": [' + b"9" * 5000 + b', 0], "solver": "euler", "criterion": "x"}',
    b'{"sigmas": [2, 1], "solver": "euler\\nb", "criterion": "a\\nb", "law": "\\u0000"}',
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2), }"),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }", bytes(16)),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }"),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807), }"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n(S'false'\ntR."),
    npy("{'descr': [('a', '<f8'), ('b', '<U3')], 'fortran_order': False, 'shape': (1,), }", bytes(20)),
    npy("{'descr': '<U1000000000', 'fortran_order': False, 'shape': (9,), }"),
    npy("{'descr': '<f8', 'shape': (1,), }" + "(" * 50),
    npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }", bytes(8)),
    archive({"x.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", bytes(800))}),
    archive({"../../x.npy": valid(".npy"), "/etc/y.npy": valid(".npy"), "a\nb.npy": valid(".npy")}),
    archive({"x.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (400000000,), }") + bytes(4_000_000)}),
    archive({f"{k}.png": image("png") for k in range(3)} | {"../b.png": image("png"), "/c.png": image("png")}),
    archive({"a.png": image("png"), "dataset.json": b"[" * 100_000}),
    archive({"a.png": bytes(4_000_000)}),
    gzip.compress(bytes(4_000_000), mtime=0),
    gzip.compress(b"1,2\n" * 3, mtime=0) * 3,
    image("png")[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + image("png")[24:],
    image("png")[:16] + (0).to_bytes(4, "big") * 2 + image("png")[24:],
]
NUMBERS = [0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]
CHUNKS = st.one_of(
    st.sampled_from(
        [b"\0", b"\n", b"\r", b'"', b",", b"nan", b"-", b"1e309", b"\xc3", b"\xff" * 4, b"{", b"[", b"\0" * 64]
    ),
    st.builds(
        lambda number, size: (number % 256**size).to_bytes(size, "little"),
        st.sampled_from(NUMBERS),
        st.sampled_from([1, 2, 4, 8]),
    ),
    st.binary(min_size=1, max_size=16),
)
NAMES = st.text(
    st.one_of(
        st.sampled_from("$_{}^%\\n\n\r\t'\" :;*?[]-#&<>\u2028é図🙂\u202e\u0300"),
        st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)),
    ),
    min_size=1,
    max_size=40,
)


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """The content, cut, flipped, overwritten, with something in between, or something else altogether."""
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["cut", "flip", "overwrite", "insert", "repeat", "remove", "hostile"])):
            case "cut":
                content = content[:at]
            case "flip" if at < len(content):
                content = content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
            case "overwrite":
                chunk = draw(CHUNKS)
                content = content[:at] + chunk + content[at + len(chunk) :]
            case "insert":
                content = content[:at] + draw(CHUNKS) + content[at:]
            case "repeat":
                content = content[:at] + content[max(0, at - 20) : at] * draw(st.integers(1, 50)) + content[at:]
            case "remove":
                content = content[:at] + content[at + draw(st.integers(1, 50)) :]
            case _:
                content = draw(st.sampled_from(HOSTILE)) if draw(st.integers(0, 3)) == 0 else content
    return content


@st.composite
def files(draw: st.DrawFn, kind: str) -> tuple[str, bytes]:
    """The name of a file, in its folder where it has one, and what is in it."""
    content = draw(damages(valid(kind)))
    if "/" in kind:
        return kind, content
    suffix = "." + kind.split(".", 1)[1]
    ending = draw(st.sampled_from([suffix] * 6 + [suffix.upper(), *SUFFIXES, ".json", ".txt", ""]))
    name = draw(st.one_of(st.just("file"), NAMES)) + ending
    assume(len(name.encode()) < 250 and name not in (".", ".."))
    return name, content


def placed(folder: Path, name: str, content: bytes) -> Path:
    """Where the file is, or the folder around it that is read as one thing."""
    path = folder / name
    if "/" not in name:
        path.write_bytes(content)
        return path
    if path.parent.suffix == ".zarr":
        store(path.parent)
        path.write_bytes(content)
        return path.parent
    path.parent.mkdir()
    if path.parent.name == "network":
        for other in NETWORK.iterdir():
            shutil.copy(other, path.parent)
    else:
        other = "tables/a.parquet" if path.suffix == ".parquet" else "images/a.png"
        path.with_name(f"b{Path(other).suffix}").write_bytes(valid(other))
    path.write_bytes(content)
    return path.parent


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def one_line(text: str) -> bool:
    return 0 < len(text) < 2000 and len(text.splitlines()) == 1


def reading(read: Callable[[], object]) -> None:
    """It returns, or raises one line; what it warns of is for users, and one line, too."""
    said: str | None = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            read()
        except (ValueError, TypeError) as error:
            said = str(error)
    assert said is None or one_line(said), repr(said)[:3000]
    for warning in told:
        assert warning.category is UserWarning, warning
        assert one_line(str(warning.message)), warning


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Any:
    """What would take more memory than it may finds none."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPACE, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def searched(cases: int) -> Callable[[Any], Any]:
    """So many examples: in `make test` the same ones every time."""
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=max(1, cases), derandomize="BRENIER_FUZZ" not in os.environ, suppress_health_check=health
    )


def test_every_kind_that_is_read_is_tried() -> None:
    assert set(SUFFIXES) == {kind if kind.startswith(".") else Path(kind).parent.suffix for kind in FILES} - {""}


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_file_is_read(tmp_path: Path, kind: str) -> None:
    path = placed(tmp_path, kind if "/" in kind else f"file{kind}", valid(kind))
    found = (
        Schedule.from_json(path)
        if kind == "schedule.json"
        else records.read(path)
        if kind == ".nc"
        else load_target(path)
    )
    assert found is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_or_refused_in_one_line(kind: str) -> None:
    valid(kind)  # made before examples are drawn: libraries that are imported for it take random numbers

    @searched(CASES * 9 // 10 // len(KINDS))
    @given(files(kind))
    def check(file: tuple[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = placed(Path(folder), *file)
            before = contents(Path(folder))
            for read in (read_array, load_target, records.read, Schedule.from_json):
                reading(lambda read=read: read(str(path)))
            assert contents(Path(folder)) == before

    check()


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_file_is_read_or_refused_in_one_line(tmp_path: Path, number: int) -> None:
    for suffix in (*SUFFIXES, ".json"):
        path = tmp_path / f"file{suffix}"
        path.write_bytes(HOSTILE[number])
        for read in (read_array, load_target, records.read, Schedule.from_json):
            reading(lambda read=read, path=path: read(str(path)))
        path.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["sample", "show"])
def test_a_command_ends_with_0_or_with_2_and_one_line(capsys: pytest.CaptureFixture[str], command: str) -> None:
    kinds = [kind for kind in KINDS if not kind.startswith("network") and valid(kind)]
    options = {"sample": ["-n", "2", "--steps", "2", "--criterion", "karras", "-q"], "show": []}[command]

    @searched(CASES // 20)
    @given(st.sampled_from(kinds).flatmap(files))
    def check(file: tuple[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("default")
            path, output = placed(Path(folder), *file), Path(folder) / "output.npy"
            before = contents(Path(folder))
            code = main([command, *options, *(["-o", str(output)] if command == "sample" else []), "--", str(path)])
            said = capsys.readouterr()
            lines = said.err.splitlines()
            assert all(line.startswith("brenier: ") for line in lines), said.err[-3000:]
            assert code in (0, 2)
            if code == 2:
                assert said.out == ""
                assert sum(not line.startswith("brenier: warning: ") for line in lines) == 1, said.err[-3000:]
            elif command == "sample":
                assert len(np.load(output)) == 2
                output.unlink()
            assert contents(Path(folder)) == before

    check()

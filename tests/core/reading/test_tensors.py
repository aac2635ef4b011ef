"""Tensors on disk: any kind of them, and nothing else."""

import io
import json
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from brenier.core.reading.read import read_array

X = torch.tensor([[0.5, -3.0], [1.25, 6.0]])


def refused(source: object, match: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=match) as caught:
        read_array(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.int8])
def test_tensors_of_any_type_keep_every_value(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    file = tmp_path / f"a{kind}"
    x = X.to(dtype)
    torch.save(x, file) if kind == ".pt" else save_file({"x": x}, file)
    np.testing.assert_array_equal(read_array(file), x.double())


def test_a_tensor_is_found_in_what_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({"epoch": 3, "model": {"x": X, "more": [X + 1, (X + 2,)]}}, file)
    np.testing.assert_array_equal(read_array(f"{file}:model/x"), X)
    np.testing.assert_array_equal(read_array(f"{file}:model/more/0"), X + 1)
    np.testing.assert_array_equal(read_array(f"{file}:model/more/1/0"), X + 2)
    refused(file, "holds 3 arrays: .* NAME = model/x, model/more/0, model/more/1/0")
    torch.save((X, "a name", 3), file)
    np.testing.assert_array_equal(read_array(file), X)
    torch.save(torch.nn.Parameter(X), file)
    np.testing.assert_array_equal(read_array(file), X)
    torch.save(X.T[1:], file)
    np.testing.assert_array_equal(read_array(file), X.T[1:])
    torch.save({"lr": 0.1}, file)
    refused(file, "holds no array")
    shared: list[object] = [X]
    for _ in range(60):
        shared = [shared, shared]
    torch.save(shared, file)
    np.testing.assert_array_equal(read_array(file), X)


def test_a_tensor_that_is_not_dense_is_made_so_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save(X.to_sparse(), file)
    np.testing.assert_array_equal(read_array(file), X)
    torch.save(torch.ones(2, device="meta"), file)
    refused(file, "a meta tensor has a shape and no values")
    torch.save(torch.ones(1).expand(2**38), file)
    refused(file, "takes 1,024.0 GiB of memory")
    torch.save(torch.ones(2, dtype=torch.complex64), file)
    refused(file, "complex", TypeError)


def test_nothing_but_tensors_is_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.mkdir, (str(tmp_path / "ran"),)

    file = tmp_path / "a.pt"
    for new in (True, False):
        for content in (Bomb(), {"x": X, "more": Bomb()}, np.zeros(2), torch.nn.Linear(2, 2)):
            torch.save(content, file, _use_new_zipfile_serialization=new)
            refused(file, "holds Python objects, which are never loaded", TypeError)
    assert not (tmp_path / "ran").exists()
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    refused(file, "TorchScript")


@pytest.mark.parametrize("count", [b"M\xe8\x03", b"\x8a\x06\0\0\0\0\0\1"])
def test_a_storage_that_claims_more_than_the_file_has_is_refused(tmp_path: Path, count: bytes) -> None:
    stream = io.BytesIO()
    torch.save(torch.arange(100.0), stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(tmp_path / "a.pt", "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            assert not entry.endswith("data.pkl") or b"Kd" in content
            target.writestr(entry, content.replace(b"Kd", count) if entry.endswith("data.pkl") else content)
    refused(tmp_path / "a.pt", "damaged, or not a file that torch reads")


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    header = json.dumps({"x": {"dtype": "F64", "shape": [2**37], "data_offsets": [0, 2**40]}}).encode()
    for length in (len(header), 2**60):
        file.write_bytes(struct.pack("<Q", length) + header + bytes(64))
        refused(file, "damaged, or not a file that safetensors reads: .*header")

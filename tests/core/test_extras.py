import pytest

from brenier.core.extras import library


def test_a_library_is_imported() -> None:
    assert library("json.decoder", "none", "tests").JSONDecoder().decode("[1]") == [1]


def test_a_missing_library_is_named_with_its_extra() -> None:
    message = (
        r"^pages need nowhere_to_be_found: pip install 'brenier\[report\]' \(No module named 'nowhere_to_be_found'\)"
    )
    with pytest.raises(ValueError, match=message):
        library("nowhere_to_be_found.inside", "report", "pages")

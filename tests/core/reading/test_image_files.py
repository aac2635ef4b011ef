import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brenier.core.reading.image_files import image_files, image_labels


def add(folder: Path, *names: str) -> Path:
    """Files of these names in a folder; those that end in / are folders."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")
    return folder


def names_in(source: Path) -> list[str]:
    with image_files(source) as files:
        return files.names


def refused(source: Path, *words: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind) as caught:
        image_labels(source)
    text = str(caught.value)
    assert "\n" not in text
    for word in (source.name, *words):
        assert word in text, text


def archived(file: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    add(
        tmp_path,
        "cat/b.PNG",
        "cat/a.jpg",
        "cat/notes.txt",
        "cat/old/c.png",
        "dog/.d.png",
        "dog/e.WebP",
        ".git/f.png",
        "empty/",
    )
    with pytest.warns(
        UserWarning, match="4 entries are no images, and left out: '.git/', 'cat/notes.txt', 'cat/old/', ..."
    ) as said:
        assert names_in(tmp_path) == ["cat/a.jpg", "cat/b.PNG", "dog/e.WebP"]
    assert len(said) == 1
    add(tmp_path / "one", "a.png", "Thumbs.db")
    with pytest.warns(UserWarning, match="1 entry is no image, and left out: 'Thumbs.db'"):
        names_in(tmp_path / "one")


def test_images_at_the_top_and_in_subfolders_are_no_one_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at its top \('a.png'\) and in subfolders \('cat/b.png'\)"):
        names_in(add(tmp_path, "a.png", "cat/b.png"))


def test_images_that_lie_too_deep_are_found_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images here or in its subfolders .*: 'train/cat' lies too deep"):
        names_in(add(tmp_path, "train/cat/a.png", "val/cat/b.png"))


def test_what_only_looks_like_an_image_is_left_out(tmp_path: Path) -> None:
    add(tmp_path, "a.png/", "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="1 entry is no image, and left out: 'c.png'"):
        assert names_in(tmp_path) == ["b.png"]


def test_an_archive_keeps_to_its_own_folders(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    file = archived(
        tmp_path / "a.zip", dict.fromkeys(["a.png", "../b.png", "/c.png", "C:/d.png", "e/../../f.png", ".g.png"], "")
    )
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("__MACOSX/._a.png", "")
    with pytest.warns(UserWarning, match="7 entries are no images"):
        assert names_in(file) == ["a.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_one_folder_around_an_archive_is_looked_through(tmp_path: Path) -> None:
    file = archived(
        tmp_path / "a.zip", {"data/dog/1.png": "", "data/cat/2.png": "", "data/dataset.json": '{"labels": null}'}
    )
    assert names_in(file) == ["cat/2.png", "dog/1.png"]
    assert names_in(archived(tmp_path / "b.zip", {"data\\a.png": "", "data\\b.png": ""})) == [
        "data/a.png",
        "data/b.png",
    ]


def test_subfolders_are_labels_in_the_order_of_the_images(tmp_path: Path) -> None:
    add(tmp_path / "folder", "dog/1.png", "cat/3.png", "cat/2.png", "10/a.png")
    np.testing.assert_array_equal(image_labels(tmp_path / "folder"), ["10", "cat", "cat", "dog"])
    file = archived(tmp_path / "a.zip", {"dog/1.png": "", "cat/3.png": "", "cat/2.png": ""})
    np.testing.assert_array_equal(image_labels(file), ["cat", "cat", "dog"])
    refused(add(tmp_path / "none", "a.png"), "no labels", "subfolder per class")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([6, 9, 9], [6, 9, 9]),
        ([[0, 1, 0], [1, 0, 0], [0.0, 0.0, 1.0]], [1, 0, 2]),
        (["cat", "dog", "cat"], ["cat", "dog", "cat"]),
    ],
)
def test_labels_in_a_file_beside_the_images(tmp_path: Path, labels: list[object], expected: list[object]) -> None:
    names = ["00000/a.png", "00000/b.png", "00001/a.png"]
    pairs = [[name, label] for name, label in zip(names, labels, strict=True)]
    content = json.dumps({"labels": [*pairs[::-1], ["00009/more.png", 3]]})
    file = archived(tmp_path / "a.zip", dict.fromkeys(names, "") | {"dataset.json": content})
    np.testing.assert_array_equal(image_labels(file), expected)
    (add(tmp_path / "folder", *names) / "dataset.json").write_text(content)
    np.testing.assert_array_equal(image_labels(tmp_path / "folder"), expected)


@pytest.mark.parametrize(
    ("content", "words", "kind"),
    [
        ('{"labels": null}', ["have no labels"], ValueError),
        ('{"labels": [["a.png", 1]]}', ["no label for 1", "'b.png'"], ValueError),
        ('{"labels": [["a.png", 1], ["b.png", "x"]]}', ["partly numbers"], TypeError),
        ('{"labels": [["a.png", [1, 1]], ["b.png", [0, 1]]]}', ["'a.png'", "[1, 1]", "single 1"], TypeError),
        ('{"labels": [["a.png", 0.5], ["b.png", 1]]}', ["'a.png'", "0.5"], TypeError),
        ('{"labels": [["a.png", true], ["b.png", false]]}', ["True"], TypeError),
        ('{"labels": [["a.png"]]}', ["damaged"], ValueError),
        ('{"labels": 3}', ["damaged"], ValueError),
        ("[]", ["damaged"], ValueError),
        ('{"labels"', ["damaged"], ValueError),
        ("[" * 100_000, ["damaged"], ValueError),
    ],
)
def test_labels_that_are_none_are_refused(
    tmp_path: Path, content: str, words: list[str], kind: type[Exception]
) -> None:
    refused(archived(tmp_path / "a.zip", {"a.png": "", "b.png": "", "dataset.json": content}), *words, kind=kind)


def test_labels_go_with_the_rows_of_the_points(tmp_path: Path) -> None:
    from brenier.core.reading.read import read_array

    for name, grey in (("b/2.png", 0), ("a/9.png", 255), ("b/10.png", 51)):
        add(tmp_path, name)
        Image.new("L", (1, 1), grey).save(tmp_path / name)
    points, labels = read_array(tmp_path)[:, 0, 0], image_labels(tmp_path)
    np.testing.assert_allclose(points[labels == "a"], [1])
    np.testing.assert_allclose(points[labels == "b"], [51 / 127.5 - 1, -1], atol=1e-7)

"""Labels of image folders: one class list per data set, whatever the folders happen to hold."""

import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from geomadv.errors import InputError
from geomadv.images import ImageSet, load_images


def put(root: Path, *files: str) -> Path:
    """Writes one small grey image a name; those that end with / are empty folders."""
    for k, name in enumerate(files):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            Image.new("L", (4, 4), k).save(path)
    return root


def load(root: Path, split: str = "train", **settings: Any) -> ImageSet:
    return load_images(root, split, size=4, **settings)


def classes(images: ImageSet) -> list[str]:
    """The class names of the images, in their order."""
    return [images.class_names[k] for k in images.labels.tolist()]


@pytest.fixture
def case(data_dir: Path, tmp_path: Path) -> Any:
    """Unpacks one of the folders that people bring."""
    if not (data_dir / "field-cases").is_dir():
        pytest.skip("no field-cases/ in the folder of real data")

    def unpack(name: str) -> Path:
        with tarfile.open(data_dir / "field-cases" / f"{name}.tar.gz") as tar:
            tar.extractall(tmp_path / name, filter="data")
        return tmp_path / name

    return unpack


def test_validation_images_without_classes_are_refused(case: Any) -> None:
    root = case("flat_val")
    assert classes(load(root)) == ["a", "b", "c"]
    for folder, split in ((root, "test"), (root / "val", "train")):
        with pytest.raises(
            InputError, match=r"val/images holds 3 images of unknown classes.*annotations"
        ):
            load(folder, split)
    assert not load(root / "val" / "images").has_labels
    lines = (f"val_{k}.png\t{name}\t0\t0\t3\t3\n" for k, name in enumerate("cab"))
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    images = load(root, "test")
    assert images.class_names == ("a", "b", "c")
    assert images.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "extra",
    [".git/x.png", "__MACOSX/a/._0.png", "__pycache__/a.png", "a/.ipynb_checkpoints/0.png"],
)
def test_what_systems_leave_behind_is_no_class(extra: str, tmp_path: Path) -> None:
    images = load(put(tmp_path, "a/0.png", "a/1.png", "b/0.png", "b/1.png", extra))
    assert images.class_names == ("a", "b")
    assert set(classes(images)) == {"a", "b"}


@pytest.mark.parametrize("words", [("train", "test"), ("Train", "Val"), ("training", "validation")])
def test_all_splits_share_one_class_list(words: tuple[str, str], tmp_path: Path) -> None:
    train, test = words
    files = ("a/0.png", "d/0.png"), ("b/0.png", "c/0.png", "d/")
    put(tmp_path, *(f"{train}/{f}" for f in files[0]), *(f"{test}/{f}" for f in files[1]))
    for split, labels in (("train", [0, 3]), ("test", [1, 2])):
        images = load(tmp_path, split)
        assert images.class_names == ("a", "b", "c", "d")
        assert images.labels.tolist() == labels
        assert images.name == f"{tmp_path.name}-{split}"


def test_the_split_with_labels_is_taken(tmp_path: Path) -> None:
    put(tmp_path, "train/a/images/0.png", "train/b/images/0.png", "test/images/x.png")
    with pytest.raises(InputError, match="test/images holds 1 images of unknown classes"):
        load(tmp_path, "test")
    put(tmp_path, "val/images/y 1.png")
    (tmp_path / "val" / "val_annotations.txt").write_text("y 1.png\tb\n")
    assert load(tmp_path, "test").labels.tolist() == [1]


def test_annotations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "val/images/x.png", "val/images/y.png")
    (tmp_path / "val" / "val_annotations.txt").write_text("x.png\ta\nz.png\ta\nw.png\n")
    with pytest.raises(InputError, match=r"1 images are not in it, 1 of its .* 1 lines"):
        load(tmp_path, "test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, *(f"{c}/{k}.png" for c in ("bus", "train") for k in range(2)))
    assert load(tmp_path).class_names == ("bus", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("a/0.png", "b/x/0.png"), "b should be a class, but has images in the folder 'x'"),
        (("a/0.png", "notes/"), "notes should be a class, but has other files but no images"),
        (("a/0.png", "preview.png"), "holds 1 images .*'preview.png'.* beside folders of .*'a'"),
        (("a/", "b/"), "has no images"),
        (("images/0.png",), "images holds 1 images of unknown classes"),
        (("train/a/0.png", "val/0.png"), "val holds 1 images of unknown classes"),
        (("train/a/0.png", "val/a/"), "val has no images"),
    ],
)
def test_folders_that_could_be_misread_are_refused(
    files: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    put(tmp_path, *files)
    if (tmp_path / "notes").exists():
        (tmp_path / "notes" / "todo.txt").write_text("")
    with pytest.raises(InputError, match=message):
        load(tmp_path, "test")


def test_tables_of_two_splits_share_one_class_list(tmp_path: Path) -> None:
    put(tmp_path, "train/0.png", "test/0.png", "test/1.png")
    (tmp_path / "train" / "labels.csv").write_text("file,class_index,name\n0.png,0,cat\n")
    table = tmp_path / "test" / "labels.csv"
    table.write_text("file,class_index,name\n0.png,2,eel\n1.png,0,\n")
    assert load(tmp_path).class_names == ("cat", "1", "eel")
    assert load(tmp_path, "test").labels.tolist() == [2, 0]
    table.write_text("file,class_index,name\n0.png,0,dog\n")
    with pytest.raises(InputError, match=r"class 0 is 'dog' in .*, but 'cat' in the other split"):
        load(tmp_path, "test")


def test_tables_and_class_folders_must_agree(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/0.png", "train/dog/0.png", "val/0.png")
    table = tmp_path / "val" / "labels.csv"
    table.write_text("file,class_index,name\n0.png,1,dog\n")
    assert load(tmp_path, "test").labels.tolist() == [1]
    table.write_text("file,class_index,name\n0.png,0,dog\n")
    with pytest.raises(InputError, match="class 0 is 'dog'"):
        load(tmp_path, "test")
    table.write_text("file,class_index\n0.png,2\n")
    with pytest.raises(InputError, match="numbers classes up to 2, but class folders give 2"):
        load(tmp_path, "test")


def test_one_table_may_list_both_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/0.png", "test/0.png")
    (tmp_path / "labels.csv").write_text("file,class_index,name\ntest/0.png,1,b\ntrain/0.png,0,a\n")
    assert [load(tmp_path, s).labels.tolist() for s in ("train", "test")] == [[0], [1]]
    assert load(tmp_path).class_names == ("a", "b")


def test_a_class_has_one_name(tmp_path: Path) -> None:
    put(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("file,class_index,name\n0.png,0,cat\n1.png,0,dog\n")
    with pytest.raises(InputError, match=r"line 3: class 0 is called 'dog' here and 'cat' above"):
        load(tmp_path)

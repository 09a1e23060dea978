import pytest

from snnsc.data.folders import data_folder, list_files, same_classes, split_folder, subfolder
from snnsc.errors import DataError


@pytest.fixture
def tree(tmp_path):
    for name in ("b/2.png", "b/1.PNG", "a/sub/3.png", "a/.hidden", "a/Thumbs.db", ".git/x.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "set"


def test_files_are_sorted_and_hidden_ones_left_out(tree):
    files = list_files(tree, (".png",), 2)
    assert files.classes == ("a", "b")
    assert files.names == ("a/sub/3.png", "b/1.PNG", "b/2.png")
    assert files.labels_N.tolist() == [0, 1, 1]
    assert all(path.is_file() for path in files.paths)


def test_stamps_change_with_a_file(tree):
    before = list_files(tree, (".png",), 2).stamps()
    (tree / "b" / "2.png").write_bytes(b"xx")
    assert list_files(tree, (".png",), 2).stamps() != before
    assert [name for name, _, _ in before] == ["a/sub/3.png", "b/1.PNG", "b/2.png"]


@pytest.mark.parametrize("name", ["train", "Train", "TRAIN"])
def test_split_names_in_any_case(tmp_path, name):
    (tmp_path / name).mkdir()
    assert split_folder(tmp_path, ("train",)).name == name


def test_test_goes_before_val(tmp_path):
    for name in ("val", "Test"):
        (tmp_path / name).mkdir()
    assert split_folder(tmp_path, ("test", "val")).name == "Test"
    assert subfolder(tmp_path, ("other",)) is None


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such data root; .*data\.root.*--data-root.*SNNSC_DATA"):
        data_folder(tmp_path / "nowhere", "set")


def test_missing_folder_says_what_is_there(tree):
    with pytest.raises(DataError, match=r"data\.folder = 'other'.*has set"):
        data_folder(tree.parent, "other")


def test_missing_split(tree):
    with pytest.raises(DataError, match=r"set: no split folder test/ or val/"):
        split_folder(tree, ("test", "val"))


def test_wrong_number_of_classes(tree):
    with pytest.raises(DataError, match=r"2 class folders \(a, b\), but the recipe says 3 classes"):
        list_files(tree, (".png",), 3)


def test_wrong_class_names(tree):
    with pytest.raises(DataError, match=r"expected the class folders a, c; missing: c; not a class: b"):
        list_files(tree, (".png",), ("a", "c"))


def test_class_without_files(tree):
    (tree / "c").mkdir()
    with pytest.raises(DataError, match=r"set/c: no files in this class folder"):
        list_files(tree, (".png",), 3)


def test_unknown_ending(tree):
    (tree / "a" / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"a/notes\.txt: unknown file ending; expected \.png"):
        list_files(tree, (".png",), 2)


def test_a_link_to_nowhere(tree):
    (tree / "a" / "4.png").symlink_to(tree / "gone.png")
    with pytest.raises(DataError, match=r"4\.png: cannot be read"):
        list_files(tree, (".png",), 2).stamps()


def test_splits_with_other_classes(tree, tmp_path):
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "other" / "z").mkdir()
    for name in "az":
        (tmp_path / "other" / name / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match="only in one of them: b, z"):
        same_classes(list_files(tree, (".png",), 2), list_files(tmp_path / "other", (".png",), 2))

"""CSV files."""

import numpy as np
import pytest

from tests.zoo.data.trees import names_of, save_all
from zoo.data import DatasetError
from zoo.data.tables import load_table


@pytest.fixture
def write(tmp_path):
    """Writes a table beside the images 0.png to 5.png."""
    save_all(tmp_path, *(f"{number}.png" for number in range(6)))

    def write(text, name="table.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n0.png,cat\n1.png,dog\n",
        "\ufeffid,Label, Image_Path \r\n7,cat,0.png\r\n\r\n8,dog,1.png\r\n",
        "filename;class\n0.png;cat\n1.png;dog",
        "image\ttarget\n0.png\tcat\n1.png\tdog\n",
        '"path","category","note"\n"0.png","cat","a, b"\n"1.png","dog","two\nlines"\n',
        "0.png,cat\n1.png,dog\n",
        "0.PNG,cat\n1.png,dog\n",
    ],
)
def test_reads_the_forms_of_a_table(write, tmp_path, text):
    save_all(tmp_path, "0.PNG")
    dataset, val = load_table(write(text))
    assert val is None
    assert [(name.lower(), label) for name, label in names_of(dataset, tmp_path)] == [
        ("0.png", "cat"), ("1.png", "dog")
    ]  # fmt: skip
    assert dict(dataset.columns) == {}


def test_labels_that_are_numbers_are_names_in_natural_order(write, tmp_path):
    dataset, _ = load_table(write("file,label\n0.png,10\n1.png,2\n2.png,2\n"))
    assert dataset.classes == ("2", "10")
    assert dataset.labels.tolist() == [1, 0, 0]


def test_columns_are_given_by_name(write, tmp_path):
    table = write("file,label,breed\n0.png,cat,manx\n1.png,cat,sphynx\n")
    dataset, _ = load_table(table, label="Breed")
    assert dataset.classes == ("manx", "sphynx")
    with pytest.raises(DatasetError, match=r"for the label: expected 'colour'; .*'breed'"):
        load_table(table, label="colour")


def test_paths_may_be_absolute_or_in_folders(write, tmp_path):
    save_all(tmp_path, "deep/6.png")
    dataset, _ = load_table(write(f"file,label\n{tmp_path}/0.png,a\ndeep/6.png,b\n"))
    assert dataset.images == [str(tmp_path / "0.png"), str(tmp_path / "deep/6.png")]


def test_a_column_tells_the_split(write, tmp_path):
    rows = ["0.png,a,train", "1.png,b,Training", "2.png,a,val", "3.png,b,test"]
    train, val = load_table(write("\n".join(["file,label,split", *rows])))
    assert names_of(train, tmp_path) == [("0.png", "a"), ("1.png", "b")]
    assert names_of(val, tmp_path) == [("2.png", "a")]
    assert val.classes == ("a", "b")
    _, test = load_table(write("\n".join(["file,label,split", *rows[:2], rows[3]])))
    assert names_of(test, tmp_path) == [("3.png", "b")]
    with pytest.raises(DatasetError, match="has no training images of 'b'"):
        load_table(write("\n".join(["file,label,split", rows[0], "1.png,b,val"])))


def test_groups_are_a_column_or_found_in_names_or_guessed(write, tmp_path):
    table = write("file,label,group\n0.png,a,x\n1.png,b,x\n2.png,b,y\n")
    assert load_table(table)[0].columns["group"].tolist() == ["x", "x", "y"]
    assert load_table(table, group=r"(\d)")[0].columns["group"].tolist() == ["0", "1", "2"]
    save_all(tmp_path, *(f"p{n}_{view}.png" for n in range(2) for view in range(2)))
    names = [f"p{n}_{view}.png,{n}" for view in range(2) for n in range(2)]
    table = write("\n".join(["file,label", *names, "0.png,0", "1.png,1"]))
    groups = load_table(table)[0].columns["group"]
    np.testing.assert_array_equal(groups[:2], groups[2:4])
    assert len(set(groups.tolist())) == 4


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "lists no images|no column for the image"),
        ("file,label\n", "lists no images"),
        ("name,label\n0.png,a\n", "for the image: expected one of file, .*'name', 'label'"),
        ("file,label\n0.png,a\n1.png\n", "line 3 has 1 columns, fewer than are needed"),
        ("file,label\n0.png,a\n1.png,\n", "line 3 has no label"),
        ("file,label,group\n0.png,a,\n", "line 2 has no group"),
        ("file,label\n,a\n", "line 2 has no path"),
        ("0.png\n1.png\n", "line 1 has a path, but no label behind it"),
        ("file,label,split\n0.png,a,half\n", "line 2 has split 'half', expected train or val"),
        ("file,label\n0.png,a\nx.png,a\ny.png,b\n", "2 of 3 .*not exist, the first is .*x.png in "
         "line 3; paths are relative to"),
        ('file,label\n"0.png,a\n', "line 2 is no CSV: "),
    ],
)  # fmt: skip
def test_says_what_is_wrong_and_in_which_line(write, text, match):
    with pytest.raises(DatasetError, match=match):
        load_table(write(text))


def test_says_what_cannot_be_read(write, tmp_path):
    with pytest.raises(DatasetError, match=r"none\.csv cannot be read: No such file"):
        load_table(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="is no text in UTF-8"):
        load_table(write("file,label\n0.png,Bär\n", encoding="latin-1"))

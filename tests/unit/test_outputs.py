"""Where commands write is tried before they work, and nothing is overwritten in silence."""

import pytest

from hvg.core.errors import HvgError
from hvg.core.outputs import LOCK, MARK, refuse_existing, try_file, try_folder, unfinished


def test_trying_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.txt").write_text("a")
    for folder in ("there", "new", "new/deeper/still"):
        try_folder(tmp_path / folder, "out")
        try_file(tmp_path / folder / "a.txt", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a.txt"]


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for attempt in (lambda: try_folder(tmp_path / "file", "out"), lambda: try_folder(tmp_path / "file/a/b", "out")):
        with pytest.raises(HvgError, match=r"out: .* cannot be written: .*file is a file, where a folder belongs"):
            attempt()
    with pytest.raises(HvgError, match="folder cannot be written: it is a folder, expected a file"):
        try_file(tmp_path / "folder", "out")
    for name in ("x" * 300, "a/" + "x" * 300):
        with pytest.raises(HvgError, match="cannot be written: File name too long"):
            try_folder(tmp_path / name, "out")
    # The file itself would have a name that is short enough, but not while it is written.
    with pytest.raises(HvgError, match="cannot be written: File name too long"):
        try_file(tmp_path / ("x" * 250), "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def write(folder, request, overwrite=False):
    with unfinished(folder, request, overwrite):
        pass


def test_a_full_folder_needs_the_word(tmp_path):
    write(tmp_path, "a")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HvgError, match=r"is not empty \(it holds notes.txt\); give another out=, or overwrite=true"):
        write(tmp_path, "a")
    write(tmp_path, "a", overwrite=True)
    with pytest.raises(HvgError, match=r"notes.txt exists already; .*overwrite=true"):
        refuse_existing(tmp_path / "notes.txt", overwrite=False)
    refuse_existing(tmp_path / "notes.txt", overwrite=True)
    refuse_existing(tmp_path / "other.txt", overwrite=False)


def test_the_same_request_goes_on_where_it_failed_and_another_does_not(tmp_path):
    with pytest.raises(RuntimeError), unfinished(tmp_path / "out", "a", False):
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LOCK, MARK]
        raise RuntimeError
    # It has left nothing.
    assert not (tmp_path / "out").exists()
    with pytest.raises(RuntimeError), unfinished(tmp_path / "out", "b", False):
        (tmp_path / "out/part.txt").touch()
        raise RuntimeError
    with pytest.raises(HvgError, match="holds the unfinished output of another request"):
        write(tmp_path / "out", "a")
    write(tmp_path / "out", "b")
    assert not (tmp_path / "out" / MARK).exists()
    with pytest.raises(HvgError, match="is not empty"):
        write(tmp_path / "out", "b")


@pytest.mark.parametrize("mark", ["", "[]", "{}", "\0"])
def test_a_mark_of_somebody_else_is_no_permission(tmp_path, mark):
    (tmp_path / MARK).write_text(mark)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HvgError, match="is not empty"):
        write(tmp_path, "a")

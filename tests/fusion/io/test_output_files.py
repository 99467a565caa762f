"""Writing what a user has named: whole or not at all, and nothing of the user's is changed beside it."""

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from fusion.errors import UsageError
from fusion.io.files import is_partial
from fusion.io.output_files import check_output_file, check_output_folder, write_output, writing_output
from fusion.io.run_inputs import one_run, protect
from tests.builders.images import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="has neither modes, pipes nor /dev")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_new_file_has_what_umask_leaves_and_an_old_one_keeps_its_mode(tmp_path, umask):
    write_output(tmp_path / "new.csv", b"a")
    assert mode(tmp_path / "new.csv") == 0o640
    (tmp_path / "old.csv").write_bytes(b"a")
    for kept in (0o600, 0o664, 0o755):
        (tmp_path / "old.csv").chmod(kept)
        write_output(tmp_path / "old.csv", b"b")
        assert (mode(tmp_path / "old.csv"), (tmp_path / "old.csv").read_bytes()) == (kept, b"b")
    assert {path.name for path in tmp_path.iterdir()} == {"new.csv", "old.csv"}


def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/keep.csv").write_bytes(b"old")
    (tmp_path / "link.csv").symlink_to("real/keep.csv")
    (tmp_path / "second.csv").symlink_to("link.csv")
    (tmp_path / "dangling.csv").symlink_to("real/later/new.csv")
    write_output(tmp_path / "second.csv", b"new")
    write_output(tmp_path / "dangling.csv", b"newer")
    assert (tmp_path / "second.csv").is_symlink()
    assert (tmp_path / "real/keep.csv").read_bytes() == b"new"
    assert (tmp_path / "real/later/new.csv").read_bytes() == b"newer"


def test_a_second_name_of_a_file_keeps_what_it_has(tmp_path):
    """Backups are made of hard links: the other name is another file's then."""
    (tmp_path / "a.csv").write_bytes(b"old")
    (tmp_path / "backup.csv").hardlink_to(tmp_path / "a.csv")
    write_output(tmp_path / "a.csv", b"new")
    assert (tmp_path / "backup.csv").read_bytes() == b"old"


def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    check_output_file(tmp_path / "pipe", "--csv", [".csv"])  # a pipe has no ending, and is not waited for
    write_output(tmp_path / "pipe", b"x" * 200_000)
    reader.join(30)
    assert read == [b"x" * 200_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="has no /dev/stdout")  # noqa: PTH110
def test_standard_output_by_its_name_is_added_to_and_not_begun_anew(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fusion.io.output_files import write_output\n"
        "print('first', flush=True); write_output(Path(sys.argv[1]), b'second\\n'); print('third')"
    )
    (tmp_path / "link.csv").symlink_to("/dev/stdout")
    for name in ("/dev/stdout", "/dev/fd/1", tmp_path / "link.csv"):
        with (tmp_path / "out.txt").open("wb") as out:
            subprocess.run([sys.executable, "-c", code, str(name)], cwd=ROOT, stdout=out, check=True)
        assert (tmp_path / "out.txt").read_text() == "first\nsecond\nthird\n", name


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")  # noqa: PTH110
def test_a_full_device_is_told_by_the_name_it_was_given(tmp_path):
    with pytest.raises(OSError, match="No space left") as told:
        write_output(tmp_path.joinpath("/dev/full"), b"x")
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"old")
    with pytest.raises(TypeError), writing_output(tmp_path / "a.csv") as stream:
        stream.write(object())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.csv", b"old")]


def test_what_a_run_reads_is_not_written_over_by_whatever_name(tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes(b"precious")
    (tmp_path / "link.csv").symlink_to("table.csv")
    (tmp_path / "other.csv").hardlink_to(table)
    with one_run():
        protect([table, None, tmp_path / "absent.csv"])
        for name in ("table.csv", "link.csv", "other.csv", "../" + tmp_path.name + "/table.csv"):
            with pytest.raises(UsageError, match="is read in this run"):
                write_output(tmp_path / name, b"lost")
            with pytest.raises(UsageError, match="is read in this run"):
                check_output_file(tmp_path / name, "--export")
        with pytest.raises(UsageError, match="is read in this run"):
            check_output_folder(tmp_path, "-o", ["table.csv"])
        write_output(tmp_path / "new.csv", b"fine")
    assert table.read_bytes() == b"precious"
    write_output(table, b"another run")


def test_a_file_that_cannot_be_written_is_told_before_anything_is_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("folder", "is a directory"),
        ("file/a.csv", "not a directory"),
        ("n" * 300 + ".csv", "name too long"),
    ):
        with pytest.raises(UsageError, match="--csv: cannot write") as told:
            check_output_file(tmp_path / name, "--csv")
        assert words in told.value.found
    with pytest.raises(UsageError, match="-o: cannot write"):
        check_output_folder(tmp_path / "file", "-o")
    check_output_file(tmp_path / "not/there/yet.csv", "--csv", [".csv"])
    check_output_folder(tmp_path / "not/there", "-o")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_write_protection_counts(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"old")
    (tmp_path / "a.csv").chmod(0o444)
    with pytest.raises(UsageError, match="cannot write"):
        check_output_file(tmp_path / "a.csv", "--csv")
    with pytest.raises(PermissionError):
        write_output(tmp_path / "a.csv", b"new")


@pytest.mark.parametrize(("name", "found"), [("o.xlsx", "ends in .xlsx"), ("o", "without an ending")])
def test_a_name_that_says_another_format_is_refused(name, found, tmp_path):
    with pytest.raises(UsageError, match="--csv cannot write") as told:
        check_output_file(tmp_path / name, "--csv", [".csv"])
    assert found in told.value.found
    check_output_file(tmp_path / "O.CSV", "--csv", [".csv"])


def test_names_of_unfinished_files_are_told_from_the_users():
    assert is_partial(".partial-0123456789abcdef")
    assert not any(map(is_partial, (".partial-notes", ".partial-", "0123456789abcdef", ".partial-0123456789abcdeF")))

"""What not every system can do is done another way where it cannot."""

import ctypes
import mmap
import os

import pytest

from fusion.compute import platform_calls


@pytest.fixture
def bare(monkeypatch):
    """A system that has none of these calls, as Windows is one."""
    platform_calls._libc.cache_clear()

    def no_library(*_, **__):
        raise TypeError("no handle")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    for name in ("sysconf", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    yield
    platform_calls._libc.cache_clear()


def test_names_are_exchanged_in_one_step_or_nothing_happens(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    exchanged = platform_calls.exchange_names(one, other)
    assert (one.read_text(), other.read_text()) == (("2", "1") if exchanged else ("1", "2"))
    assert not platform_calls.exchange_names(one, tmp_path / "absent")
    assert one.is_file()


def test_a_system_without_these_calls_is_no_reason_to_stop(bare, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    assert not platform_calls.exchange_names(one, other)
    assert (one.read_text(), other.read_text()) == ("1", "2")
    platform_calls.trim_heap()
    platform_calls.forget_pages(0, 0)
    assert platform_calls.total_memory() is None
    assert platform_calls.usable_cores() == (os.cpu_count() or 1)


def test_a_model_is_replaced_where_nothing_can_be_exchanged(bare, tmp_path):
    from fusion.bundles._model_folder import MANIFEST, write_folder

    keys = ("format", "classes", "columns", "extractors", "classifier")
    manifest = "{" + ", ".join(f'"{key}": 0' for key in keys) + ', "files": {}}'
    for text in (manifest, manifest + " "):
        write_folder(tmp_path / "model", lambda folder, text=text: (folder / MANIFEST).write_text(text))
    assert (tmp_path / "model" / MANIFEST).read_text() == manifest + " "
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_pages_that_were_forgotten_are_read_again(tmp_path):
    file = tmp_path / "pages"
    file.write_bytes(b"x" * mmap.PAGESIZE)
    import numpy as np

    mapped = np.memmap(file, np.uint8, "r")
    platform_calls.forget_pages(mapped.ctypes.data, mapped.size)
    assert mapped[0] == ord("x")


def test_calls_of_one_system_are_made_nowhere_else():
    from tests.builders.images import ROOT

    words = ("ctypes", "os.sysconf", "sched_getaffinity", "import fcntl", "import resource\n")
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "fusion").rglob("*.py"))
        if any(word in path.read_text() for word in words)
    ]
    assert found == ["fusion/compute/platform_calls.py"]

"""A model takes its place whole, and nothing but a model is ever replaced."""

import contextlib
import errno
import json
import os
import signal
import stat
import sys

import pytest

from fusion.bundles import _model_folder
from fusion.bundles._model_folder import check_writable, write_folder
from fusion.bundles.bundle_files import BundleError
from fusion.io.files import write_atomically


def model(number):
    """What writes a small folder as a model's."""

    def write(folder):
        (folder / "classifier").mkdir()
        files = {"layer.safetensors": number, "classifier/trees.json": number}
        for name in files:
            write_atomically(folder / name, str(number).encode())
        rest = {"format": 1, "classes": [], "columns": [], "extractors": [], "classifier": "xgb"}
        write_atomically(folder / "model.json", json.dumps({**rest, "files": files}).encode())

    return write


def held(folder):
    """The number in every file of it."""
    return {path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != "model.json"}


@pytest.fixture(params=["exchanged", "renamed"])
def way(request, monkeypatch):
    """With and without an exchange of names in one step."""
    if request.param == "renamed":
        monkeypatch.setattr(_model_folder, "exchange_names", lambda one, other: False)
    return request.param


def test_a_new_model_replaces_the_old_one_and_leaves_nothing_behind(way, tmp_path):
    for number in (1, 2, 3):
        write_folder(tmp_path / "model", model(number))
        assert held(tmp_path / "model") == {str(number)}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(os.name == "nt", reason="forks")
def test_killed_at_any_step_the_old_or_the_new_model_is_there(tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, model(1))
    seen, at = set(), 0
    while True:
        at += 1
        child = os.fork()
        if child == 0:
            left = [at]

            def step(event, given, left=left):
                if event.startswith(("os.", "open", "ctypes", "shutil")) and event != "os.kill":
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            try:
                sys.addaudithook(step)
                write_folder(folder, model(2))
                os._exit(0)
            finally:
                os._exit(99)
        done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = held(folder)
        assert found in ({"1"}, {"2"}), (at, found)
        check_writable(folder)
        seen |= found
        write_folder(folder, model(1))
        if done == 0:
            break
    assert seen == {"1", "2"}
    assert at > 20


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR])
@pytest.mark.parametrize("name", ["fsync", "open", "mkdir", "chmod", "rename", "replace"])
def test_where_a_step_fails_the_old_model_stays(way, code, name, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_folder(folder, model(1))
    right = getattr(os, name)
    left = [0]

    def fails(*given, **named):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        return right(*given, **named)

    for failing in range(1, 12):
        left[0] = failing
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            with contextlib.suppress(OSError):
                write_folder(folder, model(2))
        assert held(folder) in ({"1"}, {"2"})
        write_folder(folder, model(1))


def test_a_folder_with_anything_of_the_users_is_refused_and_untouched(way, tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, model(1))
    (folder / "classifier" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"classifier/notes.txt"):
        write_folder(folder, model(2))
    assert (folder / "classifier" / "notes.txt").read_text() == "mine"
    assert (folder / "layer.safetensors").read_text() == "1"


@pytest.mark.parametrize(
    "manifest",
    [
        '{"format": "layers-model"}',
        '{"files": {"thesis.txt": ""}}',
        "[]",
        "",
        "[" * 100_000,
        '{"format": 1, "files": {"../thesis.txt": ""}, "classes": 1, "columns": 1, "extractors": 1, "classifier": 1}',
    ],
)
def test_another_programs_model_json_is_none_of_ours(manifest, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "model.json").write_text(manifest)
    (folder / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(BundleError, match="is not a model"):
        write_folder(folder, model(1))
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "thesis.txt"]


def test_what_is_put_into_an_old_model_meanwhile_is_kept(way, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_folder(folder, model(1))
    put = _model_folder._put

    def late(work, name):
        (folder / "late.txt").write_text("mine")
        put(work, name)

    monkeypatch.setattr(_model_folder, "_put", late)
    write_folder(folder, model(2))
    assert held(folder) == {"2"}
    (kept,) = tmp_path.glob("model-kept-*")
    assert [path.name for path in kept.iterdir()] == ["late.txt"]


@pytest.mark.skipif(os.name == "nt", reason="no links and modes")
def test_links_and_modes_stay_as_the_user_made_them(way, tmp_path):
    write_folder(tmp_path / "real", model(1))
    (tmp_path / "real").chmod(0o700)
    (tmp_path / "link").symlink_to("real")
    write_folder(tmp_path / "link", model(2))
    assert (tmp_path / "link").is_symlink()
    assert held(tmp_path / "real") == {"2"}
    before = os.umask(0o077)
    try:
        write_folder(tmp_path / "private", model(1))
    finally:
        os.umask(before)
    for folder in ("real", "private"):
        for path in (tmp_path / folder, *(tmp_path / folder).rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_an_empty_folder_is_taken_and_a_file_is_not(way, tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", model(1))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError):
        write_folder(tmp_path / "file", model(1))
    assert (tmp_path / "file").read_text() == "mine"

"""An atomic write leaves the old file or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from vitreous.errors import NoSpace
from vitreous.store.files import free_bytes, sha256_file, write_atomic


def test_contents_replace_contents_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "weights.bin"
    for data in (b"", b"old", memoryview(bytearray(range(256)) * 9000)):
        write_atomic(target, data)
        assert target.read_bytes() == bytes(data)
        assert sha256_file(target) == hashlib.sha256(data).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["weights.bin"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_name_of_the_greatest_length_is_written(tmp_path):
    target = tmp_path / ("n" * 255)
    write_atomic(target, b"x")
    assert target.read_bytes() == b"x"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_names_folder_and_bytes(tmp_path, monkeypatch, step, code):
    target = tmp_path / "state"
    write_atomic(target, b"old")

    def full(*_):
        raise OSError(code, os.strerror(code))

    if step == "write":
        monkeypatch.setattr("vitreous.store.files._write_through", full)
    else:
        monkeypatch.setattr(os, step, full)
    with pytest.raises(NoSpace, match="1,234 bytes") as caught:
        write_atomic(target, b"x" * 1234)
    assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_other_failures_keep_their_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "absent" / "a", b"x")


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_free_bytes_of_a_folder_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0

"""Keyring and tags files: Serf's bytes, and whole whoever is killed when (spec serf.md, 3.3)."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from backends.agent import files
from swimsim.wire.keyring import keyring
from tests.agent.crashes import deaths

OLD, NEW = bytes(range(16)), bytes(range(32))
TAGS = {"z": "1", "a": "<b>&"}


def test_a_keyring_is_written_as_serf_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    files.write_keyring(path, keyring([NEW, OLD]))
    first, second = (base64.b64encode(key).decode() for key in (NEW, OLD))
    assert path.read_text() == f'[\n  "{first}",\n  "{second}"\n]'
    assert files.read_keyring(path) == keyring([NEW, OLD])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tags_are_written_as_serf_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    assert files.read_tags(path) is None
    files.write_tags(path, TAGS)
    assert path.read_text() == '{\n  "a": "\\u003cb\\u003e\\u0026",\n  "z": "1"\n}'
    assert files.read_tags(path) == TAGS


def test_no_tags_are_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    files.write_tags(path, {})
    assert path.read_text() == "{}"


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "real.json", tmp_path / "link.json"
    path.write_text("[]")
    path.chmod(0o640)
    link.symlink_to(path)
    files.write_tags(link, TAGS)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files.read_tags(path) == TAGS


SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0"
REFUSED = {  # what the file holds: what is said of it
    "nothing": ("", "Failed to read keyring file {}: not JSON at line 1, column 1"),
    "no list": ('{"a": 1}', "Failed to decode keyring file {}: expected a list of texts"),
    "numbers": ("[1]", "Failed to decode keyring file {}: expected a list of texts"),
    "no keys": ("[]", "Keyring file contains no keys"),
    "a short key": (
        json.dumps([SECRET[:16]]),
        "Failed to restore keyring from {}: key size must be 16, 24 or 32 bytes",
    ),
    "a torn file": (f'["{SECRET}', "Failed to read keyring file {}: not JSON at line 1, column 2"),
}


@pytest.mark.parametrize(("held", "error"), REFUSED.values(), ids=REFUSED)
def test_a_bad_keyring_is_refused_without_telling_its_keys(
    held: str, error: str, tmp_path: Path
) -> None:
    path = tmp_path / "keyring.json"
    path.write_text(held)
    with pytest.raises(files.FileError) as caught:
        files.read_keyring(path)
    assert str(caught.value) == error.format(path)
    assert SECRET[:16] not in str(caught.value)


def test_a_bad_tags_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    path.write_text('{"a": 1}')
    with pytest.raises(files.FileError, match="expected texts by name"):
        files.read_tags(path)


def test_whoever_is_killed_while_writing_leaves_the_old_keys_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    files.write_keyring(path, keyring([OLD]))
    seen, calls = set(), 0
    for _ in deaths(lambda: files.write_keyring(path, keyring([NEW, OLD]))):
        seen.add(files.read_keyring(path).keys)
        calls += 1
    assert calls >= 9  # open, fchmod, write, fsync, close, replace, and the folder's three
    assert seen == {(OLD,), (NEW, OLD)}
    assert files.read_keyring(path) == keyring([NEW, OLD])


def test_a_disk_that_is_full_costs_the_change_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keyring.json"
    files.write_keyring(path, keyring([OLD]))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_keyring(path, keyring([NEW]))
    monkeypatch.undo()
    assert files.read_keyring(path) == keyring([OLD])

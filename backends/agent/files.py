"""Files that are whole at every moment: the keyring, the tags, the snapshot's compaction.

``replace`` writes beside the file, syncs, and renames over it, so that whoever is killed, at
whatever instant, leaves the old file or the new one. What is left beside it is overwritten by
the next attempt and read by nobody. The keyring and the tags are Serf's (spec serf.md, 3.3): JSON
indented by two spaces, without a final newline.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from swimsim.wire.keyring import Keyring, KeyringError, format_key, keyring, parse_key

PRIVATE = 0o600


class FileError(ValueError):
    """A file that cannot be used as it is; the text is what Serf says, and which file."""


def replace(path: Path, data: bytes, *, beside: str = ".tmp", mode: int = PRIVATE) -> None:
    """Have the file hold ``data`` from one moment to the next.

    Raises OSError, and then the file is as it was. One that is there keeps its permissions; a
    link keeps where it leads.
    """
    path = Path(os.path.realpath(path))
    aside = path.with_name(path.name + beside)
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(path).st_mode)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(aside, path)
    sync_folder(path)


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(path: Path) -> None:
    """Have the disk know under which name the file goes."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- the keyring -------------------------------------------------------------------------


def read_keyring(path: Path) -> Keyring:
    """The keys of a keyring file, the primary first; raises ``FileError``."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FileError(f"Failed to read keyring file {path}: {told(error)}") from None
    if not isinstance(held, list) or not all(isinstance(key, str) for key in held):
        raise FileError(f"Failed to decode keyring file {path}: expected a list of texts")
    if not held:
        raise FileError("Keyring file contains no keys")
    try:
        return keyring(map(parse_key, held))
    except KeyringError as error:
        raise FileError(f"Failed to restore keyring from {path}: {error}") from None


def write_keyring(path: Path, ring: Keyring) -> None:
    """Have the file hold these keys; raises OSError."""
    replace(path, _indented([format_key(key) for key in ring.keys]))


# --- the tags ----------------------------------------------------------------------------


def read_tags(path: Path) -> dict[str, str] | None:
    """The tags of a tags file, None when there is none; raises ``FileError``."""
    try:
        held = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileError(f"Failed to read tags file {path}: {told(error)}") from None
    if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
        raise FileError(f"Failed to decode tags file: {path}: expected texts by name")
    return held


def write_tags(path: Path, tags: Mapping[str, str]) -> None:
    """Have the file hold these tags; raises OSError."""
    replace(path, _indented(dict(sorted(tags.items()))))


def _indented(value: object) -> bytes:
    """JSON as Go's MarshalIndent writes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for risky in "<>&\u2028\u2029":
        text = text.replace(risky, f"\\u{ord(risky):04x}")
    return text.encode("utf-8", "surrogateescape")


def told(error: Exception) -> str:
    """An error in a few words; never with what a file holds, which may be secret."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at line {error.lineno}, column {error.colno}"
    return type(error).__name__

"""How the verbs print: Serf's columns, Go's JSON, Go's ``%#v`` (spec serf.md, 5.1 and 5.9)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

GAP = "  "
SMALL = 127  # the largest number that msgpack does not mark as unsigned; Go prints those in hex


def say(text: str, newline: bool = True) -> None:
    """Print a line at once; names that are not UTF-8 as the bytes they are."""
    click.echo(text.encode("utf-8", "surrogateescape"), nl=newline)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A table: all columns but the last padded, white space around the whole cut off."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append(GAP.join([*padded, last]))
    return "\n".join(lines).strip()


def go_json(value: Any) -> str:
    """JSON as Go indents it, with ``<``, ``>`` and ``&`` escaped; keys stay in their order."""
    text = json.dumps(_utf_8(value), indent=2, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _utf_8(value: Any) -> Any:
    """The value with U+FFFD for bytes that are not UTF-8."""
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case bytes():
            return value.decode("utf-8", "replace")
        case dict():
            return {_utf_8(key): _utf_8(each) for key, each in value.items()}
        case list() | tuple():
            return [_utf_8(each) for each in value]
        case _:
            return value


def go_syntax(value: Any, *, is_inner: bool = False) -> str:
    """A value that came over RPC as Go's ``%#v`` has it."""
    match value:
        case None:
            return "interface {}(nil)" if is_inner else "<nil>"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if value <= SMALL else hex(value)
        case bytes():
            name = "[]uint8" if is_inner else "[]byte"
            return f"{name}{{{', '.join(f'0x{byte:x}' for byte in value)}}}"
        case str():
            return json.dumps(_utf_8(value), ensure_ascii=False)
        case dict():
            entries = (
                f"{go_syntax(key, is_inner=True)}:{go_syntax(each, is_inner=True)}"
                for key, each in sorted(value.items())
            )
            return f"map[interface {{}}]interface {{}}{{{', '.join(entries)}}}"
        case list():
            inner = ", ".join(go_syntax(each, is_inner=True) for each in value)
            return f"[]interface {{}}{{{inner}}}"
        case _:
            return repr(value)

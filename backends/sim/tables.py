"""Reading typed tables, with errors that a person can act on.

msgspec checks a decoded TOML file against a struct and says where it does not fit; this module
turns that into ``key: what is wrong, what was expected``, with the value that was found and
the names that would have been right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType
from msgspec.structs import fields

from backends.durations import duration, in_words
from backends.sim.network import Duration

T = TypeVar("T", bound=Struct)

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bytes": "a text in base64",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


class TableError(ValueError):
    """A table that does not fit: ``key: what is wrong``."""


def convert(raw: Any, wanted: type[T]) -> T:
    """``raw`` as a ``wanted``; raises ``TableError``."""
    try:
        return msgspec.convert(raw, wanted, dec_hook=_read)
    except msgspec.ValidationError as error:
        raise TableError(_explain(str(error), raw, wanted)) from error


def plain(value: Any) -> Any:
    """A struct as TOML can hold it: durations in words, every default filled in."""
    if isinstance(value, Duration):
        return in_words(value)
    if isinstance(value, Struct):
        config = value.__struct_config__
        table = {config.tag_field: config.tag} if config.tag_field else {}
        for field in fields(value):
            held = getattr(value, field.name)
            if held is not None and not isinstance(held, UnsetType):
                is_duration = Duration in (field.type, *get_args(field.type))
                table[field.name] = in_words(held) if is_duration else plain(held)
        return table
    if isinstance(value, dict):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return value


def _read(wanted: type, value: Any) -> Any:
    if wanted is Duration:
        return Duration(duration(value))
    raise NotImplementedError(wanted)


def _explain(error: str, raw: Any, wanted: type) -> str:
    what, _, where = error.partition(" - at `$")
    path = _keyed(raw, wanted, where.rstrip("`").lstrip("."))
    found, kind = _walk(raw, wanted, path)
    unknown = re.match(r"Object contains unknown field `(.*)`", what)
    missing = re.match(r"Object missing required field `(.*)`", what)
    if unknown:
        names = list(_keys(kind))
        close = get_close_matches(unknown[1], names, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"expected one of {', '.join(names)}"
        return f"{_join(path, unknown[1])}: unknown key, {hint}"
    if missing:
        return f"{_join(path, missing[1])}: missing"
    if what.startswith("Invalid base64"):
        return f"{path}: expected a text in base64, got {found!r}"
    if what.startswith("Invalid"):
        choices = ", ".join(f'"{choice}"' for choice in _choices(raw, wanted, path))
        return f"{path}: expected one of {choices}, got {found!r}"
    wanted_kinds = re.match(r"Expected `([^`]*)`", what)
    if wanted_kinds:
        names = [name for name in wanted_kinds[1].split(" | ") if name != "null"]
        kinds = " or ".join(_WORDS.get(name, name) for name in names)
        return f"{path}: expected {kinds}, got {found!r}"
    return f"{path}: {what}" if path else what


def _keyed(raw: Any, wanted: Any, path: str) -> str:
    """``path`` with the key in place of ``[...]``, by which msgspec names any value of a dict."""
    before, found, after = path.partition("[...]")
    if not found:
        return path
    table, kind = _walk(raw, wanted, before)
    _, value_kind = get_args(kind)
    for key, value in table.items():
        try:
            msgspec.convert(value, value_kind, dec_hook=_read)
        except msgspec.ValidationError:
            return _keyed(raw, wanted, f"{_join(before, key)}{after}")
    return path


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _walk(raw: Any, wanted: Any, path: str) -> tuple[Any, Any]:
    """The value at ``path``, and the type that it should have."""
    for token in re.findall(r"[^.\[\]]+", path):
        wanted = _variant_of(wanted, raw)
        if token.isdigit() and isinstance(raw, list):
            raw = raw[int(token)]
            wanted = next(iter(get_args(_unwrapped(wanted))), Any)
        elif isinstance(raw, dict) and token in raw:
            raw = raw[token]
            if get_origin(wanted) is dict:
                wanted = get_args(wanted)[1]
            elif isinstance(wanted, type) and issubclass(wanted, Struct):
                wanted = next((f.type for f in fields(wanted) if f.name == token), Any)
        else:
            return raw, Any
    return raw, _variant_of(wanted, raw)


def _members(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _unwrapped(wanted: Any) -> Any:
    """A list type out of a union with it."""
    return next((m for m in _members(wanted) if get_origin(m) in (tuple, list)), wanted)


def _variant_of(wanted: Any, raw: Any) -> Any:
    """The struct of a union that a table's tag names."""
    structs = [m for m in _members(wanted) if isinstance(m, type) and issubclass(m, Struct)]
    for struct in structs:
        config = struct.__struct_config__
        if len(structs) == 1 or (
            isinstance(raw, dict) and raw.get(config.tag_field or "") == config.tag
        ):
            return struct
    return wanted


def _keys(wanted: Any) -> Iterator[str]:
    if isinstance(wanted, type) and issubclass(wanted, Struct):
        if wanted.__struct_config__.tag_field:
            yield wanted.__struct_config__.tag_field
        yield from (field.encode_name for field in fields(wanted))


def _choices(raw: Any, wanted: Any, path: str) -> Iterator[str]:
    """The values that a choice at ``path`` may have: of a literal, or of a tag."""
    _, kind = _walk(raw, wanted, path)
    for member in _members(kind):
        if get_origin(member) is Literal:
            yield from map(str, get_args(member))
    parent, _, token = path.rpartition(".")
    _, kind = _walk(raw, wanted, parent)
    for member in _members(kind):
        if isinstance(member, type) and issubclass(member, Struct):
            if member.__struct_config__.tag_field == token:
                yield str(member.__struct_config__.tag)

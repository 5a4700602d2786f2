"""Typed tables, and errors that a person can act on."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from msgspec import UNSET, Struct, UnsetType

from backends.sim.network import Duration
from backends.sim.tables import TableError, convert, plain
from swimsim.terms import MS, SECOND


class Red(Struct, frozen=True, tag="red", tag_field="colour", forbid_unknown_fields=True):
    depth: int
    name: str = ""


class Blue(Struct, frozen=True, tag="blue", tag_field="colour", forbid_unknown_fields=True):
    wait: Duration = 5 * SECOND


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1
    ratio: float = 0.5
    labels: dict[str, tuple[str, ...]] = {}


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    needed: str
    flag: bool = False
    wait: Duration = 1 * SECOND
    mode: Literal["fast", "slow"] = "fast"
    either: int | tuple[str, ...] = 3
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    paint: Red | Blue | None = None
    paints: tuple[Red | Blue, ...] = ()
    unset: str | UnsetType = UNSET
    data: bytes = b""


def of(**more: Any) -> dict[str, Any]:
    return {"needed": "x", **more}


def test_a_table_that_fits_is_converted() -> None:
    raw = of(
        wait="1m",
        either=["a", "b"],
        inner={"size": 4, "ratio": 1},
        paint={"colour": "blue", "wait": "3ms"},
        paints=[{"colour": "red", "depth": 2}],
        data="aGk=",
    )
    assert convert(raw, Table) == Table(
        needed="x",
        wait=60 * SECOND,
        either=("a", "b"),
        inner=Inner(4, 1.0),
        paint=Blue(3 * MS),
        paints=(Red(2),),
        data=b"hi",
    )


WRONG: dict[str, tuple[Any, str]] = {
    "missing": ({}, "needed: missing"),
    "missing inside": (of(paint={"colour": "red"}), "paint.depth: missing"),
    "missing in a list": (
        of(paints=[{"colour": "blue"}, {"colour": "red"}]),
        "paints[1].depth: missing",
    ),
    "a slip": (of(flg=True), 'flg: unknown key, did you mean "flag"?'),
    "a slip inside": (of(inner={"sise": 3}), 'inner.sise: unknown key, did you mean "size"?'),
    "a slip in a list": (
        of(many=[{}, {"rate": 3}]),
        'many[1].rate: unknown key, did you mean "ratio"?',
    ),
    "a slip in a variant": (
        of(paint={"colour": "blue", "wat": "1s"}),
        'paint.wat: unknown key, did you mean "wait"?',
    ),
    "nothing like it": (
        of(inner={"xyzzy": 3}),
        "inner.xyzzy: unknown key, expected one of size, ratio, labels",
    ),
    "nothing like it in a variant": (
        of(paint={"colour": "red", "xyzzy": 3}),
        "paint.xyzzy: unknown key, expected one of colour, depth, name",
    ),
    "text": (of(needed=3), "needed: expected a text, got 3"),
    "flag": (of(flag="yes"), "flag: expected true or false, got 'yes'"),
    "number": (of(inner={"size": "big"}), "inner.size: expected a whole number, got 'big'"),
    "whole number": (of(inner={"size": 1.5}), "inner.size: expected a whole number, got 1.5"),
    "any number": (of(inner={"ratio": "half"}), "inner.ratio: expected a number, got 'half'"),
    "table": (of(inner=3), "inner: expected a table, got 3"),
    "list": (of(many={}), "many: expected a list, got {}"),
    "table in a list": (of(many=[{}, 7]), "many[1]: expected a table, got 7"),
    "either": (of(either="x"), "either: expected a whole number or a list, got 'x'"),
    "in either's list": (of(either=["a", 3]), "either[1]: expected a text, got 3"),
    "duration": (
        of(wait=3),
        'wait: expected a duration such as "500ms" or "1h30m", got 3',
    ),
    "duration inside": (
        of(paint={"colour": "blue", "wait": "fast"}),
        'paint.wait: expected a duration such as "500ms" or "1h30m", got \'fast\'',
    ),
    "negative duration": (
        of(wait="-3s"),
        "wait: expected a duration that is not negative, got '-3s'",
    ),
    "choice": (of(mode="idle"), 'mode: expected one of "fast", "slow", got \'idle\''),
    "variant": (
        of(paint={"colour": "green"}),
        'paint.colour: expected one of "red", "blue", got \'green\'',
    ),
    "variant in a list": (
        of(paints=[{"colour": "red", "depth": 1}, {"colour": "green"}]),
        'paints[1].colour: expected one of "red", "blue", got \'green\'',
    ),
    "no variant": (of(paint={}), "paint.colour: missing"),
    "base64": (of(data="!!"), "data: expected a text in base64, got '!!'"),
    "optional table": (of(paint=3), "paint: expected a table, got 3"),
    "value of a free key": (
        of(inner={"labels": {"zone": "a"}}),
        "inner.labels.zone: expected a list, got 'a'",
    ),
    "in the value of a free key": (
        of(inner={"labels": {"row": ["a"], "zone": ["a", 3]}}),
        "inner.labels.zone[1]: expected a text, got 3",
    ),
}


@pytest.mark.parametrize(("raw", "text"), WRONG.values(), ids=WRONG)
def test_a_table_that_does_not_fit_is_said_so_in_one_line(raw: Any, text: str) -> None:
    with pytest.raises(TableError) as caught:
        convert(raw, Table)
    assert str(caught.value) == text


def test_plain_fills_in_every_default_and_writes_durations_in_words() -> None:
    assert plain(Table("x")) == {
        "needed": "x",
        "flag": False,
        "wait": "1s",
        "mode": "fast",
        "either": 3,
        "inner": {"size": 1, "ratio": 0.5, "labels": {}},
        "many": [],
        "paints": [],
        "data": b"",
    }, "what is unset or None cannot be said in TOML"


ROUND: list[Table] = [
    Table("x"),
    Table("x", either=("a",), paint=Red(3, "deep"), paints=(Blue(), Red(1))),
    Table("x", wait=90 * SECOND, inner=Inner(labels={"zone": ("a", "b")}), unset="set"),
]


@pytest.mark.parametrize("table", ROUND, ids=lambda table: repr(table)[:40])
def test_plain_is_read_back(table: Table) -> None:
    assert convert(plain(table), Table) == table

"""What is said of bytes that were refused."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import get_args

import pytest

import swimsim.wire
from swimsim.wire import What, WireError

ERROR = WireError("malformed", "expected a map, found a0", "byte 1")
SAID = {
    "where and what": (ERROR, "byte 1: expected a map, found a0"),
    "nowhere": (WireError("empty", "nothing"), "nothing"),
    "from further out": (ERROR.within("part 3"), "part 3, byte 1: expected a map, found a0"),
    "a place of its own": (WireError("empty", "nothing").within("part 3"), "part 3: nothing"),
}


@pytest.mark.parametrize(("error", "text"), SAID.values(), ids=SAID)
def test_words(error: WireError, text: str) -> None:
    assert str(error) == text


def test_a_complaint_is_a_value() -> None:
    error = ERROR.within("part 3")
    same = WireError("malformed", "expected a map, found a0", "part 3, byte 1")
    assert error == same
    assert hash(error) == hash(same)
    assert pickle.loads(pickle.dumps(error)) == error
    assert error != ERROR
    assert error != WireError("truncated", error.text, error.where)
    assert error != str(error)
    assert isinstance(error, ValueError)


def test_every_category_is_used_and_fit_to_be_a_label() -> None:
    used = set()
    for path in Path(swimsim.wire.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "WireError":
                if isinstance(node.args[0], ast.Constant):
                    used.add(node.args[0].value)
    assert used == set(get_args(What))
    assert all(what == what.lower() and " " not in what and len(what) < 24 for what in used)

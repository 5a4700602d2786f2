"""Which code a run executes, as a short hash: what was computed with other code is not reused.

Of the experiment's own module only what its ``run`` reaches counts, so a better figure or a new
verdict does not throw away a night of runs. Of the project's other modules that it uses, and of
what these import in turn, everything counts. Comments and docstrings of the experiment do not.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = ("swimsim", "backends", "experiments")


@cache
def code_version(module: str, root: Path = ROOT) -> str:
    """The hash of all that ``run`` of this module executes."""
    text, uses = _reached(root, module, "run")
    digest = hashlib.sha256(text.encode())
    for name in sorted(_closure(root, uses, module)):
        digest.update(name.encode() + b"\0" + _file(root, name).read_bytes())
    return digest.hexdigest()[:16]


def _reached(root: Path, module: str, start: str) -> tuple[str, set[str]]:
    """The top-level statements of a module that a name depends on, and the modules they use."""
    statements = _parse(root, module).body
    owners: dict[str, list[ast.stmt]] = {}
    for statement in statements:
        for name in _binds(statement):
            owners.setdefault(name, []).append(statement)
    wanted, seen = [start], {start}
    chosen: set[ast.stmt] = set()
    while wanted:
        for statement in owners.get(wanted.pop(), []):
            if statement in chosen:
                continue
            chosen.add(statement)
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and node.id not in seen:
                    seen.add(node.id)
                    wanted.append(node.id)
    text = "\n".join(ast.unparse(_bare(s)) for s in statements if s in chosen)
    return text, {used for statement in chosen for used in _imports(root, statement)}


def _binds(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement gives a meaning."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            for alias in names:
                yield alias.asname or alias.name.split(".")[0]
        case _:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def _bare(statement: ast.stmt) -> ast.stmt:
    """The statement without docstrings: what does nothing does not count."""
    for node in ast.walk(statement):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ] or [ast.Pass()]
    return statement


def _closure(root: Path, names: Iterable[str], own: str) -> set[str]:
    """Modules, and what they import, and so on.

    The experiment's ``own`` is left out, also where it is the package that its rooms lie in: to
    import one of them executes its ``__init__``, which names them all, but no more of a run.
    """
    found: set[str] = set()
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        if name not in found and name != own:
            found.add(name)
            wanted += _imports(root, _parse(root, name))
    return found


def _imports(root: Path, tree: ast.AST) -> Iterator[str]:
    """The project's modules that some code imports, with the packages they lie in."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in OURS:
                parts = name.split(".")
                for length in range(1, len(parts) + 1):
                    module = ".".join(parts[:length])
                    if _file(root, module).exists():  # else it is a name within a module
                        yield module


def _file(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _parse(root: Path, module: str) -> ast.Module:
    return ast.parse(_file(root, module).read_text(encoding="utf-8"))

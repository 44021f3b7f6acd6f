"""What can be read off the syntax tree of a module."""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from examples.library_index.models import Definition

Kind = Definition.Kind

#: The fields of statements that hold further statements. No expression does, so that most of a
#: tree need not be looked at.
_BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a module defines, as (kind, qualified name, line), and the packages that it imports."""

    definitions: list[tuple[str, str, int]]
    imports: list[str]


def outline(source: str, filename: str) -> Outline:
    """Parse the source and return its outline; raises what ``ast.parse`` does."""
    # What Python has to say about other people's string escapes is of no use to our reader.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source, filename)
    definitions: list[tuple[str, str, int]] = []
    imports: set[str] = set()
    for node, scope in _statements(tree):
        match node:
            case ast.ClassDef():
                definitions.append((Kind.CLASS.value, scope + node.name, node.lineno))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                definitions.append((Kind.FUNCTION.value, scope + node.name, node.lineno))
            case ast.Import(names=names):
                imports.update(_package(alias.name) for alias in names)
            # A relative import (with a level) stays inside the package.
            case ast.ImportFrom(module=str(name), level=0):
                imports.add(_package(name))
    return Outline(definitions=definitions, imports=sorted(imports))


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield each node that is or holds a statement, in order, with the prefix of names in it."""
    # A list of what is still to come, since generated code may nest too deep to recurse.
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, scope = pending.pop()
        yield node, scope
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            scope += f"{node.name}."
        children = [child for block in _BLOCKS for child in getattr(node, block, ())]
        pending.extend((child, scope) for child in reversed(children))


def _package(module: str) -> str:
    return module.partition(".")[0]

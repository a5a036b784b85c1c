"""The reference for plugin authors says what the docstrings say.

CROSSMOD_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator

import pytest
from authors_reference import PACKAGES, ROOT, Public, is_public, page, publics

PAGE = ROOT / "docs" / "reference" / "plugins.md"
OURS = {public.name for public in publics("crossmod") if public.name.endswith("Error")}
FOUND = [public for package in PACKAGES for public in publics(package)]


def test_the_page_says_what_the_code_says() -> None:
    if os.environ.get("CROSSMOD_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_once(package: str) -> None:
    headings = re.findall(r"^### `(\w+)`$", page(), re.MULTILINE)
    for public in publics(package):
        assert headings.count(public.name) == 1, public.name


def documented() -> Iterator[tuple[str, str, ast.AST]]:
    """Name, docstring and code of every public class, function, constant, method and property."""
    for public in FOUND:
        yield public.name, public.doc, public.node
        for node in getattr(public.node, "body", ()):
            if isinstance(node, ast.FunctionDef) and is_public(node):
                yield f"{public.name}.{node.name}", ast.get_docstring(node) or "", node


def test_every_public_name_is_explained() -> None:
    assert not [name for name, doc, _ in documented() if not doc]


def test_errors_of_crossmod_that_a_function_raises_itself_are_named() -> None:
    missing = [
        f"{name}: {raised}"
        for name, doc, node in documented()
        if isinstance(node, ast.FunctionDef)
        for raised in raised_in(node)
        if raised in OURS and f"{raised}:" not in doc
    ]
    assert not missing


def raised_in(node: ast.FunctionDef) -> set[str]:
    raises = (one.exc for one in ast.walk(node) if isinstance(one, ast.Raise))
    return {ast.unparse(one.func) for one in raises if isinstance(one, ast.Call)}


def arrays_without_shape(public: Public) -> Iterator[str]:
    """Fields and arguments that are arrays, of which nothing says which shape they have."""
    text = ast.unparse(public.node)
    for name in re.findall(r"(\w+): (?:FloatArray|LabelArray|BoolArray|Affine)\b", text):
        if not re.search(r"``\([^`]*\)``|shape", text):
            yield f"{public.name}, {name}"


def test_what_takes_arrays_says_their_shapes() -> None:
    assert not [one for public in FOUND for one in arrays_without_shape(public)]

"""docs/reference/plugins.md, from the source text of crossmod: nothing of it is imported."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).parents[2]

PACKAGES = ("crossmod", "crossmod.torch", "crossmod.testing")

TITLES = {
    "crossmod.stages": "Stages",
    "crossmod.data": "Volumes, cohorts and structures",
    "crossmod.options": "Types of options",
    "crossmod.scores": "Metrics",
    "crossmod.errors": "Errors",
    "crossmod.notebook": "Finished runs, from Python",
    "crossmod.model": "Packaged models, from Python",
    "crossmod.torch": "For training: `crossmod.torch`",
    "crossmod.testing": "For tests: `crossmod.testing`",
}
"""Wing or package -> title of its chapter, in the order of the page."""

HEAD = """\
# Reference for plugin authors

Every public name, from the docstrings in the code: what plugins import, from nowhere else.
[The tutorial](../tutorials/write-a-translator.md) and the guides for
[translators](../how-to/write-a-translator.md), [augmenters](../how-to/write-an-augmenter.md),
[segmenters](../how-to/write-a-segmenter.md) and
[pseudo-labelers](../how-to/write-a-pseudo-labeler.md) show how they are used.

Arrays of images are float32 of shape `(C, I, J, K)` with C = 1, values in [0, 1]; label maps are
uint8 `(I, J, K)`; axes are those of the NIfTI file; an affine maps voxel indices to RAS+ mm. What
ends in `_mm` is in mm, in `_mm3` in cubic mm.
"""

WIDTH = 100

Entry = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Public:
    """A public name, where it is defined, and the docstring of what is no class or function."""

    package: str
    name: str
    module: str
    node: Entry
    told: str

    @property
    def doc(self) -> str:
        """Its docstring, without indentation."""
        if isinstance(self.node, ast.ClassDef | ast.FunctionDef):
            return ast.get_docstring(self.node) or ""
        return inspect.cleandoc(self.told)


def page() -> str:
    """The whole page."""
    found = [public for package in PACKAGES for public in publics(package)]
    parts = [HEAD]
    for wing, title in TITLES.items():
        own = [p for p in found if p.module == wing or p.module.startswith(f"{wing}.")]
        if wing not in PACKAGES:
            own = [public for public in own if public.package == "crossmod"]
        parts += [f"## {title}\n", *map(chapter, own)]
    return "\n".join(parts)


def publics(package: str) -> Iterator[Public]:
    """What a package offers, in the order of its `__all__`."""
    homes = imports(package)
    [names] = [
        ast.literal_eval(node.value)
        for node in tree(package).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    for name in names:
        if ROOT.joinpath(package, name).is_dir():
            yield called(package, name)
        elif not name.startswith("__"):
            module = home_of(homes[name], name)
            # What another wing defines and this package offers is in the chapter of the package.
            node, told = defined(module, name)
            chapter_of = module if package == "crossmod" else package
            yield Public(package, name, chapter_of, node, told)


def called(package: str, name: str) -> Public:
    """A package that is called like a function."""
    nodes = (one for one in ast.walk(tree(f"{package}.{name}")) if isinstance(one, ast.FunctionDef))
    node = copy(next(one for one in nodes if one.name == "__call__"))
    node.name = name
    return Public(package, name, "crossmod.notebook", node, "")


@cache
def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(module: str) -> dict[str, str]:
    """Name -> module that it is imported from, also for type checkers only."""
    nodes = (node for node in ast.walk(tree(module)) if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module or "" for node in nodes for alias in node.names}


def home_of(module: str, name: str) -> str:
    """The module that defines what another one may only pass on."""
    defines = any(name in targets(node) for node in tree(module).body)
    return module if defines else home_of(imports(module)[name], name)


def targets(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    return [ast.unparse(node.target)] if isinstance(node, ast.AnnAssign) else []


def defined(module: str, name: str) -> tuple[Entry, str]:
    """What defines a name, and the text below it."""
    return next(
        (node, told) for node, told in with_text(tree(module).body) if name in targets(node)
    )


def with_text(body: Sequence[ast.stmt]) -> Iterator[tuple[Entry, str]]:
    """Each definition with the string that follows it, as attributes are documented."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        told = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            told = str(following.value.value)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign):
            yield node, told


def chapter(public: Public) -> str:
    """What the page says of a name."""
    node = public.node
    lines = [f"### `{public.name}`", ""]
    if isinstance(node, ast.ClassDef):
        lines += [*fenced(heading_of(node)), text_of(public.doc), *members(node)]
    elif isinstance(node, ast.FunctionDef):
        lines += [*fenced(signature(node)), text_of(public.doc)]
    else:
        lines += [*fenced(ast.unparse(node)), text_of(public.doc)]
    return "\n".join(lines).rstrip() + "\n"


def fenced(code: str) -> list[str]:
    """A block of Python."""
    return ["```py", code, "```", ""]


def heading_of(node: ast.ClassDef) -> str:
    """The class with its bases and what it is made from."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    head = f"class {node.name}({bases})" if bases else f"class {node.name}"
    made = [one for one in node.body if targets(one) == ["__init__"]]
    if made and isinstance(made[0], ast.FunctionDef):
        return f"{head}\n{signature(made[0], node.name)}"
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [field_of(one) for one in node.body if is_field(one)]
        return f"{head}\n{wrapped(node.name, fields, '')}"
    return head


def is_field(node: ast.stmt) -> TypeGuard[ast.AnnAssign]:
    """Whether a statement in a class is a public field of it."""
    if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target).startswith("_"):
        return False
    return "ClassVar" not in ast.unparse(node.annotation)


def field_of(node: ast.AnnAssign) -> str:
    """A field of a dataclass as the argument that it is."""
    head, value = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}", node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        told = {keyword.arg: keyword.value for keyword in value.keywords}
        factory = told.get("default_factory")
        made = factory.body if isinstance(factory, ast.Lambda) else None
        if factory and not made:
            return f"{head} = {ast.unparse(factory)}()"
        value = made or told.get("default")
    return f"{head} = {ast.unparse(value)}" if value else head


def signature(node: ast.FunctionDef, name: str = "") -> str:
    """A function as it is called; ``name`` stands for that of a constructor."""
    given = [one for one in arguments_of(node.args) if one not in ("self", "cls")]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and not name else ""
    return wrapped(name or node.name, given, returns)


def arguments_of(args: ast.arguments) -> Iterator[str]:
    """Each argument with its type and its default, and the marks between them."""
    places = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(places) - len(args.defaults)) + [*args.defaults]
    for number, (one, default) in enumerate(zip(places, defaults, strict=True), start=1):
        yield shown(one, default)
        if number == len(args.posonlyargs):
            yield "/"
    if args.vararg or args.kwonlyargs:
        yield f"*{ast.unparse(args.vararg)}" if args.vararg else "*"
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield shown(one, default)
    if args.kwarg:
        yield f"**{ast.unparse(args.kwarg)}"


def shown(one: ast.arg, default: ast.expr | None) -> str:
    """An argument, formatted as code is."""
    return ast.unparse(one) + (f" = {ast.unparse(default)}" if default else "")


def wrapped(name: str, arguments: Sequence[str], returns: str) -> str:
    """A call in one line where it fits, else with an argument in each."""
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) <= WIDTH:
        return line
    rows = "".join(f"    {argument},\n" for argument in arguments)
    return f"{name}(\n{rows}){returns}"


def members(node: ast.ClassDef) -> Iterator[str]:
    """The public attributes and methods of a class."""
    told = [(one, text) for one, text in with_text(node.body) if text and is_public(one)]
    for one, text in told:
        if isinstance(one, ast.Assign | ast.AnnAssign):
            yield f"- `{ast.unparse(one)}`: {' '.join(text.split())}"
    if any(isinstance(one, ast.Assign | ast.AnnAssign) for one, _ in told):
        yield ""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and is_public(method):
            yield from method_of(node.name, method)


def is_public(node: ast.stmt) -> bool:
    """Whether a statement in a class defines something for others."""
    return not any(name.startswith("_") for name in targets(node))


def method_of(owner: str, node: ast.FunctionDef) -> Iterator[str]:
    """What the page says of a method or a property."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    yield from (f"#### `{owner}.{node.name}`", "")
    if any("property" in decorator for decorator in decorators):
        yield from fenced(f"{node.name}: {ast.unparse(node.returns) if node.returns else 'Any'}")
    else:
        marks = [f"@{one}\n" for one in decorators if one in ("classmethod", "abstractmethod")]
        yield from fenced("".join(marks) + signature(node))
    yield text_of(ast.get_docstring(node) or "")


SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Raises": "Raises",
    "Example": "Example",
}


def text_of(doc: str) -> str:
    """A docstring as Markdown."""
    lines: list[str] = []
    for title, body in sections(doc):
        if title:
            lines += [f"**{SECTIONS[title]}**", ""]
        if title in ("Args", "Attributes", "Raises"):
            lines += [*items(body), ""]
        else:
            lines += [*prose(body), ""]
    return "\n".join(lines)


def sections(doc: str) -> Iterator[tuple[str, str]]:
    """Title, or nothing for the first, and text of the parts of a docstring."""
    title, body = "", list[str]()
    for line in doc.splitlines():
        if line.removesuffix(":") in SECTIONS and line.endswith(":"):
            yield title, inspect.cleandoc("\n".join(body))
            title, body = line.removesuffix(":"), []
        else:
            body.append(line)
    yield title, "\n".join(body).strip("\n") if not title else dedented(body)


def dedented(body: Sequence[str]) -> str:
    """Indented lines from the left margin."""
    return inspect.cleandoc("\n" + "\n".join(body))


def items(body: str) -> Iterator[str]:
    """``name: meaning`` as the items of a list."""
    for block in re.split(r"\n(?=\S)", body):
        name, _, meaning = " ".join(block.split()).partition(": ")
        yield f"- `{name}`: {meaning}"


def prose(body: str) -> Iterator[str]:
    """Paragraphs; what a prompt begins with is shown as code."""
    for number, block in enumerate(re.split(r"\n\n+", body.strip("\n"))):
        if number:
            yield ""
        yield from (["```pycon", block, "```"] if block.startswith(">>>") else [block])

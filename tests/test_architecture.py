"""The house rules that a machine can read off the source: imports, names, lengths, documentation."""

from __future__ import annotations

import ast
import doctest
import graphlib
import importlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
TOP_LEVEL = {"bundle", "configs", "models", "docs", "scripts", "tests", "LICENSE", "README.md", "pyproject.toml"} | {
    *("Makefile", "large_files.yml", ".ci", ".gitignore", ".pre-commit-config.yaml")
}
SAME_FILES = "the objects and outlines of a slide are found and written like those of an image"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("bundle.slides.segmenter", "bundle.inference.geojson.feature"): SAME_FILES,
    ("bundle.slides.segmenter", "bundle.inference.polygons.Outline"): SAME_FILES,
    ("bundle.slides.slide_output", "bundle.inference.geojson.GeoJSONWriter"): SAME_FILES,
    ("bundle.slides.slide_output", "bundle.inference.polygons.Outline"): SAME_FILES,
    ("bundle.slides.slide_output", "bundle.inference.polygons.outlines"): SAME_FILES,
    ("bundle.slides.stitching", "bundle.inference.polygons.Outline"): SAME_FILES,
    ("bundle.slides.stitching", "bundle.inference.polygons.simplify_shape"): SAME_FILES,
    ("bundle.slides.tissue", "bundle.inference.components.component_instances"): SAME_FILES,
}
"""(module, what it imports of another folder): the reason why it may."""
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: dotted name (a package's file has the package's name) and text."""

    name: str
    text: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def sources(*folders: str) -> list[Source]:
    matches = []
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        matches.append(Source(name, path.read_text(encoding="utf-8"), is_package))
    return matches


def imports(source: Source) -> Iterator[str]:
    """Dotted name of everything that a file imports, `package.name` for `from package import name`."""
    package = source.name.split(".") if source.is_package else source.name.split(".")[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


# Each rule: what it finds wrong in a file, empty where all is well.


def foreign_imports(source: Source) -> list[str]:
    """A part of the bundle imports its own folder, bundle.types, bundle.utils and outside libraries."""
    if source.name == "bundle":
        return []  # it imports all its parts eagerly, which MONAI Label needs
    own = source.name.split(".")[1]
    wrong = []
    for name in imports(source):
        parts = name.split(".")
        upward = parts[0] in ("scripts", "tests")
        sideward = parts[0] == "bundle" and (len(parts) == 1 or parts[1] not in (own, "types", "utils"))
        if (upward or sideward) and (source.name, name) not in EXCEPTIONS:
            wrong.append(f"{source.name} imports {name}")
    return wrong


def forbidden_uses(source: Source) -> list[str]:
    """The bundle does not print, ask, read argv, the environment or the working directory, or keep global state."""
    calls = {"print", "input", "breakpoint", "exec", "eval"}
    names = {"sys.argv", "os.environ", "os.getenv", "os.getcwd", "os.chdir", "Path.cwd", "pathlib.Path.cwd", "argparse"}
    wrong = [name for name in imports(source) if name in names or name.split(".")[0] == "argparse"]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            wrong.append("global " + ", ".join(node.names))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in calls:
            wrong.append(f"{node.func.id}()")
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in names:
            wrong.append(ast.unparse(node))
    return [f"{source.name} uses {use}" for use in wrong]


def swallowed_errors(source: Source) -> list[str]:
    """No bare `except`, and none that does nothing."""
    return [
        f"{source.name}:{node.lineno} swallows errors"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and (node.type is None or all(map(_is_nothing, node.body)))
    ]


def _is_nothing(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def too_long(source: Source) -> list[str]:
    """Files of 300 lines at most, functions of 60 without their docstring."""
    wrong = []
    lines = len(source.text.splitlines())
    if lines > LONGEST_FILE:
        wrong.append(f"{source.name} has {lines} lines")
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            length = node.end_lineno - node.lineno + 1 - _docstring_length(node)
            if length > LONGEST_FUNCTION:
                wrong.append(f"{source.name}.{node.name} has {length} lines")
    return wrong


def _docstring_length(node: Function) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def undocumented(source: Source) -> list[str]:
    """A module and every public class, function and method in it has a docstring."""
    nodes = [(source.name, source.tree), *((name, node) for name, node in _public(source) if not _is_magic(node))]
    return [f"{name} has no docstring" for name, node in nodes if not ast.get_docstring(node)]


def untyped(source: Source) -> list[str]:
    """Every argument of a public function or method has a type, and so has what it returns."""
    wrong = []
    for name, node in _public(source):
        if not isinstance(node, Function):
            continue
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        missing = [item.arg for item in arguments if item.annotation is None and item.arg not in ("self", "cls")]
        if node.returns is None and node.name != "__init__":
            missing.append("return")
        wrong += [f"{name} has no type for {argument}" for argument in missing]
    return wrong


def _public(source: Source) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes and functions of a module, and methods of such classes, magic ones too."""

    def walk(prefix: str, body: list[ast.stmt]) -> Iterator[tuple[str, ast.ClassDef | Function]]:
        for node in body:
            if isinstance(node, ast.ClassDef | Function) and (not node.name.startswith("_") or _is_magic(node)):
                yield f"{prefix}.{node.name}", node
                if isinstance(node, ast.ClassDef):
                    yield from walk(f"{prefix}.{node.name}", node.body)

    return walk(source.name, source.tree.body)


def _is_magic(node: ast.AST) -> bool:
    return getattr(node, "name", "").startswith("__")


def unfinished(source: Source) -> list[str]:
    """Nothing on main is marked as left for later."""
    return [f"{source.name}: {mark}" for mark in UNFINISHED.findall(source.text)]


def circles(files: list[Source]) -> list[str]:
    """The first import circle, as the names along it."""
    modules = {source.name for source in files}
    graph = {}
    for source in files:
        reached = {name if name in modules else name.rpartition(".")[0] for name in imports(source)}
        graph[source.name] = (reached & modules) - {source.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


Rule = Callable[[Source], list[str]]
RULES: dict[Rule, tuple[str, ...]] = {
    foreign_imports: ("bundle",),
    forbidden_uses: ("bundle",),
    swallowed_errors: ("bundle", "scripts", "tests"),
    too_long: ("bundle", "scripts"),
    undocumented: ("bundle", "scripts"),
    untyped: ("bundle", "scripts"),
    unfinished: ("bundle", "scripts", "tests"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    files = sources(*RULES[rule])
    assert files
    assert [fault for source in files for fault in rule(source)] == []


def test_no_import_circle():
    assert circles(sources("bundle")) == []


def test_every_exception_is_still_needed():
    used = {(source.name, name) for source in sources("bundle") for name in imports(source)}
    assert EXCEPTIONS.keys() <= used
    assert all(EXCEPTIONS.values())


def test_nothing_else_stands_at_the_top_level():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    tracked = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split("\0")
    assert {name.split("/")[0] for name in tracked if name} - TOP_LEVEL == set()
    assert {name for name in tracked if name.startswith(".ci/")} <= {".ci/run"}


DOCUMENTED = '"""Module."""\n'
LONG = "\n    x = 1" * LONGEST_FUNCTION
BAD = [
    (foreign_imports, "from bundle.losses import topology"),
    (foreign_imports, "import bundle.losses.topology as topology"),
    (foreign_imports, "from ..losses import topology"),
    (foreign_imports, "from .. import losses"),
    (foreign_imports, "from bundle import losses"),
    (foreign_imports, "import bundle"),
    (foreign_imports, "def f():\n    from scripts.demo import main"),
    (foreign_imports, "from tests import conftest"),
    (forbidden_uses, "print(1)"),
    (forbidden_uses, "import sys\nname = sys.argv[1]"),
    (forbidden_uses, "from sys import argv"),
    (forbidden_uses, "import os\nhome = os.environ['HOME']"),
    (forbidden_uses, "from os import environ"),
    (forbidden_uses, "import os\nhere = os.getcwd()"),
    (forbidden_uses, "here = Path.cwd()"),
    (forbidden_uses, "import argparse"),
    (forbidden_uses, "def f():\n    global state"),
    (swallowed_errors, "try:\n    f()\nexcept:\n    raise"),
    (swallowed_errors, "try:\n    f()\nexcept ValueError:\n    pass"),
    (swallowed_errors, "try:\n    f()\nexcept ValueError:\n    ..."),
    (too_long, "x = 1\n" * (LONGEST_FILE + 1)),
    (too_long, "def f():" + LONG),
    (too_long, "class A:\n  def f():" + LONG),
    (undocumented, "x = 1"),
    (undocumented, DOCUMENTED + "def f() -> None:\n    pass"),
    (undocumented, DOCUMENTED + "class A:\n    x = 1"),
    (undocumented, DOCUMENTED + 'class A:\n    """A."""\n    def f(self) -> None:\n        pass'),
    (untyped, "def f(x) -> None:\n    pass"),
    (untyped, "def f(*x, **y: int) -> None:\n    pass"),
    (untyped, "def f(x: int):\n    pass"),
    (untyped, "class A:\n    def __init__(self, x):\n        pass"),
    (unfinished, "# TO" + "DO: later"),
]


@pytest.mark.parametrize(("rule", "text"), BAD)
def test_each_rule_can_fail(rule, text):
    assert rule(Source("bundle.data.lists", text))


def test_each_rule_has_its_bad_example():
    assert {rule for rule, _ in BAD} == set(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_can_pass(rule):
    text = '"""Module."""\nfrom bundle.types import Heads\nfrom . import splits\nfrom bundle.data.splits import cut\n'
    text += 'def f(x: int) -> int:\n    """Double."""\n' + "    x += 1\n" * (LONGEST_FUNCTION - 2) + "    return x\n"
    text += "def _g(x):\n    try:\n        x()\n    except ValueError:\n        x = 1\n"
    assert rule(Source("bundle.data.lists", text)) == []


def test_a_circle_is_found():
    first = Source("bundle.data.one", "from bundle.data import two")
    two = Source("bundle.data.two", "from .one import name")
    assert circles([first, two])
    assert circles([first, Source("bundle.data.two", "")]) == []


@pytest.mark.parametrize(
    "name", [source.name for source in sources("bundle") if ">>> " in source.text], ids=lambda name: name
)
def test_examples_in_docstrings_run(name):
    tested = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert tested.attempted > 0
    assert tested.failed == 0

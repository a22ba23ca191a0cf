"""The stub ``_native.pyi`` describes the compiled module as it is."""

import ast
import re
from pathlib import Path

import pytest

import advkit

native = pytest.importorskip("advkit._native", exc_type=ImportError)

STUB = ast.parse(Path(advkit.__file__).with_name("_native.pyi").read_text(encoding="utf-8"))
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def described(node):
    """Return the types of a function of the stub: of each argument but self, and of its result."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    types = [ast.unparse(each.annotation) for each in arguments if each.arg != "self"]
    return types, ast.unparse(node.returns)


def compiled(function):
    """Return the same from what pybind11 writes in the first line of a docstring."""
    inside, returns = re.match(r"\w+\((.*)\) -> (\S+)", function.__doc__).groups()
    inside = re.sub(r"typing\.SupportsInt( \| typing\.SupportsIndex)?", "int", inside)
    inside = re.sub(r"typing\.SupportsFloat( \| typing\.SupportsIndex)?", "float", inside)
    arguments = [argument.split(": ") for argument in inside.split(", ") if argument]
    types = [kind.replace("advkit._native.", "") for name, kind in arguments if name != "self"]
    return types, returns


def test_names():
    public = {name for name in dir(native) if not name.startswith("_")}
    assert {*FUNCTIONS, *CLASSES} == public


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    assert compiled(getattr(native, name)) == described(FUNCTIONS[name])


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    for method in CLASSES[name].body:
        if isinstance(method, ast.FunctionDef):
            assert compiled(getattr(getattr(native, name), method.name)) == described(method)

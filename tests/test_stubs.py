"""The stubs ``_native.pyi`` and ``_cuda.pyi`` describe the compiled modules as they are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import advkit

MODULES = ("advkit._native", "advkit._cuda")


@cache
def stub(name):
    """Return the functions and the classes of a module's stub, by name."""
    file = Path(advkit.__file__).with_name(name.rpartition(".")[2] + ".pyi")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    for node in body:
        if isinstance(node, ast.Assign):  # the same for another type of data
            functions[node.targets[0].id] = functions[node.value.id]
    return functions, {node.name: node for node in body if isinstance(node, ast.ClassDef)}


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
    types = [re.sub(r"advkit\._\w+\.", "", kind) for name, kind in arguments if name != "self"]
    return types, re.sub(r"advkit\._\w+\.", "", returns)


def members(kind):
    return [(name, each) for name in MODULES for each in stub(name)[kind]]


@pytest.mark.parametrize("module", MODULES)
def test_names(module):
    there = pytest.importorskip(module, exc_type=ImportError)
    functions, classes = stub(module)
    assert {*functions, *classes} == {name for name in dir(there) if not name.startswith("_")}


@pytest.mark.parametrize(("module", "name"), members(0))
def test_functions(module, name):
    there = pytest.importorskip(module, exc_type=ImportError)
    assert compiled(getattr(there, name)) == described(stub(module)[0][name])


@pytest.mark.parametrize(("module", "name"), members(1))
def test_methods(module, name):
    there = getattr(pytest.importorskip(module, exc_type=ImportError), name)
    for method in stub(module)[1][name].body:
        if isinstance(method, ast.FunctionDef) and not method.decorator_list:
            assert compiled(getattr(there, method.name)) == described(method)
        elif isinstance(method, ast.FunctionDef):
            assert isinstance(getattr(there, method.name), property)
    attributes = {
        each.target.id: ast.unparse(each.annotation)
        for each in stub(module)[1][name].body
        if isinstance(each, ast.AnnAssign)
    }
    if attributes:  # all can be read and written; pybind11 refuses what is of another type
        made = there()
        kept = {key for key, value in vars(there).items() if isinstance(value, property)}
        assert kept == set(attributes)
        for attribute, kind in attributes.items():
            value = getattr(made, attribute)
            assert type(value).__name__ == kind
            setattr(made, attribute, value)

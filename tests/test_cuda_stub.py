"""The stub ``_cuda.pyi`` describes the compiled module as it is: names, and how many arguments."""

import ast
from pathlib import Path

import pytest

import advkit

cuda = pytest.importorskip("advkit._cuda", exc_type=ImportError)

STUB = ast.parse(Path(advkit.__file__).with_name("_cuda.pyi").read_text(encoding="utf-8"))
NODES = {node.name: node for node in STUB.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
FUNCTIONS = [name for name, node in NODES.items() if isinstance(node, ast.FunctionDef)]


def test_names():
    assert set(NODES) == {name for name in dir(cuda) if not name.startswith("_")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    arguments = NODES[name].args
    described = len(arguments.posonlyargs) + len(arguments.args)
    signature = getattr(cuda, name).__doc__.partition(") -> ")[0].partition("(")[2]
    assert len(signature.split(", ")) == described

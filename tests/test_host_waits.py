"""A round asks a GPU nothing: shown on the CPU by what torch is asked, on a GPU by torch itself."""

import ast
from pathlib import Path

import pytest
import torch
from problems import rosenbrock, sigmoid_network
from torch.utils._python_dispatch import TorchDispatchMode

import advkit
from advkit import _rows, attack
from advkit.ops import use_backend
from advkit.ops.class_loss import class_loss_out
from advkit.ops.class_loss import reference as class_loss
from advkit.ops.lbfgs_step import Options, init, lbfgs_step
from advkit.ops.lbfgs_step import reference as step
from advkit.ops.penalty import reference as penalty
from advkit.ops.two_loop import reference as two_loop
from advkit.optim import minimize
from advkit.optim.tiles import Tile

N, B = 20, 12
ATTACKS = [
    ("augmented", "l2", {}),
    ("augmented", "l2", {"targeted": True, "trajectory": True}),
    ("augmented", "l1", {"starting_points": torch.full((B, N), 0.5)}),
    ("augmented", "linf", {"mask": torch.arange(N) < 15}),
    ("augmented", "linf", {"targeted": True}),
    ("penalty", "l2sq", {"stop_distance": 0.4, "trajectory": True}),
    ("penalty", "l1", {"loss": "cross_entropy"}),
]
BY_NAME = [f"{m}-{n}-{'-'.join(given)}" for m, n, given in ATTACKS]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


# What these return the host has to wait for.
WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2"}


class AsksNothing(TorchDispatchMode):
    """Fail where the host would wait for a GPU, as long as `on`."""

    on = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if self.on:
            indices = args[1] if name in ("index", "index_put_", "index_put") else ()
            masks = [i for i in indices if i is not None and i.dtype in (torch.bool, torch.uint8)]
            assert name not in WAITS, name
            assert not masks, f"{name} with a mask"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def rounds(monkeypatch):
    """Do as for a GPU; between the first point of a round and its end nothing may be asked."""
    mode, begin, end = AsksNothing(), Tile.trial, Tile.counts
    mode.on, seen = False, []

    def trial(tile):
        mode.on = bool(seen)  # the first round may build tables
        return begin(tile)

    def counts(tile):
        mode.on = False
        seen.append(len(tile.active))
        return end(tile)

    monkeypatch.setattr(_rows, "host_waits", lambda device: True)
    monkeypatch.setattr(Tile, "trial", trial)
    monkeypatch.setattr(Tile, "counts", counts)
    with mode:
        yield seen
    assert len(seen) > 10


def scene():
    network = sigmoid_network(N, 16, 5, seed=1)
    x = torch.rand(B, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = network(x).argmax(1)
    labels[0] = (labels[0] + 1) % 5  # its original is adversarial, and is found out late
    return network, x, labels


def attacked(method, norm, targeted=False, **given):
    network, x, labels = scene()
    given = {k: v.double() if k == "starting_points" else v for k, v in given.items()}
    labels = (labels + 1) % 5 if targeted else labels
    more = {"targeted": targeted, "method": method, "norm": norm, "tile": 5} | given
    return attack.lbfgs(network, x, labels, max_evaluations=90, **more)


@pytest.fixture(scope="module")
def expected():
    return [attacked(m, n, **given) for m, n, given in ATTACKS]


@pytest.mark.parametrize("which", range(len(ATTACKS)), ids=BY_NAME)
def test_an_attack_asks_nothing_and_finds_the_same(expected, which, rounds):
    method, norm, given = ATTACKS[which]
    result, before = attacked(method, norm, **given), expected[which]
    for field in ("adversarial", "success", "distance", "rms", "status"):
        assert torch.equal(getattr(result, field), getattr(before, field)), field
    assert torch.equal(result.c.nan_to_num(-1), before.c.nan_to_num(-1))
    # What is finished is evaluated until the host looks, counted, and never beyond the budget.
    for kind in ("forwards", "backwards"):
        assert (getattr(result, kind) >= getattr(before, kind)).all()
        assert (getattr(result, kind) <= getattr(before, kind) + 7).all()
    assert (result.forwards + result.backwards <= 180).all()
    if before.trajectory is not None:
        for b in range(B):
            mine, theirs = (
                t.distance[t.image == b] for t in (result.trajectory, before.trajectory)
            )
            assert torch.equal(mine, theirs)


def test_minimize_asks_nothing_and_finds_the_same(rounds, monkeypatch):
    start = torch.randn(9, 6, dtype=torch.float64)
    evaluated = torch.zeros(9, dtype=torch.int64)

    def counted(x, index):
        evaluated[index] += 1
        return rosenbrock(x)

    result = minimize(counted, start, -1.5, 1.5, tile=4, max_evaluations=60, pass_index=True)
    assert (evaluated <= 60).all()
    with monkeypatch.context() as patch:
        patch.setattr(_rows, "host_waits", lambda device: False)
        before = minimize(rosenbrock, start, -1.5, 1.5, tile=4, max_evaluations=60)
    for field in ("x", "value", "status", "evaluations", "iterations"):
        assert torch.equal(getattr(result, field), getattr(before, field)), field


def test_the_references_ask_nothing():
    state = init(torch.rand(4, 9), lower=0.0, upper=1.0, norm="l2sq", x0=torch.rand(4, 9))
    labels = torch.tensor([0, 1, 2, 0])
    g, pairs, free = torch.randn(4, 9), torch.rand(4, 3, 9), torch.rand(4, 9) < 0.5
    bound, every = torch.zeros(1, 1), torch.arange(4)
    with AsksNothing():
        class_loss.class_loss(torch.randn(4, 3), labels, "margin", False, 0.1, 10.0)
        two_loop.two_loop(g, pairs, pairs, labels, labels, free)
        penalty.penalty(g, g + 1, g, every.float(), bound, bound + 1, "l1")
        for _ in range(6):
            step.lbfgs_step(state, (state.trial**2).sum(1), 2 * state.trial, every)


@pytest.mark.parametrize(
    "ask",
    [lambda m: bool(m.any()), torch.nonzero, lambda m: m[m], lambda m: m[0].item()],
    ids=["any", "nonzero", "mask", "item"],
)
def test_the_guard_can_fail(ask):
    with AsksNothing(), pytest.raises(AssertionError):
        ask(torch.rand(3) < 2)


HOST = {  # functions that may ask: what only a CPU does, what comes before or after the rounds
    "_rows.py": {"rows_where"},
    "optim/tiles.py": {"replace", "counts"},
    "attack/legs.py": {"_plan"},
    "attack/search.py": {"__init__", "verify", "_round", "result", "_trajectory"},
}
ROUND = [*HOST, "losses.py"]
ROUND += [f"attack/{name}.py" for name in ("augmented", "radius", "penalty", "noise", "objective")]
ROUND += [f"ops/{op}/reference.py" for op in ("penalty", "class_loss", "two_loop", "lbfgs_step")]
QUESTIONS = {"item", "cpu", "tolist", "numpy", "nonzero", "masked_select"}
QUESTIONS |= {"tensor", "as_tensor", "new_tensor"}  # a copy from the host waits, too


def asked(tree, allowed):
    """Return the lines of a module's functions that ask a tensor something."""
    lines = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name in allowed:
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", None)
            if name in QUESTIONS or (name in ("any", "all") and not (call.args or call.keywords)):
                lines.append(f"{call.lineno}: .{name}()")
    return lines


@pytest.mark.parametrize("file", ROUND)
def test_the_code_of_a_round_asks_nothing(file):
    source = Path(advkit.__file__).with_name(file.partition("/")[0]) / file.partition("/")[2]
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assert asked(tree, HOST.get(file, set())) == []
    for name in HOST.get(file, ()):
        assert any(isinstance(f, ast.FunctionDef) and f.name == name for f in ast.walk(tree))


@needs_gpu
@pytest.mark.parametrize("which", range(len(ATTACKS)), ids=BY_NAME)
def test_on_a_gpu(which, monkeypatch):
    begin, end = Tile.trial, Tile.counts
    seen = []

    def trial(tile):
        torch.cuda.set_sync_debug_mode("error" if len(seen) > 2 else "default")
        return begin(tile)

    def counts(tile):
        torch.cuda.set_sync_debug_mode("default")
        seen.append(len(tile.active))
        return end(tile)

    monkeypatch.setattr(Tile, "trial", trial)
    monkeypatch.setattr(Tile, "counts", counts)
    method, norm, given = ATTACKS[which]
    given = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    network, x, labels = scene()
    targeted = given.pop("targeted", False)
    labels = (labels + 1) % 5 if targeted else labels
    if "starting_points" in given:
        given["starting_points"] = given["starting_points"].double()
    more = {"targeted": targeted, "method": method, "norm": norm, "tile": 5} | given
    expected = attacked(method, norm, **ATTACKS[which][2])
    result = attack.lbfgs(network.cuda(), x.cuda(), labels.cuda(), max_evaluations=90, **more)
    assert torch.equal(result.success.cpu(), expected.success)
    assert result.rms.mean().item() == pytest.approx(expected.rms.mean().item(), rel=0.01)


@needs_gpu
@pytest.mark.parametrize("backend", ["triton", "cuda", "reference"])
def test_a_round_in_a_graph(backend):
    """A round captured once and replayed is a round."""
    if backend not in advkit.ops.available_backends():
        pytest.skip(f"{backend} is not available")
    torch.manual_seed(0)
    weight = torch.randn(100, 5, device="cuda")
    labels = torch.arange(5, device="cuda").repeat(4)
    slots = torch.arange(20, device="cuda")
    loss, dlogits = weight.new_empty(20), weight.new_empty(20, 5)
    state, twin = (init(x, lower=0.0, upper=1.0, options=Options(max_evaluations=1000))
                   for x in [torch.rand(20, 100, device="cuda")] * 2)  # fmt: skip

    def play(state):
        logits = state.trial @ weight
        class_loss_out(
            logits, labels, kind="margin", targeted=True, kappa=1.0, loss=loss, dlogits=dlogits
        )
        lbfgs_step(state, loss, dlogits @ weight.T, slots)

    with use_backend(backend), torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):  # compiles
            play(init(state.trial.clone(), lower=0.0, upper=1.0))
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            play(state)
        for _ in range(12):
            graph.replay()
            play(twin)
    assert torch.equal(state.trial, twin.trial)
    assert torch.equal(state.counters, twin.counters)

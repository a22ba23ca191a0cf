"""Calls of the ops on many images, each on data of its own.

A case has the data of several calls side by side; call k takes the rows k B ... (k + 1) B of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from _common import use_tests
from _roofline import CLASSES, one_pass
from torch import Tensor

from advkit import ops
from advkit.attack.legs import NEVER
from advkit.ops import use_backend
from advkit.ops.class_loss import class_loss_out
from advkit.ops.class_loss import reference as class_loss
from advkit.ops.lbfgs_step import State, lbfgs_step
from advkit.ops.lbfgs_step import reference as lbfgs_step_reference
from advkit.ops.penalty import reference as penalty
from advkit.ops.two_loop import reference as two_loop

use_tests()
from rounds import full_round  # noqa: E402
from tolerances import DIRECTION, ONE_STEP, WELL_CONDITIONED  # noqa: E402

__all__ = ["CASES", "Case"]

Call = Callable[[], Any]
SOME = 8  # rows that are made; the others repeat them
CHECKED = 4  # rows of a call that are compared with float64
# What fills the rings before anything is timed.
DRIVER = "cpu" if "cpu" in ops.available_backends() else "reference"


class Case(ABC):
    """The data of `calls` calls of an op on B images of n values with m pairs.

    Parameters
    ----------
    images, n, m : int
        B, n, m.
    calls : int
        How many.
    device : torch.device
        Where.
    """

    op: str
    tolerance = plain_tolerance = WELL_CONDITIONED[torch.float32]

    def __init__(self, images: int, n: int, m: int, calls: int, device: torch.device) -> None:
        self.images, self.n, self.m, self.calls, self.device = images, n, m, calls, device
        self.bytes = images * one_pass(self.op, n, m)
        self.rows = images * self.calls
        self.checked = min(CHECKED, images)
        self.changed: list[tuple[Tensor, Tensor]] = []
        torch.manual_seed(0)
        self.make()

    def spread(self, made: Tensor) -> Tensor:
        """Repeat rows (k, ...) until there are as many as all calls take, on the device."""
        times = -(-self.rows // len(made))
        return made.to(self.device).repeat(times, *[1] * (made.dim() - 1))[: self.rows]

    def part(self, k: int) -> slice:
        """Return the rows of call k."""
        return slice(k * self.images, (k + 1) * self.images)

    @abstractmethod
    def make(self) -> None:
        """Make the data."""

    def restore(self) -> None:
        """Undo what calls have changed of their inputs."""
        for changed, original in self.changed:
            changed.copy_(original)

    @abstractmethod
    def call(self, k: int) -> Call:
        """Return what does call k by the backend in use, its tensors at hand."""

    @abstractmethod
    def plain(self) -> Callable[..., Any]:
        """Return the reference as a function, for torch.compile."""

    @abstractmethod
    def arguments(self, k: int, kind: torch.dtype | None = None) -> tuple[Any, ...]:
        """Return what the reference takes for call k, as float64 for a check."""

    @abstractmethod
    def result(self, returned: Any) -> Tensor:
        """Return what call 0 left or, by the reference as a function, returned: the first rows."""

    @abstractmethod
    def expected(self) -> Tensor:
        """Return what it should be, in float64."""

    def by_backend(self, name: str) -> list[Call]:
        """Return the calls by a backend."""

        def run(call: Call) -> None:
            with use_backend(name):
                call()

        return [partial(run, self.call(k)) for k in range(self.calls)]

    def compiled(self) -> list[Call]:
        """Return the calls of the compiled reference."""
        function = torch.compile(self.plain(), dynamic=False)
        return [partial(function, *self.arguments(k)) for k in range(self.calls)]

    def error(self, returned: Any) -> float:
        """Return the largest relative error of a row, after call 0 and nothing else."""
        got, wanted = self.result(returned)[: self.checked].double(), self.expected()
        return float(((got - wanted).norm(dim=1) / wanted.norm(dim=1)).max())


class Penalty(Case):
    """The L2 penalty in a box."""

    op = "penalty"

    def make(self) -> None:
        """Make the data."""
        self.x, self.x0 = (self.spread(torch.rand(SOME, self.n)) for _ in range(2))
        self.g, self.c = self.spread(torch.randn(SOME, self.n)), self.spread(torch.rand(SOME))
        self.bounds = tuple(torch.full((1, 1), v, device=self.device) for v in (0.0, 1.0))
        self.value, self.gradient = torch.empty_like(self.c), torch.empty_like(self.x)
        self.free = torch.empty_like(self.x, dtype=torch.bool)

    def call(self, k: int) -> Call:
        """Return what does call k by the backend in use."""
        p = self.part(k)
        out = {"value": self.value[p], "gradient": self.gradient[p], "free": self.free[p]}
        low, high = self.bounds
        given = self.x[p], self.x0[p], self.g[p], self.c[p]
        return partial(ops.penalty_out, *given, lower=low, upper=high, norm="l2", **out)

    def plain(self) -> Callable[..., Any]:
        """Return the reference as a function."""
        return penalty.penalty

    def arguments(self, k: int, kind: torch.dtype | None = None) -> tuple[Any, ...]:
        """Return what the reference takes for call k."""
        p = self.part(k)
        tensors = self.x[p], self.x0[p], self.g[p], self.c[p], *self.bounds
        return *(t.to(kind or t.dtype) for t in tensors), "l2"

    def result(self, returned: Any) -> Tensor:
        """Return the gradients."""
        return self.gradient if returned is None else returned[1]

    def expected(self) -> Tensor:
        """Return what they should be."""
        return penalty.penalty(*self.arguments(0, torch.float64))[1][: self.checked]


class ClassLoss(Case):
    """The margin of ten classes; n and m do not matter."""

    op = "class_loss"

    def make(self) -> None:
        """Make the data."""
        self.logits = self.spread(torch.randn(SOME, CLASSES))
        self.labels = self.spread(torch.arange(SOME))
        self.loss = self.logits.new_empty(len(self.logits))
        self.dlogits = torch.empty_like(self.logits)

    def call(self, k: int) -> Call:
        """Return what does call k by the backend in use."""
        p = self.part(k)
        out = {"loss": self.loss[p], "dlogits": self.dlogits[p]}
        settings: dict[str, Any] = {"kind": "cross_entropy", "targeted": True, "kappa": 0.0}
        return partial(class_loss_out, self.logits[p], self.labels[p], **settings, **out)

    def plain(self) -> Callable[..., Any]:
        """Return the reference as a function."""
        return class_loss.class_loss

    def arguments(self, k: int, kind: torch.dtype | None = None) -> tuple[Any, ...]:
        """Return what the reference takes for call k."""
        p = self.part(k)
        logits = self.logits[p]
        return logits.to(kind or logits.dtype), self.labels[p], "cross_entropy", True, 0.0, 10.0

    def result(self, returned: Any) -> Tensor:
        """Return the gradients by the logits."""
        return self.dlogits if returned is None else returned[1]

    def expected(self) -> Tensor:
        """Return what they should be."""
        return class_loss.class_loss(*self.arguments(0, torch.float64))[1][: self.checked]


class TwoLoop(Case):
    """Full rings, a fifth of the values at bounds."""

    op = "two_loop"

    def make(self) -> None:
        """Make the data."""
        S = torch.randn(SOME, self.m, self.n)
        self.S, self.Y = self.spread(S), self.spread(S * torch.empty_like(S).uniform_(0.5, 2))
        self.g = self.spread(torch.randn(SOME, self.n))
        self.free = self.spread(torch.rand(SOME, self.n) < 0.8)
        self.head = torch.zeros(self.rows, dtype=torch.int64, device=self.device)
        self.count = torch.full_like(self.head, self.m)
        self.direction = torch.empty_like(self.g)

    def _inputs(self, k: int) -> tuple[Tensor, ...]:
        p = self.part(k)
        return self.g[p], self.S[p], self.Y[p], self.head[p], self.count[p], self.free[p]

    def call(self, k: int) -> Call:
        """Return what does call k by the backend in use."""
        return partial(ops.two_loop_out, *self._inputs(k), direction=self.direction[self.part(k)])

    def plain(self) -> Callable[..., Any]:
        """Return the reference as a function."""
        return two_loop.two_loop

    def arguments(self, k: int, kind: torch.dtype | None = None) -> tuple[Any, ...]:
        """Return what the reference takes for call k."""
        g, S, Y, *ring = self._inputs(k)
        return *(t.to(kind or t.dtype) for t in (g, S, Y)), *ring

    def result(self, returned: Any) -> Tensor:
        """Return the directions."""
        return self.direction if returned is None else returned

    def expected(self) -> Tensor:
        """Return what they should be."""
        some = (t[: self.checked] for t in self.arguments(0, torch.float64))
        return two_loop.two_loop(*some)


class LbfgsStep(Case):
    """A round that accepts a point and stores a pair in a full ring."""

    op = "lbfgs_step"
    tolerance = ONE_STEP[torch.float32]
    plain_tolerance = DIRECTION[torch.float32]  # plain sums in float32 lose more digits

    def make(self) -> None:
        """Make the data."""
        made = full_round(self.n, self.m, "l2sq", SOME, backend=DRIVER, options=NEVER)
        before, loss, gradient = made
        self._tensors = [
            f.name
            for f in fields(State)
            if isinstance(getattr(before, f.name), Tensor) and len(getattr(before, f.name)) > 1
        ]
        here = {"lower": before.lower.to(self.device), "upper": before.upper.to(self.device)}
        here |= {name: self.spread(getattr(before, name)) for name in self._tensors}
        self._before = replace(before, **here)
        copies = {name: here[name].clone() for name in self._tensors}
        self.state = replace(self._before, **copies)
        self.loss, self.g = self.spread(loss), self.spread(gradient)
        self.slots = torch.arange(self.rows, device=self.device)
        self.changed = [(copies[name], here[name]) for name in self._tensors]

    def call(self, k: int) -> Call:
        """Return what does call k by the backend in use."""
        return partial(lbfgs_step, *self.arguments(k))

    def plain(self) -> Callable[..., Any]:
        """Return the reference as a function."""
        return lbfgs_step_reference.lbfgs_step

    def arguments(self, k: int, kind: torch.dtype | None = None) -> tuple[Any, ...]:
        """Return what the op and the reference take for call k."""
        p = self.part(k)
        return self.state, self.loss[p], self.g[p], self.slots[p]

    def result(self, returned: Any) -> Tensor:
        """Return the next trial points as steps from the original images."""
        return self.state.trial - self.state.x0

    def expected(self) -> Tensor:
        """Return what they should be."""
        some = {name: getattr(self._before, name)[: self.checked] for name in self._tensors}
        wide = {k: v.double() if v.is_floating_point() else v.clone() for k, v in some.items()}
        bounds = {name: getattr(self._before, name).double() for name in ("lower", "upper")}
        state = replace(self._before, **bounds, **wide)
        loss, g = self.loss[: self.checked].double(), self.g[: self.checked].double()
        lbfgs_step_reference.lbfgs_step(state, loss, g, self.slots[: self.checked])
        return state.trial - state.x0


CASES: dict[str, type[Case]] = {case.op: case for case in (Penalty, ClassLoss, TwoLoop, LbfgsStep)}

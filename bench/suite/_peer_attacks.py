"""The attacks that advkit's are compared with: ``attack(network, images, targets)``, one row each.

Settings are the libraries' defaults, or what their authors use in their papers. Where a library
has no L-BFGS attack of its own, but a solver, the attack around it is the usual recipe: 9 values of
c, from 0.01 by factors of 10 until the target is reached, then by halving; 100 iterations for
each, every one from the image itself; the nearest point of any evaluation counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
Points = npt.NDArray[np.float64]
C_FIRST, C_VALUES, C_FACTOR = 1e-2, 9, 10.0
ITERATIONS, HISTORY = 100, 10
BATCH = 200  # of BoTorch's lock step


@dataclass(frozen=True)
class Peer:
    """An attack of another library.

    Parameters
    ----------
    build : callable
        Return the attack; ImportError where the library is missing.
    slow : bool
        Attacks few images only, others in each turn.
    batch : int
        At least so many: fewer would take longer for each.
    one_by_one : bool
        Attacks one image after another, for which fewer threads may be faster.
    """

    build: Callable[[], Attack]
    slow: bool = False
    batch: int = 1
    one_by_one: bool = False


@dataclass
class Search:
    """The recipe's search over c for k images, and the nearest points (k, n) found.

    Parameters
    ----------
    origin : array (k, n)
        The images.
    """

    origin: Points
    c: Points = field(init=False)

    def __post_init__(self) -> None:
        """Start from the smallest c."""
        rows = len(self.origin)
        self.c, self._low = np.full(rows, C_FIRST), np.zeros(rows)
        self._high, self._squared = np.full(rows, np.inf), np.full(rows, np.inf)
        self._reached = np.zeros(rows, dtype=bool)
        self.nearest = self.origin.copy()

    def note(self, rows: npt.NDArray[np.int64], x: Points, fooled: npt.NDArray[np.bool_]) -> None:
        """Keep points x (b, n) of some rows that fool the network and are nearer."""
        squared = np.square(x - self.origin[rows]).sum(1)
        better = fooled & (squared < self._squared[rows])
        self._reached[rows] |= fooled
        self._squared[rows[better]], self.nearest[rows[better]] = squared[better], x[better]

    def solved(self) -> None:
        """Choose the next c."""
        self._high = np.where(self._reached, self.c, self._high)
        self._low = np.where(self._reached, self._low, self.c)
        halved = (self._low + np.where(np.isfinite(self._high), self._high, 0)) / 2
        self.c = np.where(np.isfinite(self._high), halved, self.c * C_FACTOR)
        self._reached[:] = False


def _evaluate(
    network: nn.Module, x: Points, origin: Points, c: Points, targets: Tensor, shape: torch.Size
) -> tuple[Points, Points, npt.NDArray[np.bool_]]:
    """Return |r|² + c cross-entropy (b,), its gradient (b, n) and who is fooled (b,)."""
    points = torch.from_numpy(x.astype(np.float32)).view(-1, *shape).requires_grad_()
    logits = network(points)
    loss = nn.functional.cross_entropy(logits, targets, reduction="none")
    (slope,) = torch.autograd.grad(loss.sum(), points)
    r = x - origin
    value = np.square(r).sum(1) + c * loss.detach().numpy()
    gradient = 2.0 * r + c[:, None] * slope.flatten(1).numpy().astype(np.float64)
    return value, gradient, (logits.argmax(1) == targets).numpy()


def _in_batches(batch: Callable[[nn.Module, Tensor, Tensor], Points], size: int) -> Attack:
    """Attack `size` images after another, by what returns points (b, n)."""

    def attack(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        pairs = zip(images.split(size), targets.split(size), strict=True)
        each = [batch(network, *pair) for pair in pairs]
        return torch.from_numpy(np.concatenate(each)).to(images.dtype).view_as(images)

    return attack


def _scipy() -> Attack:
    minimize = import_module("scipy.optimize").fmin_l_bfgs_b

    def one(network: nn.Module, image: Tensor, target: Tensor) -> Points:
        search = Search(image.flatten(1).numpy().astype(np.float64))
        row = np.zeros(1, dtype=np.int64)

        def value_and_grad(x: Points, c: Points) -> tuple[float, Points]:
            value, gradient, fooled = _evaluate(
                network, x[None], search.origin, c, target, image.shape[1:]
            )
            search.note(row, x[None], fooled)
            return float(value[0]), gradient[0]

        bounds = [(0.0, 1.0)] * image.numel()
        for _ in range(C_VALUES):
            minimize(
                value_and_grad,
                search.origin[0],
                args=(search.c,),
                bounds=bounds,
                m=HISTORY,
                maxiter=ITERATIONS,
            )
            search.solved()
        return search.nearest

    return _in_batches(one, 1)


def _botorch() -> Attack:
    minimize = import_module("botorch.optim.batched_lbfgs_b").fmin_l_bfgs_b_batched

    def batch(network: nn.Module, images: Tensor, targets: Tensor) -> Points:
        search = Search(images.flatten(1).numpy().astype(np.float64))

        def value_and_grad(x: Points, batch_indices: list[int]) -> tuple[Points, Points]:
            rows = np.asarray(batch_indices)
            value, gradient, fooled = _evaluate(
                network, x, search.origin[rows], search.c[rows], targets[rows], images.shape[1:]
            )
            search.note(rows, x, fooled)
            return value, gradient

        for _ in range(C_VALUES):
            minimize(
                value_and_grad,
                search.origin,
                bounds=[(0.0, 1.0)] * search.origin.shape[1],
                maxcor=HISTORY,
                maxiter=ITERATIONS,
                pass_batch_indices=True,
            )
            search.solved()
        return search.nearest

    return _in_batches(batch, BATCH)


def _advertorch() -> Attack:
    # It imports a function that PyTorch 1.9 removed; its L-BFGS attack does not call it.
    gradcheck = import_module("torch.autograd.gradcheck")
    if not hasattr(gradcheck, "zero_gradients"):
        gradcheck.zero_gradients = None  # type: ignore[attr-defined]
    made = import_module("advertorch.attacks").LBFGSAttack

    def attack(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        # One by one: a batch would be one joint problem, with longer r.
        one = made(network, num_classes=10, batch_size=1, targeted=True)
        pairs = zip(images.split(1), targets.split(1), strict=True)
        return torch.cat([one.perturb(*pair) for pair in pairs])

    return attack


def _adv_lib(name: str, **settings: object) -> Attack:
    called = getattr(import_module("adv_lib.attacks"), name)

    def attack(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return called(network, images, targets, targeted=True, **settings)

    return attack


def _foolbox(name: str, **settings: object) -> Attack:
    foolbox = import_module("foolbox")
    made = getattr(import_module("foolbox.attacks"), name)(**settings)

    def attack(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        bounded = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
        _, adversarial, _ = made(
            bounded, images, foolbox.TargetedMisclassification(targets), epsilons=None
        )
        return adversarial

    return attack


PEERS: dict[str, Peer] = {
    "scipy L-BFGS-B, image by image": Peer(_scipy, slow=True, one_by_one=True),
    "advertorch LBFGSAttack, image by image": Peer(_advertorch, slow=True, one_by_one=True),
    "BoTorch L-BFGS-B, 200 in lock step": Peer(_botorch, slow=True, batch=BATCH),
    "adv-lib DDN, 1000 steps": Peer(partial(_adv_lib, "ddn", steps=1000, levels=None)),
    "adv-lib FMN, 1000 steps": Peer(partial(_adv_lib, "fmn", norm=2, steps=1000)),
    "adv-lib ALMA, 1000 steps": Peer(partial(_adv_lib, "alma", distance="l2", num_steps=1000)),
    "adv-lib C&W, 9 x 1000 steps": Peer(
        partial(_adv_lib, "carlini_wagner_l2", binary_search_steps=9, max_iterations=1000),
        slow=True,
    ),
    "foolbox DDN, 100 steps": Peer(partial(_foolbox, "DDNAttack")),
    "foolbox FMN, 1000 steps": Peer(partial(_foolbox, "L2FMNAttack", steps=1000)),
    "foolbox C&W, 9 x 1000 steps": Peer(
        partial(_foolbox, "L2CarliniWagnerAttack", binary_search_steps=9, steps=1000), slow=True
    ),
}

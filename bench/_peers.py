"""The minimum-norm attacks that `minimum_norm.py` compares: advkit's and those of its peers.

One row of `ATTACKS` for each attack and norm. Settings are those of AttackBench's own
configurations, which are the libraries' defaults but for a few named ones; numbers of steps are
such that an attack uses the whole budget of E evaluations, that is 2 E forward and backward passes
of each image. Some need a backward pass for each of the network's K classes in every step.

Not in the table: adv-lib's ALMA for Linf, which AttackBench lists and adv-lib 0.2.8 does not have;
attacks of a given radius (PGD, BIM, FGSM), which are minimum-norm only by AttackBench's search
around them. APGD, the best of those in AttackBench's tables, is included with that search.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from advkit.attack import AttackResult, lbfgs

OURS = "advkit.lbfgs"
Attack = Callable[[nn.Module, Tensor, Tensor], "Tensor | AttackResult"]
# Rivals that adv-lib's TR and targeted APGD and Foolbox's DeepFool look at, by their defaults.
RIVALS = 9
ORDERS = {"l1": 1, "l2": 2, "linf": math.inf}
# AttackBench starts its search for the radius from these.
FIRST_RADIUS = {"l1": 10, "l2": 1, "linf": 1 / 255}


@dataclass(frozen=True)
class Peer:
    """An attack in one norm.

    Parameters
    ----------
    library, name : str
        Where it comes from, and what it is called there.
    norm : {"l2", "l1", "linf"}
        What it makes small.
    build : callable
        The number of evaluations of each image and the number of classes ->
        ``attack(model, images, labels)``, which returns the adversarial images, or an
        `AttackResult` that holds them.
    """

    library: str
    name: str
    norm: str
    build: Callable[[int, int], Attack]

    @property
    def title(self) -> str:
        """The name with the library's."""
        return f"{self.library}.{self.name}"


def _advkit(**settings: Any) -> Attack:
    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> AttackResult:
        return lbfgs(model, inputs, labels, **settings)

    return attack


def _adv_lib(function: str, **settings: Any) -> Attack:
    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        called = getattr(import_module("adv_lib.attacks"), function)
        return called(model=model, inputs=inputs, labels=labels, **settings)

    return attack


def _adv_lib_search(function: str, norm: str, **settings: Any) -> Attack:
    """Attack within a radius, found by AttackBench's search of 20 steps, cut by the budget."""

    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        search = import_module("attackbench.attacks.adv_lib.wrapper").adv_lib_minimal_wrapper
        called = getattr(import_module("adv_lib.attacks"), function)
        within = partial(called, norm=ORDERS[norm], use_large_reps=norm == "l1", **settings)
        largest = 1 if norm == "linf" else None
        return search(model, inputs, labels, within, FIRST_RADIUS[norm], max_eps=largest)

    return attack


def _foolbox(name: str, **settings: Any) -> Attack:
    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        foolbox = import_module("foolbox")
        bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=inputs.device)
        made = getattr(import_module("foolbox.attacks"), name)(**settings)
        return made.run(bounded, inputs, foolbox.Misclassification(labels))

    return attack


def _torchattacks(name: str, **settings: Any) -> Attack:
    def attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        return getattr(import_module("torchattacks"), name)(model, **settings)(inputs, labels)

    return attack


def _searches(evaluations: int) -> int:
    """Return how many constants C&W and EAD try: AttackBench's 9, fewer of a small budget."""
    return 9 if evaluations >= 90 else 5


def _each(evaluations: float) -> int:
    """Return the iterations for each of those constants."""
    return max(1, int(evaluations) // _searches(int(evaluations)))


def _passes(evaluations: int, *, forwards: int, backwards: int, before: int = 1) -> int:
    """Return the steps that the budget holds, after some passes `before` the first."""
    return max(1, (2 * evaluations - before) // (forwards + backwards))


def _table() -> list[Peer]:
    rows: list[Peer] = []

    def add(library: str, name: str, norms: str, build: Callable[[str, int, int], Attack]) -> None:
        rows.extend(Peer(library, name, norm, partial(build, norm)) for norm in norms.split())

    every = "l2 l1 linf"
    add("advkit", "lbfgs", every, lambda p, e, k: _advkit(norm=p, max_evaluations=e))
    add(
        "advkit",
        "lbfgs-penalty",
        "l2 l1",
        lambda p, e, k: _advkit(
            norm="l2sq" if p == "l2" else p, method="penalty", max_evaluations=e
        ),
    )

    # levels=None: not rounded to 8 bits, as the others are not.
    add("adv_lib", "ddn", "l2", lambda p, e, k: _adv_lib("ddn", steps=e, levels=None))
    add(
        "adv_lib",
        "fmn",
        every,
        lambda p, e, k: _adv_lib("fmn", norm=ORDERS[p], steps=e, α_init=10 if p == "linf" else 1),
    )
    add(
        "adv_lib",
        "alma",
        "l2 l1",
        lambda p, e, k: _adv_lib(
            "alma", distance=p, num_steps=e, init_lr_distance={"l2": 0.1, "l1": 0.5}[p]
        ),
    )
    add("adv_lib", "pdgd", "l2", lambda p, e, k: _adv_lib("pdgd", num_steps=e))
    add("adv_lib", "pdpgd", every, lambda p, e, k: _adv_lib("pdpgd", norm=ORDERS[p], num_steps=e))
    add(
        "adv_lib",
        "cw_l2",
        "l2",
        lambda p, e, k: _adv_lib(
            "carlini_wagner_l2", binary_search_steps=_searches(e), max_iterations=_each(e)
        ),
    )
    add(
        "adv_lib",
        "cw_linf",
        "linf",
        # Its constant is doubled up to 21 times before the radius shrinks.
        lambda p, e, k: _adv_lib("carlini_wagner_linf", max_iterations=max(1, e // 21)),
    )
    add(
        "adv_lib",
        "fab",
        every,
        lambda p, e, k: _adv_lib(
            "fab", norm=ORDERS[p], n_iter=_passes(e, forwards=2, backwards=k - 1)
        ),
    )
    for name, adaptive in ("tr", False), ("tr-adaptive", True):
        add(
            "adv_lib",
            name,
            "l2 linf",
            lambda p, e, k, adaptive=adaptive: _adv_lib(
                "tr",
                p=ORDERS[p],
                adaptive=adaptive,
                iter=_passes(e, forwards=2 + adaptive, backwards=1, before=2 + RIVALS),
            ),
        )
    add(
        "adv_lib",
        "df",
        "l2 linf",
        lambda p, e, k: _adv_lib(
            "df", norm=ORDERS[p], steps=_passes(e, forwards=1, backwards=k - 1)
        ),
    )
    add(
        "adv_lib",
        "sdf",
        "l2",
        lambda p, e, k: _adv_lib("sdf", df_steps=_passes(e, forwards=1, backwards=k - 1)),
    )
    add(
        "adv_lib",
        "apgd",
        every,
        lambda p, e, k: _adv_lib_search("apgd", p, n_iter=max(1, e // 10)),
    )
    add(
        "adv_lib",
        "apgd_targeted",
        every,
        # Its L1 variant raises with fewer than 5 iterations.
        lambda p, e, k: _adv_lib_search("apgd_targeted", p, n_iter=max(5, e // (10 * RIVALS))),
    )

    names = {"l2": "L2", "l1": "L1", "linf": "LInf"}
    add("foolbox", "FMN", every, lambda p, e, k: _foolbox(f"{names[p]}FMNAttack", steps=e))
    add("foolbox", "DDN", "l2", lambda p, e, k: _foolbox("DDNAttack", steps=e))
    add(
        "foolbox",
        "CarliniWagner",
        "l2",
        lambda p, e, k: _foolbox(
            "L2CarliniWagnerAttack", binary_search_steps=_searches(e), steps=_each(e)
        ),
    )
    # Two forward passes and one backward pass an iteration.
    add(
        "foolbox",
        "EAD",
        "l1",
        lambda p, e, k: _foolbox(
            "EADAttack", binary_search_steps=_searches(e), steps=_each(e * 2 / 3)
        ),
    )
    add(
        "foolbox",
        "DeepFool",
        "l2 linf",
        lambda p, e, k: _foolbox(
            {"l2": "L2", "linf": "Linf"}[p] + "DeepFoolAttack", steps=max(1, e // RIVALS)
        ),
    )
    full = {"l2": "L2", "l1": "L1", "linf": "Linfinity"}
    add(
        "foolbox",
        "BrendelBethge",
        every,
        lambda p, e, k: _foolbox(f"{full[p]}BrendelBethgeAttack", steps=e),
    )

    add("torchattacks", "CW", "l2", lambda p, e, k: _torchattacks("CW", steps=e))
    add(
        "torchattacks",
        "DeepFool",
        "l2",
        lambda p, e, k: _torchattacks("DeepFool", steps=_passes(e, forwards=1, backwards=k)),
    )
    add(
        "torchattacks",
        "FAB",
        every,
        lambda p, e, k: _torchattacks(
            "FAB", norm=p.capitalize(), eps=None, steps=_passes(e, forwards=2, backwards=k)
        ),
    )
    # Fewer than 10 iterations are a division by zero there.
    for name in "EADL1", "EADEN":
        add(
            "torchattacks",
            name,
            "l1",
            lambda p, e, k, name=name: _torchattacks(
                name, binary_search_steps=_searches(e), max_iterations=max(10, _each(e * 2 / 3))
            ),
        )
    # Counts changed pixels, but each of its steps is one in L1.
    add("torchattacks", "SparseFool", "l1", lambda p, e, k: _torchattacks("SparseFool", steps=20))
    return rows


ATTACKS = _table()
# The same with targets in place of labels, of those that are strongest so.
TARGETED = [
    Peer("advkit", "lbfgs", "l2", lambda e, k: _advkit(targeted=True, max_evaluations=e)),
    Peer("adv_lib", "ddn", "l2", lambda e, k: _adv_lib("ddn", targeted=True, steps=e, levels=None)),
    Peer(
        "adv_lib",
        "alma",
        "l2",
        lambda e, k: _adv_lib(
            "alma", targeted=True, distance="l2", num_steps=e, init_lr_distance=0.1
        ),
    ),
]

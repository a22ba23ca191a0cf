"""Attacks with targets on FC100-100-10: advkit against every L-BFGS attack, and against others.

The first test images that the network classifies correctly, seeded random targets. advkit attacks
all of them in each turn; peers that take long attack another part of the first ones in each turn.
Success and distances are computed here, from the adversarial images; evaluations are counted as
forward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from _common import timed
from _peer_attacks import PEERS, Peer
from torch import Tensor, nn

from advkit import data, models
from advkit.attack import lbfgs
from advkit.attack.targets import correctly_classified, random_targets

NETWORK = "fc100-100-10"
SEED = 0
FEW = 3  # images on which the number of threads is chosen
# Settings of advkit's own candidates.
OURS: dict[str, dict[str, Any]] = {
    "advkit, 50 evaluations": {"max_evaluations": 50},
    "advkit, 100 evaluations": {"max_evaluations": 100},
    "advkit, 200 evaluations": {"max_evaluations": 200},
    "advkit, penalty method": {"method": "penalty"},
}


def cases(config: pytest.Config) -> list[tuple[str, list[str]]]:
    """Return the one case with its candidates."""
    return [(NETWORK, [*OURS, *PEERS])]


def bench_attack(
    benchmark: Any, request: pytest.FixtureRequest, case: str, turn: int, candidate: str
) -> None:
    """Time one attack on its images."""
    config = request.config
    quick = config.getoption("quick")
    count = config.getoption("images") or (100 if quick else 1000)
    victims = _victims(case, config.getoption("data"), count)
    if candidate in OURS:
        part = slice(0, count)
        attack: Callable[..., Any] = partial(lbfgs, targeted=True, **OURS[candidate])
        threads = config.getoption("threads")
    else:
        peer = PEERS[candidate]
        part = slice(0, count)
        if peer.slow:
            some = config.getoption("peer_images") or (4 if quick else 20)
            some = max(some, 0 if quick else peer.batch)
            part = slice(min(turn * some, count), min((turn + 1) * some, count))
        attack = _attack_of(peer)
        threads = _threads(candidate, attack, victims, config.getoption("threads"))
    benchmark.extra_info |= {"case": case, "candidate": candidate, "threads": threads}
    if part.start == part.stop:
        pytest.skip("no images are left for this turn")
    call = partial(attack, victims.network, victims.images[part], victims.targets[part])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    counter = _Forwards(victims.network)
    try:
        if candidate in OURS:
            result = benchmark.pedantic(call, rounds=1, warmup_rounds=1 if turn == 0 else 0)
            forwards, adversarial = float(result.forwards.double().mean()), result.adversarial
        else:
            with counter:
                adversarial = benchmark.pedantic(call, rounds=1)
            forwards = counter.rows / (part.stop - part.start)
    finally:
        torch.set_num_threads(before)
    rms, success = _judge(victims, part, adversarial)
    # A candidate that finds nothing is broken, here or there.
    assert success.any(), f"{candidate} fooled the network on no image"
    benchmark.extra_info |= {
        "first image": part.start,
        "images": part.stop - part.start,
        "evaluations": forwards,
        # None: not fooled.
        "rms": [float(r) if ok else None for r, ok in zip(rms, success, strict=True)],
    }


@dataclass(frozen=True)
class Victims:
    """A network, images that it classifies correctly, and what it shall say of them."""

    network: nn.Module
    images: Tensor
    targets: Tensor


@lru_cache(maxsize=1)
def _victims(network: str, source: str, count: int) -> Victims:
    try:
        test = data.load(source, "test")
    except (FileNotFoundError, ImportError, OSError) as error:
        pytest.skip(str(error))
    model = models.trained(network, source).model.eval().requires_grad_(False)
    index = correctly_classified(model, test.images, test.labels, limit=count)
    images, labels = test.images[index], test.labels[index]
    classes = model(images[:1]).shape[1]
    return Victims(model, images, random_targets(labels, classes, seed=SEED, index=index))


def _attack_of(peer: Peer) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    try:
        return peer.build()
    except ImportError as error:
        pytest.skip(f"{error.name or error} is not installed")


_fastest: dict[str, int] = {}


def _threads(name: str, attack: Callable[..., Tensor], victims: Victims, most: int) -> int:
    """Return the number of threads with which a peer is fastest, found out once."""
    peer = PEERS[name]
    if not peer.one_by_one:
        return most
    if name not in _fastest:
        before, seconds = torch.get_num_threads(), {}
        some = victims.images[:FEW], victims.targets[:FEW]
        for threads in range(1, most + 1):
            torch.set_num_threads(threads)
            attack(victims.network, *(few[:1] for few in some))  # start-up is not to be measured
            seconds[threads], _ = timed(partial(attack, victims.network, *some))
        torch.set_num_threads(before)
        _fastest[name] = min(seconds, key=lambda threads: seconds[threads])
    return _fastest[name]


class _Forwards:
    """Counts the images that go through a network, while it is entered as a context."""

    def __init__(self, network: nn.Module) -> None:
        self._network, self.rows = network, 0

    def __enter__(self) -> None:
        """Begin to count."""

        def count(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self.rows += len(arguments[0])

        self._hook = self._network.register_forward_pre_hook(count)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._hook.remove()


@torch.no_grad()
def _judge(victims: Victims, part: slice, adversarial: Tensor) -> tuple[Tensor, Tensor]:
    """Return RMS (b,) and success (b,) of adversarial images, from nothing but the images."""
    adversarial = adversarial.detach()
    inside = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    success = inside & (victims.network(adversarial).argmax(1) == victims.targets[part])
    r = (adversarial - victims.images[part]).double().flatten(1)
    return r.square().mean(1).sqrt(), success

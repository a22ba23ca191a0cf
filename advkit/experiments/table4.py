"""Table 4: what fools which of the networks trained on disjoint halves, and amplified."""

from __future__ import annotations

from pathlib import Path

from advkit.experiments._halves import study
from advkit.experiments._matrices import against_noise, beside, exceptions
from advkit.experiments.paper import NAMES, TABLE4
from advkit.experiments.setting import Outcome, Setting
from advkit.report import heatmap

__all__ = ["run"]


def run(setting: Setting) -> Outcome:
    """Distort test images for each network, amplify the changes to RMS 0.1, and feed them to all.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        The matrix beside the paper's.
    """
    found = study(setting).matrix
    rows = [found.row("adversarial", name) for name in found.models]
    rows.append(found.row("noise", size=0.06, clip="none"))
    rows += [found.row("amplified", name, size=0.1, clip="none") for name in found.models]
    rows.append(found.row("noise", size=0.1, clip="none"))
    order = [
        *TABLE4["adversarial"].values(),
        TABLE4["noise"][0.06],
        *TABLE4["amplified"].values(),
        TABLE4["noise"][0.1],
    ]
    clipped = [found.row("amplified", name, size=0.1, clip="after") for name in found.models]
    clipped.append(found.row("noise", size=0.1, clip="after"))
    exact = [found.row("amplified", name, size=0.1, clip="exact") for name in found.models]
    exact.append(found.row("noise", size=0.1, clip="exact"))
    noise = against_noise(found)

    def draw(path: Path) -> None:
        title = f"Table 4 on {setting.data} (test images), targets: {setting.targets}"
        heatmap(found, path, rows=[*rows, *clipped[:3]], names=NAMES, title=title)

    return Outcome(
        title=f"Table 4 on {setting.data}",
        tables={
            "Errors in %, here / in the paper (MNIST)": beside(found, rows, dict(enumerate(order))),
            "Amplified to 0.1, then cut to [0, 1]": beside(found, clipped, {}),
            "Scaled to 0.1 within the box": beside(found, exact, {}),
            "Adversarial images against noise of the same RMS, image by image, in the box": noise,
        },
        notes=[
            f"The first {found.images} test images; targets: {setting.targets}.",
            "Amplified: x + 0.1 sqrt(n) (x' - x) / |x' - x|_2, RMS 0.1, which is what the paper's "
            "text describes; the formula that it prints has no sqrt(n) and would shrink the "
            "changes to an RMS of 0.0036. It does not say whether it cut them to [0, 1].",
            exceptions(noise),
        ],
        records=found.as_rows(),
        data={"matrix": found.to_dict()},
        pictures={"table4.png": draw},
    )

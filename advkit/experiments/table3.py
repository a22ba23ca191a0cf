"""Table 3: networks trained on disjoint halves of the training set."""

from __future__ import annotations

from advkit.experiments._halves import study
from advkit.experiments.paper import NAMES, TABLE3
from advkit.experiments.setting import Outcome, Setting

__all__ = ["run"]


def run(setting: Setting) -> Outcome:
    """Train on P1 and P2, and tell errors and average distortion.

    Parameters
    ----------
    setting : Setting
        With what.

    Returns
    -------
    Outcome
        A row for each network.
    """
    found = study(setting)
    table = []
    for record in found.as_rows():
        printed = TABLE3[record["model"]]
        line = {"model": f"{NAMES[record['model']]}: trained on {record['model'][-2:]}"}
        for place, part in enumerate(found.parts):
            line[f"error {part}, %"] = f"{100 * record[f'error {part}']:.2f} / {printed[place]:g}"
        line["average distortion (RMS)"] = f"{record['distortion']:.4f} / {printed[3]:g}"
        table.append(line)
    return Outcome(
        title=f"Table 3 on {setting.data}",
        tables={"Here / in the paper (MNIST)": table},
        notes=[
            "P1: the training images in places 0, 2, ...; P2: those in places 1, 3, ... "
            f"Distortion: of the first {found.matrix.images} test images, over those that had to "
            f"be changed; targets: {setting.targets}."
        ],
        records=found.as_rows(),
        data=found.to_dict(),
    )

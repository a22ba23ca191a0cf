"""Names of ImageNet's 1,000 classes: torchvision's where it is installed, otherwise a few."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

__all__ = ["class_names", "class_number"]

_CLASSES = 1000
# The paper's target, and the classes of Foolbox's samples; torchvision has the rest.
_KNOWN = {
    9: "ostrich, Struthio camelus",
    22: "bald eagle",
    99: "goose",
    129: "spoonbill",
    243: "bull mastiff",
    251: "dalmatian",
    305: "dung beetle",
    317: "leafhopper",
    436: "beach wagon",
    438: "beaker",
    455: "bottlecap",
    471: "cannon",
    511: "convertible",
    541: "drum",
    559: "folding chair",
    609: "jeep",
    630: "Loafer",
    741: "prayer rug",
    853: "thatch",
    915: "yurt",
    949: "strawberry",
    990: "buckeye",
}


def class_names() -> list[str]:
    """Return a name for each of the 1,000 classes; "class 17" where none is known."""
    names = [f"class {number}" for number in range(_CLASSES)]
    if find_spec("torchvision") is not None:
        names = list(import_module("torchvision.models").AlexNet_Weights.DEFAULT.meta["categories"])
    for number, name in _KNOWN.items():
        names[number] = name
    return names


def class_number(name: str) -> int:
    """Return the number of a class that is given by number, name or first word of its name.

    Raises
    ------
    ValueError
        There is no such class, or no torchvision to look it up in.
    """
    if name.isdecimal() and int(name) < _CLASSES:
        return int(name)
    wanted = name.strip().lower()
    for number, each in enumerate(class_names()):
        if wanted in (each.lower(), each.split(",")[0].lower()):
            return number
    hint = "" if find_spec("torchvision") is not None else "; other names need torchvision"
    raise ValueError(
        f"target: no class {name!r}; expected a number from 0 to {_CLASSES - 1} or a name such as "
        f'"ostrich"{hint}'
    )

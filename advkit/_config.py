"""What this installation runs on."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from advkit.ops._dispatch import available_backends, native

__all__ = ["show_config"]


def show_config() -> dict[str, Any]:
    """Tell the versions, backends, instruction set and threads in use.

    Returns
    -------
    dict
        ``advkit``, ``python``, ``torch``, ``numpy`` (versions); ``backends`` available; ``isa`` in
        use and ``isas`` that this processor can run (None and empty without the compiled module;
        choose with the environment variable ADVKIT_ISA); ``threads`` (torch's) and ``openmp``
        (whether the kernels found torch's runtime; without it they run on one thread);
        ``processor``; ``cuda`` (GPU names).
    """
    backends = available_backends()
    compiled = native() if "cpu" in backends else None
    return {
        "advkit": version("advkit"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "backends": list(backends),
        "isa": compiled.isa() if compiled else None,
        "isas": compiled.available_isas() if compiled else [],
        "threads": torch.get_num_threads(),
        "openmp": compiled.has_openmp() if compiled else False,
        "processor": _processor(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _processor() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                for line in file:
                    if line.startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()

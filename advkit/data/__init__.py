"""Data sets of 28x28 grey images, read from files that are already on the machine."""

from advkit.data.dataset import Dataset as Dataset
from advkit.data.dataset import fingerprint as fingerprint
from advkit.data.dataset import load as load
from advkit.data.dataset import names as names
from advkit.data.idx import read_idx as read_idx

__all__ = ["Dataset", "fingerprint", "load", "names", "read_idx"]

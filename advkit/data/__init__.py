"""Data sets, read from files that are already on the machine."""

from advkit.data.class_folders import class_folders as class_folders
from advkit.data.dataset import Dataset as Dataset
from advkit.data.dataset import fingerprint as fingerprint
from advkit.data.dataset import load as load
from advkit.data.dataset import names as names
from advkit.data.idx import read_idx as read_idx

__all__ = ["Dataset", "class_folders", "fingerprint", "load", "names", "read_idx"]

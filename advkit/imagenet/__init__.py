"""Networks and images of ImageNet's size, from packages and folders that are on the machine.

Nothing is fetched: weights come from installed packages, from torch.hub's folder or timm's cache.
"""

from advkit.imagenet.classes import class_names as class_names
from advkit.imagenet.classes import class_number as class_number
from advkit.imagenet.images import Images as Images
from advkit.imagenet.images import folder as folder
from advkit.imagenet.images import samples as samples
from advkit.imagenet.networks import Network as Network
from advkit.imagenet.networks import network as network

__all__ = ["Images", "Network", "class_names", "class_number", "folder", "network", "samples"]

"""The fully connected networks of the paper, their training, and a cache of trained ones."""

from advkit.models.autoencoder import Autoencoder as Autoencoder
from advkit.models.cache import TrainedModel as TrainedModel
from advkit.models.cache import trained as trained
from advkit.models.decay import weight_decay as weight_decay
from advkit.models.full_batch import train_lbfgs as train_lbfgs
from advkit.models.mlp import build as build
from advkit.models.mlp import names as names
from advkit.models.train import TrainResult as TrainResult
from advkit.models.train import error_rate as error_rate
from advkit.models.train import train as train

__all__ = [
    "Autoencoder",
    "TrainResult",
    "TrainedModel",
    "build",
    "error_rate",
    "names",
    "train",
    "train_lbfgs",
    "trained",
    "weight_decay",
]

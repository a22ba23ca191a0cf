"""The paper's fully connected networks, unsupervised layers, training, a cache of trained ones."""

from advkit.models.autoencoder import Autoencoder as Autoencoder
from advkit.models.cache import TrainedModel as TrainedModel
from advkit.models.cache import trained as trained
from advkit.models.decay import weight_decay as weight_decay
from advkit.models.full_batch import train_lbfgs as train_lbfgs
from advkit.models.mlp import build as build
from advkit.models.mlp import names as names
from advkit.models.quocnet import Stage as Stage
from advkit.models.quocnet import build_quocnet as build_quocnet
from advkit.models.reconstruction_ica import Reconstruction as Reconstruction
from advkit.models.reconstruction_ica import learn_stages as learn_stages
from advkit.models.train import TrainResult as TrainResult
from advkit.models.train import error_rate as error_rate
from advkit.models.train import train as train

__all__ = [
    "Autoencoder",
    "Reconstruction",
    "Stage",
    "TrainResult",
    "TrainedModel",
    "build",
    "build_quocnet",
    "error_rate",
    "learn_stages",
    "names",
    "train",
    "train_lbfgs",
    "trained",
    "weight_decay",
]

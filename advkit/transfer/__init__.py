"""Do images that fool one network fool others? Studies that return typed results."""

from advkit.transfer.changes import amplify as amplify
from advkit.transfer.changes import gaussian as gaussian
from advkit.transfer.changes import rms as rms
from advkit.transfer.cross import CrossTrainingSet as CrossTrainingSet
from advkit.transfer.cross import cross_training_set as cross_training_set
from advkit.transfer.curves import TransferCurve as TransferCurve
from advkit.transfer.curves import against_kappa as against_kappa
from advkit.transfer.curves import against_rms as against_rms
from advkit.transfer.intervals import difference_interval as difference_interval
from advkit.transfer.intervals import wilson_interval as wilson_interval
from advkit.transfer.matrix import distort as distort
from advkit.transfer.matrix import matrix as matrix
from advkit.transfer.matrix import predictions as predictions
from advkit.transfer.result import TransferCell as TransferCell
from advkit.transfer.result import TransferMatrix as TransferMatrix
from advkit.transfer.result import TransferRow as TransferRow

__all__ = [
    "CrossTrainingSet",
    "TransferCell",
    "TransferCurve",
    "TransferMatrix",
    "TransferRow",
    "against_kappa",
    "against_rms",
    "amplify",
    "cross_training_set",
    "difference_interval",
    "distort",
    "gaussian",
    "matrix",
    "predictions",
    "rms",
    "wilson_interval",
]

"""The figures that Szegedy et al. 2013 prints, on MNIST: for comparison, nothing is made of them.

Errors in per cent. Its sample is not stated; of the 25 entries of Table 2 beside its diagonal that
have a decimal, 22 are multiples of 1 / 256, rounded (most likely 256 images), so that each may be
off by up to 6 points.
"""

from __future__ import annotations

__all__ = [
    "FIGURE5",
    "FIGURE7",
    "NAMES",
    "PROBING",
    "TABLE1",
    "TABLE2",
    "TABLE3",
    "TABLE4",
    "TABLE5",
    "TRAINING",
]

NAMES = {
    "fc10-1e-4": "FC10(1e-4)",
    "fc10-1e-2": "FC10(1e-2)",
    "fc10-1": "FC10(1)",
    "fc100-100-10": "FC100-100-10",
    "fc200-200-10": "FC200-200-10",
    "ae400-10": "AE400-10",
    "fc100-100-10 P1": "FC100-100-10",
    "fc123-456-10 P1": "FC123-456-10",
    "fc100-100-10 P2": "FC100-100-10'",
}

# Training error, test error, average minimum distortion.
TABLE1 = {
    "fc10-1e-4": (6.7, 7.4, 0.062),
    "fc10-1e-2": (10.0, 9.4, 0.1),
    "fc10-1": (21.2, 20.0, 0.14),
    "fc100-100-10": (0.0, 1.64, 0.058),
    "fc200-200-10": (0.0, 1.54, 0.065),
    "ae400-10": (0.57, 1.9, 0.086),
}

# Rows: made for; columns in the order of TABLE1. Then Gaussian noise by its standard deviation.
TABLE2: dict[str | float, tuple[float, ...]] = {
    "fc10-1e-4": (100, 11.7, 22.7, 2, 3.9, 2.7),
    "fc10-1e-2": (87.1, 100, 35.2, 35.9, 27.3, 9.8),
    "fc10-1": (71.9, 76.2, 100, 48.1, 47, 34.4),
    "fc100-100-10": (28.9, 13.7, 21.1, 100, 6.6, 2),
    "fc200-200-10": (38.2, 14, 23.8, 20.3, 100, 2.7),
    "ae400-10": (23.4, 16, 24.8, 9.4, 6.6, 100),
    0.1: (5.0, 10.1, 18.3, 0, 0, 0.8),
    0.3: (15.6, 11.3, 22.7, 5, 4.3, 3.1),
}

# Error on P1, on P2, on the test images, minimum average distortion.
TABLE3 = {
    "fc100-100-10 P1": (0.0, 2.4, 2.0, 0.062),
    "fc123-456-10 P1": (0.0, 2.5, 2.1, 0.059),
    "fc100-100-10 P2": (2.3, 0.0, 2.1, 0.058),
}

# Columns in the order of TABLE3; "amplified" to 0.1.
TABLE4: dict[str, dict[str | float, tuple[float, ...]]] = {
    "adversarial": {
        "fc100-100-10 P1": (100, 26.2, 5.9),
        "fc123-456-10 P1": (6.25, 100, 5.1),
        "fc100-100-10 P2": (8.2, 8.2, 100),
    },
    "noise": {0.06: (2.2, 2.6, 2.4), 0.1: (2.6, 2.8, 2.7)},
    "amplified": {
        "fc100-100-10 P1": (100, 98, 43),
        "fc123-456-10 P1": (96, 100, 22),
        "fc100-100-10 P2": (27, 50, 100),
    },
}

# Layer, size, stride, upper bound of its operator norm, of the network of Krizhevsky et al.
TABLE5: tuple[tuple[str, str, str, float], ...] = (
    ("Conv 1", "3x11x11x96", "4", 2.75),
    ("Conv 2", "96x5x5x256", "1", 10.0),
    ("Conv 3", "256x3x3x384", "1", 7.0),
    ("Conv 4", "384x3x3x384", "1", 7.5),
    ("Conv 5", "384x3x3x256", "1", 11.0),
    ("FC 1", "9216x4096", "N/A", 3.12),
    ("FC 2", "4096x4096", "N/A", 4.0),
    ("FC 3", "4096x1000", "N/A", 4.0),
)

# Average distortion of AlexNet's images towards "ostrich", over how many.
FIGURE5 = (0.006508, 64)

# Distortion of the panels (a) and (b), accuracy under Gaussian noise of standard deviation 1.
FIGURE7 = {"fc10-1e-4": 0.06, "fc200-200-10": 0.063, "accuracy under noise of 1": 51.0}

# Test errors of FC100-100-10, section 4.2; adversarial training is "below 1.2".
TRAINING = {"weight decay": 1.6, "dropout": 1.3, "pools of all layers": 1.2}

# Tabacof & Valle, 150 images of MNIST, logistic regression, early results published with their
# program. By level: realised noise over std(r); around adversarial images the share that stays
# adversarial and that returns, around originals the share that stays, in per cent.
PROBING: dict[int, tuple[float, float, float, float]] = {
    0: (0.51, 99.7, 0.3, 100.0),
    1: (0.85, 96.0, 3.0, 99.9),
    2: (1.43, 79.4, 14.8, 98.6),
    3: (2.42, 60.3, 25.8, 94.2),
    4: (4.13, 48.4, 25.8, 81.5),
    5: (6.70, 37.6, 20.0, 56.9),
}

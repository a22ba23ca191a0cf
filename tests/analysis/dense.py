"""Layers as matrices."""

import torch


def dense(layer, shape):
    """Return the matrix (outputs, inputs) of a layer that is affine in its input."""
    basis = torch.eye(int(torch.Size(shape).numel()), dtype=torch.float64)
    with torch.no_grad():
        columns = layer(basis.view(-1, *shape)) - layer(torch.zeros(1, *shape).double())
    return columns.flatten(1).mT


def norm(layer, shape):
    """Return its largest singular value."""
    matrix = dense(layer, shape)
    gram = matrix @ matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix.mT @ matrix
    return float(torch.linalg.eigvalsh(gram)[-1].sqrt())  # rounding: 1e-13 of it

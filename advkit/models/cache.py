"""Trained networks, kept in a folder so that each recipe is followed once."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from advkit._extras import require
from advkit._tensors import digest_of, read_tensors, write_tensors
from advkit.data import Dataset, load
from advkit.models.autoencoder import Autoencoder, learn_features
from advkit.models.full_batch import train_lbfgs
from advkit.models.mlp import build
from advkit.models.recipe import Recipe, recipe_for
from advkit.models.train import TrainResult, train

_FORMAT = "advkit network 1"
_Kept = TypeVar("_Kept")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network and how it came about.

    Parameters
    ----------
    model : torch.nn.Module
        On the CPU, in eval mode; its parameters require gradients.
    train_error : float
        Fraction of the training images that it misclassifies, in [0, 1].
    test_error : float
        The same for the test images.
    recipe : dict
        What it was trained on and how, as JSON values.
    path : pathlib.Path
        The safetensors file that holds it.
    """

    model: nn.Sequential
    train_error: float
    test_error: float
    recipe: dict[str, Any]
    path: Path


def trained(
    name: str,
    data_name: str,
    *,
    classes: Sequence[int] | None = None,
    decay: Sequence[float] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    half: int | None = None,
    autoencoder: Autoencoder | None = None,
    seed: int = 0,
    root: str | PathLike[str] | None = None,
    cache: str | PathLike[str] | None = None,
    retrain: bool = False,
    progress: bool = False,
) -> TrainedModel:
    """Return a trained network of the paper: read from the cache, or trained now and kept there.

    The file name holds a short hash of the recipe, and the file the whole recipe, so a network is
    trained again whenever anything that it follows from has changed: sizes, weight decay, data,
    classes, schedule, seed or the training code. A file appears only when it is complete.

    Parameters
    ----------
    name : str
        ``"fc10-<lambda>"``, ``"fc100-100-10"``, ``"fc123-456-10"``,
        ``"fc200-200-10"`` or ``"ae400-10"``.
    data_name : str
        One of `advkit.data.names`.
    classes : sequence of int, optional
        Train on the images of these labels alone, which become 0, 1, ... in this order; the network
        has that many outputs. By default all classes.
    decay : sequence of float, optional
        Weight decay lambda of each layer, in place of the paper's.
    epochs, batch_size, learning_rate : int, int, float, optional
        In place of those chosen for the data set. With L-BFGS `epochs` is the most evaluations of
        the loss over all images (1,000), and the other two have no meaning.
    optimizer : {"adam", "lbfgs"}, optional
        "lbfgs" is the paper's way: full batches until nothing falls any more, see `train_lbfgs`.
        By default "adam", for AE400-10 "lbfgs".
    half : {1, 2}, optional
        Train on this half of the training images alone, the P1 and P2 of Tables 3 and 4, see
        `advkit.data.Dataset.half`; the training error is over it.
    autoencoder : Autoencoder, optional
        How to learn the first layer of AE400-10.
    seed : int
        Of the initial weights and of the order of the images.
    root : str or os.PathLike, optional
        Where to look for the data first, see `advkit.data.load`.
    cache : str or os.PathLike, optional
        Folder of the trained networks. By default that in the environment variable
        ``ADVKIT_CACHE``, else ``advkit`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    retrain : bool
        Train even if the network is in the cache, and replace it there.
    progress : bool
        Show a progress bar on stderr while training; needs rich.

    Returns
    -------
    TrainedModel
        The network, its errors, its recipe and its file.

    Raises
    ------
    ImportError
        safetensors is not installed.
    FileNotFoundError
        The data set is not on this machine; the message says how to get it.
    ValueError
        A name is unknown or a number is out of range.
    OSError
        The cache folder cannot be written to.

    Warns
    -----
    RuntimeWarning
        The file in the cache is damaged; it is replaced by a network trained anew.
    """
    require("safetensors", extra="models", purpose="the cache of trained networks")
    # Tensors made in the caller's inference mode could not be differentiated later.
    with torch.inference_mode(False):
        recipe = recipe_for(
            name,
            data_name,
            classes=classes,
            decay=decay,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            half=half,
            autoencoder=autoencoder,
            seed=seed,
            root=root,
        )
        path = cache_folder(cache) / f"{name}.{data_name}.{recipe.digest()}.safetensors"
        return _kept(
            path,
            (lambda: None) if retrain else (lambda: _read(path, name, recipe)),
            lambda: _write(_train(path, name, recipe, root=root, progress=progress)),
        )


def cache_folder(cache: str | PathLike[str] | None = None) -> Path:
    """Return the folder of the trained networks, which need not exist yet.

    Parameters
    ----------
    cache : str or os.PathLike, optional
        The folder, if it is chosen by the caller. By default that in the environment variable
        ``ADVKIT_CACHE``, else ``advkit`` in ``XDG_CACHE_HOME`` or ``~/.cache``.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    if cache is not None:
        return Path(cache)
    if chosen := os.environ.get("ADVKIT_CACHE"):
        return Path(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "advkit"


def _train(
    path: Path, name: str, recipe: Recipe, *, root: str | PathLike[str] | None, progress: bool
) -> TrainedModel:
    images = load(recipe.data, "train", root=root).select_classes(recipe.classes)
    images = images if recipe.half is None else images.half(recipe.half)
    test = load(recipe.data, "test", root=root).select_classes(recipe.classes)
    inputs = images.images[0].numel()
    model = build(name, inputs=inputs, classes=len(recipe.classes), seed=recipe.seed)
    if recipe.autoencoder is None:
        result = _follow(model, recipe, images, test, recipe.decay, progress)
    else:
        encoder, sigmoid, softmax = model[1], model[2], model[3]
        assert isinstance(encoder, nn.Linear)
        learn_features(
            images.images, encoder, recipe.autoencoder, seed=recipe.seed, progress=progress
        )
        # The first layer stays as it is, so its units are computed once.
        with torch.no_grad():
            train_units, test_units = (
                replace(part, images=sigmoid(encoder(part.images.flatten(1)))[:, None, None])
                for part in (images, test)
            )
        top = nn.Sequential(nn.Flatten(), softmax)
        result = _follow(top, recipe, train_units, test_units, recipe.decay[1:], progress)
        model.eval()
    assert result.test_error is not None
    return TrainedModel(model, result.train_error, result.test_error, recipe.to_dict(), path)


def _follow(
    model: nn.Sequential,
    recipe: Recipe,
    images: Dataset,
    test: Dataset,
    decay: Sequence[float],
    progress: bool,
) -> TrainResult:
    """Train a network by the optimizer of its recipe."""
    if recipe.optimizer == "lbfgs":
        return train_lbfgs(
            model,
            images,
            decay=decay,
            test=test,
            max_evaluations=recipe.epochs,
            progress=progress,
        )
    return train(
        model,
        images,
        decay=decay,
        test=test,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        progress=progress,
    )


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise OSError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}; choose another "
            "with cache= or the environment variable ADVKIT_CACHE"
        ) from error


def _kept(path: Path, read: Callable[[], _Kept | None], make: Callable[[], _Kept]) -> _Kept:
    """Return what `read` finds in a file, or what `make` makes and keeps there.

    `read` raises a ValueError, which becomes a warning, or returns None where it is to be made.
    """
    if path.exists():
        try:
            if (found := read()) is not None:
                return found
        except ValueError as error:
            warnings.warn(
                f"the trained network in {path} cannot be used ({error}); training it again",
                RuntimeWarning,
                stacklevel=3,
            )
    _make_writable(path.parent)  # told before the training, not after it
    return make()


def _write(result: TrainedModel) -> TrainedModel:
    metadata = {
        "recipe": json.dumps(result.recipe, sort_keys=True),
        "train_error": repr(result.train_error),
        "test_error": repr(result.test_error),
        "torch": torch.__version__,
    }
    write_tensors(result.path, result.model.state_dict(), metadata, kind=_FORMAT)
    return result


def _read(path: Path, name: str, recipe: Recipe) -> TrainedModel:
    """Read a network back; ValueError with the reason where the file is not what it should be."""
    tensors, metadata = read_tensors(path, kind=_FORMAT)
    if metadata["recipe"] != recipe.to_json():
        raise ValueError("it was made by another recipe")
    inputs = tensors["1.weight"].shape[1]
    model = build(name, inputs=inputs, classes=len(recipe.classes), seed=recipe.seed)
    model.load_state_dict(tensors)
    return TrainedModel(
        model.eval(),
        float(metadata["train_error"]),
        float(metadata["test_error"]),
        recipe.to_dict(),
        path,
    )


def cached(what: str, data: str, recipe: Mapping[str, Any]) -> Path:
    """Return where the network of a recipe is kept: the name has its kind, data and a hash."""
    digest = digest_of([], json.dumps(dict(recipe), sort_keys=True))
    return cache_folder() / f"{what}.{data[:60]}.{digest}.safetensors"


def load_or_train(
    path: Path, model: nn.Module, recipe: Mapping[str, Any], train: Callable[[], object]
) -> bool:
    """Load into `model` the weights that the same recipe gave before, or train and keep them.

    Parameters
    ----------
    path : pathlib.Path
        The safetensors file.
    model : torch.nn.Module
        On the CPU; changed in place.
    recipe : dict
        JSON values that all weights follow from.
    train : callable
        Trains `model`.

    Returns
    -------
    bool
        Whether `train` was called.

    Raises
    ------
    OSError
        The folder cannot be written to; told before the training.

    Warns
    -----
    RuntimeWarning
        The file is damaged; it is replaced.
    """
    text = json.dumps(dict(recipe), sort_keys=True)

    def read() -> bool:
        tensors, metadata = read_tensors(path, kind=_FORMAT)
        if metadata.get("recipe") != text:
            raise ValueError("it was made by another recipe")
        model.load_state_dict(tensors)
        return False

    def make() -> bool:
        train()
        write_tensors(path, model.state_dict(), {"recipe": text}, kind=_FORMAT)
        return True

    return _kept(path, read, make)

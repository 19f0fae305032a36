"""Uncertainty of generated voxels: standard deviation over Monte Carlo dropout, and over noise.

Paper, section 3.4: dropout in the generator, 20 translations of the same density map, and the
standard deviation of each voxel, U(v) = sd over k of G_ds(d; dropout k)(v). The paper draws noise
as well; here dropout is sampled with fixed noise, and noise is sampled without dropout. Neither is
calibrated: the maps are illustrations.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from cryoetgan.io.files import check_not_overwritten
from cryoetgan.io.volume_set import VolumeSet, VolumeSetWriter
from cryoetgan.progress import track
from cryoetgan.seeds import integer_seed
from cryoetgan.translation.engine.translator import Item, Translator
from cryoetgan.translation.translate import list_items


def standard_deviation(volumes: Iterable[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return the standard deviation (n - 1) `(z, y, x)` over volumes `(z, y, x)`."""
    count, mean, square = 0, np.zeros(()), np.zeros(())
    for volume in volumes:
        count += 1
        step = np.asarray(volume, np.float64) - mean
        mean = mean + step / count
        square = square + step * (volume - mean)
    return np.asarray(np.sqrt(square / max(count - 1, 1)), np.float32)


def dropout_layers(network: nn.Module) -> nn.ModuleList:
    """Return the layers of a network that drop values with a probability above 0."""
    kinds = (nn.Dropout, nn.Dropout3d)
    return nn.ModuleList(x for x in network.modules() if isinstance(x, kinds) and x.p > 0)


def uncertainty_maps(
    translator: Translator, source: VolumeSet, items: Iterable[Item], passes: int, seed: int
) -> Iterator[tuple[Item, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield item, standard deviation over dropout, and standard deviation over noise.

    Both are `(z, y, x)` in grey values of the training subtomograms, over `passes` translations of
    an item: with dropout and the same noise; without dropout, each with its own noise.
    """

    def sample(items: Sequence[Item]) -> NDArray[np.float32]:
        return standard_deviation(v for *_, v in translator.translate_items(source, items, seed))

    layers = dropout_layers(translator.generator)
    for item in items:
        noise_sd = sample([item._replace(noise_draw=draw) for draw in range(passes)])
        dropout_sd = np.zeros_like(noise_sd)
        if layers:
            layers.train()
            with torch.random.fork_rng():
                torch.manual_seed(integer_seed(seed, "uncertainty", item.name) % 2**62)
                dropout_sd = sample([item] * passes)
            layers.eval()
        yield item, dropout_sd, noise_sd


def write_uncertainty(
    translator: Translator,
    source: VolumeSet,
    folder: Path,
    passes: int,
    sample: int | None,
    seed: int,
) -> tuple[list[Path], int]:
    """Write `dropout_sd.star` and `noise_sd.star`; return their paths and number of volumes.

    `sample` is the number of volumes of each class to translate, the first ones; None: all.
    """
    table = source.table.drop(columns="rlnOpticsGroup", errors="ignore")
    rows = table.assign(cryoetganSource="generated").to_dict("records")
    # a name ends in the row's number in its class
    items = [
        item
        for item in list_items(source)
        if sample is None or int(item.name.rpartition("/")[2]) < sample
    ]
    paths = [folder / f"{name}.star" for name in ("dropout_sd", "noise_sd")]
    for path in paths:
        check_not_overwritten(source.path, path)
    optics = pd.DataFrame(translator.optics())
    dropout, noise = (
        VolumeSetWriter(path, len(items), source.box, source.voxel_size, optics) for path in paths
    )
    maps = uncertainty_maps(translator, source, items, passes, seed)
    with dropout, noise:
        for item, dropout_sd, noise_sd in track(maps, "sampling", len(items)):
            group = translator.optics_index(item.name, seed) + 1
            row = rows[item.row] | {"rlnOpticsGroup": group}
            dropout.add(dropout_sd, row)
            noise.add(noise_sd, row)
    return paths, len(items)

"""Uncertainty of generated voxels: standard deviation over Monte Carlo dropout, and over noise.

Paper, section 3.4: dropout in the generator, 20 translations of the same density map, and the
standard deviation of each voxel, U(v) = sd over k of G_ds(d; dropout k)(v). The paper draws noise
as well; here dropout is sampled with fixed noise, and noise is sampled without dropout. Neither is
calibrated: the maps are illustrations.
"""

import contextlib
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
from cryoetgan.translation.engine.translator import Translator
from cryoetgan.translation.translate import name_items


def standard_deviation(batches: Iterable[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return the standard deviation (n - 1) `(z, y, x)` over batches of volumes `(N, z, y, x)`."""
    count, mean, square = 0, np.zeros(()), np.zeros(())
    for batch in batches:
        for volume in np.asarray(batch, np.float64):
            count += 1
            step = volume - mean
            mean = mean + step / count
            square = square + step * (volume - mean)
    return np.asarray(np.sqrt(square / max(count - 1, 1)), np.float32)


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers of a network that drop values with a probability above 0."""
    kinds = (nn.Dropout, nn.Dropout3d)
    return [layer for layer in network.modules() if isinstance(layer, kinds) and layer.p > 0]


def uncertainty_maps(
    translator: Translator,
    source: VolumeSet,
    names: Sequence[str],
    passes: int,
    seed: int,
    rows: Iterable[int],
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield row, standard deviation over dropout, and standard deviation over noise.

    Both are `(z, y, x)` in grey values of the training subtomograms, over `passes` translations of
    a row: with dropout and the same noise; without dropout, each with its own noise.
    """
    layers = dropout_layers(translator.generator)
    for row in rows:
        name = names[row]
        noise_sd = standard_deviation(
            translator.sample_row(source, row, name, seed, passes, fixed_noise=False)
        )
        dropout_sd = np.zeros_like(noise_sd)
        if layers:
            for layer in layers:
                layer.train()
            with torch.random.fork_rng():
                torch.manual_seed(integer_seed(seed, "uncertainty", name) % 2**62)
                dropout_sd = standard_deviation(
                    translator.sample_row(source, row, name, seed, passes, fixed_noise=True)
                )
            for layer in layers:
                layer.eval()
        yield row, dropout_sd, noise_sd


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
    table["cryoetganSource"] = "generated"
    rows, names = table.to_dict("records"), name_items(source)
    # a name ends in the row's number in its class
    chosen = [
        row
        for row, name in enumerate(names)
        if sample is None or int(name.rpartition("/")[2]) < sample
    ]
    paths = [folder / f"{name}.star" for name in ("dropout_sd", "noise_sd")]
    for path in paths:
        check_not_overwritten(source.path, path)
    optics = pd.DataFrame(translator.optics())
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                VolumeSetWriter(path, len(chosen), source.box, source.voxel_size, optics)
            )
            for path in paths
        ]
        maps = uncertainty_maps(translator, source, names, passes, seed, chosen)
        for row, *pair in track(maps, "sampling", len(chosen)):
            group = {"rlnOpticsGroup": translator.optics_index(names[row], seed) + 1}
            for writer, volume in zip(writers, pair, strict=True):
                writer.add(volume, rows[row] | group)
    return paths, len(chosen)

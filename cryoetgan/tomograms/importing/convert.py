"""Convert a tomogram of another program: orientation, voxel size, contrast, grey scale."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoetgan.errors import UserError, format_shape
from cryoetgan.io.files import check_disk_space
from cryoetgan.io.memmap import iterate_sections
from cryoetgan.io.mrc import (
    MAX_VOXEL_SIZE_A,
    MIN_VOXEL_SIZE_A,
    PROTEIN_BRIGHT,
    VOXEL_SIZE_ADVICE,
    Volume,
    contrast_sign,
    open_volume,
    resolve_voxel_size,
)
from cryoetgan.io.mrc_header import NO_DATA_LABELS
from cryoetgan.io.raw_mrc import RawVolume
from cryoetgan.physics.coordinates import ImportTransform, orient_axes, resampling_step
from cryoetgan.progress import track
from cryoetgan.tomograms.importing.contrast import measure_contrast, warn_of_contrast
from cryoetgan.tomograms.importing.exclusion_mask import mask_path, write_mask
from cryoetgan.tomograms.importing.no_data import FilledSections, NoData, mark_no_data
from cryoetgan.tomograms.importing.normalise import measure_grey_scale
from cryoetgan.tomograms.importing.resample import resample_into, resampled_shape
from cryoetgan.tomograms.importing.stack_check import check_is_tomogram
from cryoetgan.tomograms.options import Conversion
from cryoetgan.tomograms.sources.resolve import Transfer, open_source

log = logging.getLogger("cryoetgan")
MIN_THICKNESS = 8
"""Voxels along the shortest axis of a tomogram."""
FLOAT16_LIMIT = 6e4


def convert_tomogram(
    source: str, output: Path, conversion: Conversion, transfer: Transfer
) -> dict[str, Any]:
    """Write a tomogram with protein bright, mean 0 and standard deviation 1.

    `source` is an address, see `cryoetgan.tomograms.sources.addresses.FORMS`. An exclusion mask is
    written to `T_mask.mrc` beside the output. Returns the resolved parameters for the record,
    which `read_import_transform` reads.
    """
    axes = conversion.tilt_axis, conversion.beam_axis
    flip = conversion.flip_hand
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_source(source, output.parent, transfer) as found:
        _check_thickness(found.data.shape, source, "is it a tilt series or a single image?")
        check_is_tomogram(found, source)
        _check_contrast(found, conversion.contrast, source)
        size = _choose_voxel_size(found, conversion.input_voxel_size, source)
        wanted = size if conversion.voxel_size is None else conversion.voxel_size
        step = resampling_step(wanted, size)
        data = orient_axes(found.data, *axes, flip)
        shape = resampled_shape(data.shape, step)
        _check_thickness(shape, f"{source} at {wanted:g} A", "lower --voxel-size")
        dtype = np.dtype(np.float16 if conversion.float16 else np.float32)
        # besides the tomogram, voxels without data: their flags and the mask
        size_bytes = math.prod(shape) * (dtype.itemsize + 1) + math.prod(data.shape)
        check_disk_space(output, size_bytes, "raise --voxel-size, give --float16")
        no_data = NoData(data, output.parent, source)
        scale = measure_grey_scale(data, source, no_data.flags)
        if scale.broken:
            no_data.add_gaps(scale.broken)
        measured = measure_contrast(data, size, no_data.mask())
        warn_of_contrast(measured, conversion.contrast, source)
        labels = [
            PROTEIN_BRIGHT + (", inverted at import" if conversion.contrast == "dark" else ""),
            f"grey values: mean 0, SD 1 (in the file {scale.mean:.6g}, {scale.sd:.6g})",
            next(label for label, marks in NO_DATA_LABELS.items() if marks == bool(no_data)),
        ]
        factor = contrast_sign(conversion.contrast) / scale.sd
        transform = ImportTransform(data.shape, size, step, *axes, flip_hand=flip)
        with open_volume(output, shape, wanted, dtype, labels) as out:
            standardise_into(out, data, step, scale.mean, factor, source, no_data)
            if conversion.mask is not None or no_data:
                mask = mask_path(output)
                made = Volume(out, wanted, bool(no_data))
                excluded = write_mask(mask, conversion.mask, made, transform)
                log.info("%s: excludes %.1f %%", mask, 100 * excluded)
        log.info("%s: %s voxels of %.4g A", output, format_shape(shape), wanted)
        return {
            "input_voxel_size": size,
            "input_shape": list(data.shape[::-1]),
            "input_origin": list(found.origin),
            "input_mean": scale.mean,
            "input_sd": scale.sd,
            "voxel_size": wanted,
            "no_data": {"fraction": round(no_data.fraction, 5), "levels": no_data.levels},
            "measured_contrast": measured.to_json(),
        }


def standardise_into(
    out: NDArray[Any],
    data: NDArray[np.generic],
    step: float,
    mean: float,
    factor: float,
    name: object,
    no_data: NoData | None = None,
) -> None:
    """Fill `out` with the resampled tomogram, mean 0 and standard deviation 1.

    A coarser grid averages the noise, so the grey scale is measured again after resampling. A step
    of 1 keeps the grid. `factor` is the inverse standard deviation, negative to invert the
    contrast; `out` is `(z, y, x)` float32 or float16, memory-mapped; the other parameters:
    `resample_into`. If there is `no_data`, its voxels become 0, and no others.
    """
    filled: Any = FilledSections(data, no_data, mean)
    if step == 1:
        pairs = zip(iterate_sections(out), filled, strict=True)
        for target, section in track(pairs, "standardising", len(out)):
            target[:] = _clip_to_type((section - np.float32(mean)) * factor, out)
    else:
        resample_into(out, filled, step, mean, factor)
    missing: Any = no_data.on_grid(out.shape, step) if no_data else None
    if step != 1:
        scale = measure_grey_scale(out, name, missing)
        for section in iterate_sections(out):
            grey = (np.asarray(section, np.float32) - np.float32(scale.mean)) / scale.sd
            section[:] = _clip_to_type(grey, out)
    if missing is not None:
        mark_no_data(out, missing)


def _clip_to_type(section: NDArray[np.float32], out: NDArray[Any]) -> NDArray[np.float32]:
    """Clip to the range of float16: a hot pixel beyond it would become infinite."""
    if out.dtype != np.float16:
        return section
    return np.clip(section, -FLOAT16_LIMIT, FLOAT16_LIMIT)


def _check_thickness(shape: tuple[int, ...], name: str, advice: str) -> None:
    if min(shape) < MIN_THICKNESS:
        raise UserError(
            f"{name}: has {format_shape(shape)} voxels (x, y, z), fewer than {MIN_THICKNESS} "
            f"along an axis; {advice}"
        )


def _check_contrast(tomogram: RawVolume, contrast: str, name: str) -> None:
    if contrast == "dark" and tomogram.is_bright:
        raise UserError(
            f"{name}: its label says '{PROTEIN_BRIGHT}', so it must not be inverted again; give "
            "--contrast bright (column contrast of the table of tomograms), or remove the label "
            "if it is wrong"
        )


def _choose_voxel_size(tomogram: RawVolume, given: float | None, name: str) -> float:
    """Return the voxel size in angstrom: the given one, or the header's if it is plausible."""
    if given is None:
        return check_header_voxel_size(tomogram.voxel_size, name)
    return resolve_voxel_size(name, tomogram.voxel_size, given)


def check_header_voxel_size(header: float, name: object) -> float:
    """Return a header's voxel size (angstrom, NaN if not cubic); `UserError` if it is implausible."""
    size = resolve_voxel_size(name, header, None)
    if abs(size - 1) < 1e-3:
        raise UserError(
            f"{name}: the header's voxel size is {size:g} A, which programs write if they do "
            f"not know it; {VOXEL_SIZE_ADVICE}"
        )
    if not MIN_VOXEL_SIZE_A <= size <= MAX_VOXEL_SIZE_A:
        raise UserError(
            f"{name}: the header's voxel size is {size:g} A, wanted {MIN_VOXEL_SIZE_A:g} to "
            f"{MAX_VOXEL_SIZE_A:g}; {VOXEL_SIZE_ADVICE}"
        )
    return size

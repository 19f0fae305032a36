"""Command of the `particles` stage that averages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryoetgan.command import Device, Output, Seed, check_positive, command, log, parse_tilt_range
from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from cryoetgan.io.volume_set import VolumeSet
    from cryoetgan.particles.averaging.average import Particle
    from cryoetgan.particles.averaging.gold_standard import Averaged


def register(app: typer.Typer) -> None:
    """Add this module's commands to the stage's group."""
    command(app, "average")(average)


def average(
    particles: Annotated[Path, typer.Argument(help="STAR of a volume set.")],
    output: Output,
    iterations: Annotated[
        int, typer.Option(help="Alignments; 0 takes the angles as they are.", min=0)
    ] = 0,
    template: Annotated[
        Path | None, typer.Option(help="First reference, MRC; default: the angles, if any.")
    ] = None,
    template_lowpass: Annotated[
        float | None, typer.Option(help="Angstrom; default: five voxels.")
    ] = None,
    tilts: Annotated[
        str | None, typer.Option(metavar="LO,HI", help="Degrees; default: the set's record.")
    ] = None,
    rotations: Annotated[int, typer.Option(help="Orientations searched.", min=8)] = 1856,
    highpass_shells: Annotated[
        int, typer.Option(help="Lowest Fourier shells left out of alignments.", min=0)
    ] = 1,
    class_: Annotated[str | None, typer.Option("--class", help="Average this class only.")] = None,
    poses: Annotated[
        Path | None, typer.Option(help="STAR to write: the rows with their new angles.")
    ] = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Average subtomograms, weighted by their missing wedges: MRC, protein bright.

    Two halves, drawn by the seed, are aligned independently, each to its own average; X_fsc.csv
    holds their Fourier shell correlation: shell, frequency (1/A), resolution (A), fsc. With
    --iterations 0 the halves share what the angles were found with, and the FSC is no
    gold standard. Angles are RELION's, degrees; rlnOriginX/Y/ZAngst are honoured.
    """
    import numpy as np

    from cryoetgan import seeds
    from cryoetgan.io.files import provenance, sidecar, write_json, write_text
    from cryoetgan.io.mrc import check_same_voxel_size, read_map, write_volume
    from cryoetgan.io.star import ANGLES, class_name
    from cryoetgan.io.volume_set import read_volume_set
    from cryoetgan.particles.averaging import gold_standard
    from cryoetgan.particles.averaging.average import resolution

    class_name(output)
    opened = read_volume_set(particles)
    chosen = _chosen(opened, class_, particles)
    posed = set(ANGLES) <= set(opened.table.columns)
    if iterations == 0 and not posed:
        raise UserError(
            f"{particles}: has no angles; give --iterations (5, say), and a --template if there is "
            "one, so that they are found"
        )
    given = parse_tilt_range(tilts)[:2] if tilts else None
    members = [_particle(opened, int(row), given, posed) for row in chosen]
    start = None
    if template is not None:
        first = read_map(template)
        check_same_voxel_size(opened.voxel_size, first.voxel_size, particles, template)
        if first.data.shape != (opened.box,) * 3:
            raise UserError(
                f"{template}: has {first.data.shape[::-1]} voxels, the particles {opened.box}^3; "
                f"make it with --box {opened.box}"
            )
        start = np.asarray(first.data, np.float32)
    elif iterations and not posed:
        start = gold_standard.start_without_poses(members, opened.voxel_size)
    limit = 5 * opened.voxel_size
    if template_lowpass is not None:
        limit = check_positive(template_lowpass, "--template-lowpass", " A")
    half = np.arange(len(members)) % 2
    half = seeds.rng(seed, "particles", "average", "halves").permutation(half)
    found = gold_standard.iterate(
        members, half, opened.voxel_size, start, limit, iterations, rotations, highpass_shells, device
    )  # fmt: skip
    box, size = opened.box, opened.voxel_size
    lines = ["shell,frequency,resolution,fsc"]
    for shell, value in enumerate(found.fsc):
        frequency = shell / (box * size)
        length = f"{1 / frequency:.3f}" if shell else "inf"
        lines.append(f"{shell},{frequency:.6f},{length},{value:.6f}")
    if poses is not None:
        _write_poses(poses, opened, chosen, found)
    write_text(output.with_name(f"{output.stem}_fsc.csv"), "\n".join(lines) + "\n")
    write_volume(output, found.density.astype(np.float32), size)
    parameters = {
        "iterations": iterations, "template_lowpass": limit, "rotations": rotations,
        "highpass_shells": highpass_shells, "class": class_, "seed": seed,
    }  # fmt: skip
    files = [particles, *([template] if template else [])]
    made = provenance("particles average", files, parameters)
    reached = resolution(found.fsc, box, size)
    record = {"provenance": made, "particles": len(members), "resolution": reached}
    write_json(sidecar(output), record)
    kind = "of independent halves" if iterations else "of halves that share their angles' origin"
    log.info("%s: %d particles, %.1f A (FSC 0.143 %s)", output, len(members), reached, kind)


def _chosen(opened: "VolumeSet", class_: str | None, path: Path) -> "list[int]":
    """Return the rows that are averaged."""
    classes = opened.classes() if "cryoetganClass" in opened.table else []
    if class_ is not None and class_ not in classes:
        raise UserError(f"--class: '{class_}' is not in {path}; it has {', '.join(classes)}")
    if class_ is None and len(classes) > 1:
        raise UserError(
            f"{path}: holds {len(classes)} classes ({', '.join(classes[:5])}); an average of all of "
            "them is none of them: choose one with --class"
        )
    rows = list(range(len(opened)))
    if class_ is not None:
        rows = [row for row in rows if opened.table["cryoetganClass"].iloc[row] == class_]
    if len(rows) < 2:
        raise UserError(f"{path}: {len(rows)} particle; two halves need two or more")
    return rows


def _particle(
    opened: "VolumeSet", row: int, tilts: "tuple[float, ...] | None", posed: bool
) -> "Particle":
    """Return one particle of a set with its pose and record."""
    from dataclasses import replace

    import numpy as np
    from scipy.spatial.transform import Rotation

    from cryoetgan.io.star import ANGLES
    from cryoetgan.particles.averaging.average import Particle
    from cryoetgan.physics.acquisition import Acquisition
    from cryoetgan.physics.coordinates import centre_offset
    from cryoetgan.physics.geometry import rotation_from_relion

    values = opened.table.iloc[row]
    if not np.isfinite(opened.volumes[row]).all():
        raise UserError(f"{opened.path}: volume {row + 1} holds voxels that are not finite numbers")
    if posed and not np.isfinite(values[ANGLES].to_numpy(float)).all():
        raise UserError(
            f"{opened.path}: row {row + 1} has no angles; choose rows that have, or none"
        )
    record, optics = Acquisition(), opened.optics
    if "rlnOpticsGroup" in optics and "rlnOpticsGroup" in values:
        mine = optics[optics["rlnOpticsGroup"] == values["rlnOpticsGroup"]]
        if len(mine):
            record = Acquisition.from_optics(mine.iloc[0].to_dict())
    if tilts is not None:
        record = replace(record, tilt_low=tilts[0], tilt_high=tilts[1])
    turn, shift = Rotation.identity(), np.zeros(3)
    if posed:
        turn = rotation_from_relion(values[ANGLES].to_numpy(float))
        shift = centre_offset(values, opened.voxel_size)
    return Particle(np.asarray(opened.volumes[row]), turn, shift, record)


def _write_poses(path: Path, opened: "VolumeSet", rows: "list[int]", found: "Averaged") -> None:
    import numpy as np
    from scipy.spatial.transform import Rotation

    from cryoetgan.io.star import ANGLES, COORDINATES, ORIGINS, write_star
    from cryoetgan.physics.geometry import relion_from_rotation

    table = opened.table.iloc[rows].reset_index(drop=True)
    turns = Rotation.concatenate([particle.rotation for particle in found.particles])
    shifts = np.array([particle.shift for particle in found.particles])
    table[ANGLES] = relion_from_rotation(turns)
    if set(COORDINATES) <= set(table.columns):
        # the boxes were cut at the coordinates: the particle lies a shift beside them
        table[COORDINATES] = table[COORDINATES].to_numpy(float) + shifts
        table = table.drop(columns=["rlnImageName", *ORIGINS], errors="ignore")
    else:
        table[ORIGINS] = -shifts * opened.voxel_size
    if found.scores.any():
        table["cryoetganScore"] = found.scores
    write_star(path, table, opened.optics)

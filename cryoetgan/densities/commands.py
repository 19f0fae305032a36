"""Commands of the `densities` stage."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cryoetgan.command import Output, Seed, check_positive, command, group, log, parse_counts
from cryoetgan.errors import UserError

app = group("")
VoxelSize = Annotated[float, typer.Option("--voxel-size", help="Angstrom.", show_default=False)]
Resolution = Annotated[float, typer.Option("--resolution", help="Angstrom.", show_default=False)]
Box = Annotated[int, typer.Option("--box", help="Edge in voxels.", show_default=False)]
VOXEL_SIZES = 0.1, 1000.0
"""Angstrom; what lies outside is in another unit."""
CUT_WARNING = 0.005
"""Share of a map's mass outside the box, above which it is said."""


@command(app, "simulate")
def simulate(
    file: Annotated[Path, typer.Argument(help="PDB or mmCIF, gzipped or not.")],
    output: Output,
    voxel_size: VoxelSize,
    resolution: Resolution,
    box: Box,
    engine: Annotated[str, typer.Option(help="builtin or eman2 (e2pdb2mrc.py).")] = "builtin",
    assembly: Annotated[str, typer.Option(help="Biological assembly, or none.")] = "1",
    center: Annotated[bool, typer.Option(help="Centre of mass at voxel n // 2.")] = True,
    eman2_compatible: Annotated[
        bool, typer.Option("--eman2-compatible", help="Read atoms as e2pdb2mrc.py does.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="MODEL number, all (parts of one particle), or auto.")
    ] = "auto",
    component: Annotated[
        int, typer.Option(help="N: only the N-th largest of parts that lie apart; 0: all.")
    ] = 0,
    chains: Annotated[
        str, typer.Option(help="Chains to keep, as the authors name them: A,B; empty: all.")
    ] = "",
    hydrogens: Annotated[bool, typer.Option("--hydrogens", help="Count hydrogens.")] = False,
    ligands: Annotated[bool, typer.Option(help="Count ligands, ions and glycans.")] = True,
    waters: Annotated[bool, typer.Option("--waters", help="Count waters.")] = False,
) -> None:
    """Structure to density map: MRC, sum of Z exp(-r^2 / w^2), w = resolution / pi.

    Lengths in angstrom, box in voxels, protein positive, nothing normalised. Without
    --no-center the Z-weighted centre of mass lies at voxel n // 2; with it, the origin
    of coordinates.
    """
    from cryoetgan.densities.atoms import read_atoms
    from cryoetgan.densities.density_from_atoms import check_box
    from cryoetgan.densities.density_from_atoms import simulate as density_of
    from cryoetgan.densities.eman2 import e2pdb2mrc, known_to_eman2
    from cryoetgan.densities.eman2_atoms import read_atoms_as_eman2
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_mrc_name, write_volume

    check_mrc_name(output)
    _check_voxel_size(voxel_size)
    check_positive(resolution, "--resolution", " A")
    check_box(box, "--box")
    if engine not in ("builtin", "eman2"):
        raise UserError(f"--engine: got '{engine}', wanted builtin or eman2")
    if component < 0:
        raise UserError(f"--component: got {component}, wanted 0 (all), 1 (the largest), 2 ...")
    _check_resolution(resolution, voxel_size, eman2_compatible)
    kept = [name.strip() for name in chains.split(",") if name.strip()]
    if eman2_compatible and kept:
        raise UserError("--chains: --eman2-compatible takes a file as it stands; leave one out")
    if eman2_compatible:
        atoms = read_atoms_as_eman2(file)
    else:
        atoms = read_atoms(file, assembly, hydrogens, ligands, waters, model, component, kept)
    if engine == "eman2":
        atoms = known_to_eman2(atoms, file)
        density = e2pdb2mrc(atoms, voxel_size, resolution, box, center)
        atoms = atoms.centred() if center else atoms
    else:
        atoms = atoms.centred() if center else atoms
        density = density_of(
            atoms.positions, atoms.atomic_numbers, voxel_size, resolution, box, eman2_compatible
        )
    _warn_of_a_cut_map(atoms.positions, voxel_size, box, file)
    what = "a phantom, not a structure" if atoms.phantom else "a structure"
    labels = [f"density of {what}, {resolution:g} A, sum of Z exp(-r2/w2)"]
    write_volume(output, density, voxel_size, labels)
    parameters = {
        "voxel_size": voxel_size,
        "resolution": resolution,
        "box": box,
        "engine": engine,
        "assembly": assembly,
        "center": center,
        "eman2_compatible": eman2_compatible,
        "model": model,
        "component": component,
        "chains": chains,
        "hydrogens": hydrogens,
        "ligands": ligands,
        "waters": waters,
    }
    made = provenance("densities simulate", [file], parameters)
    record = {"provenance": made, "atoms": len(atoms), "phantom": atoms.phantom}
    write_json(sidecar(output), record)
    log.info("%s: %d atoms", output, len(atoms))


def _check_voxel_size(voxel_size: float) -> None:
    smallest, largest = VOXEL_SIZES
    if not smallest <= check_positive(voxel_size, "--voxel-size", " A") <= largest:
        raise UserError(
            f"--voxel-size: got {voxel_size:g} A, wanted {smallest:g} to {largest:g} angstrom"
        )


def _check_resolution(resolution: float, voxel_size: float, eman2_compatible: bool) -> None:
    if resolution >= 2 * voxel_size:
        return
    message = (
        f"--resolution: got {resolution:g} A, below twice the voxel size ({voxel_size:g} A): "
        f"atoms fall between voxels; give {2 * voxel_size:g} or more"
    )
    if not eman2_compatible or resolution < voxel_size:  # there, EMAN2 refuses as well
        raise UserError(message)
    log.warning(message)


def _warn_of_a_cut_map(positions: Any, voxel_size: float, box: int, file: Path) -> None:
    import numpy as np

    reach = float(np.abs(positions / voxel_size).max())
    if reach > box / 2 - 1:
        wanted = 4 * int(np.ceil(2 * (reach + 1) / 4))
        log.warning(
            "%s: the particle reaches %.0f voxels from the centre and is cut by the box of %d; "
            "set --box (densities.box) to %d or more",
            file,
            reach,
            box,
            wanted,
        )


@command(app, "membrane")
def membrane(
    output: Output,
    voxel_size: VoxelSize,
    box: Box,
    resolution: Annotated[float, typer.Option(help="Angstrom.")] = 30.0,
    membrane_thickness: Annotated[
        float, typer.Option(help="Angstrom between the head-group layers.")
    ] = 40.0,
    membrane_radius: Annotated[float, typer.Option(help="Angstrom; curvature.")] = 600.0,
    membrane_tilt: Annotated[
        float, typer.Option(help="Degrees about y from z to the membrane's normal.")
    ] = 0.0,
) -> None:
    """A patch of lipid bilayer as density map (MRC): head groups and hydrophobic trough.

    A model, not a measurement. Lengths in angstrom, box in voxels; the mid-plane passes
    through voxel n // 2, its normal along z unless tilted.
    """
    from cryoetgan.densities.density_from_atoms import check_box
    from cryoetgan.densities.membrane import membrane as bilayer
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_mrc_name, write_volume

    check_mrc_name(output)
    check_box(box, "--box")
    _check_voxel_size(voxel_size)
    for value, name in (
        (resolution, "--resolution"),
        (membrane_thickness, "--membrane-thickness"),
        (membrane_radius, "--membrane-radius"),
    ):
        check_positive(value, name, " A")
    density = bilayer(
        voxel_size, resolution, box, membrane_thickness, membrane_radius, membrane_tilt
    )
    write_volume(output, density, voxel_size, ["model of a lipid bilayer, not a measurement"])
    parameters = {
        "voxel_size": voxel_size,
        "resolution": resolution,
        "box": box,
        "membrane_thickness": membrane_thickness,
        "membrane_radius": membrane_radius,
        "membrane_tilt": membrane_tilt,
    }
    made = provenance("densities membrane", parameters=parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: a membrane patch", output)


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(help="Density map, MRC, protein positive.")],
    output: Output,
    voxel_size: VoxelSize,
    box: Box,
    input_voxel_size: Annotated[
        float | None, typer.Option(help="Angstrom; wins over the header.")
    ] = None,
) -> None:
    """Bring a density map of one's own to the run's box and voxel size (MRC).

    Angstrom and voxels; the map's centre, voxel n // 2, stays the centre, and its values
    stay densities.
    """
    from cryoetgan.densities.density_from_atoms import check_box
    from cryoetgan.densities.maps import check_map, fit_to_box, share_outside
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_mrc_name, read_volume, write_volume

    check_mrc_name(output)
    _check_voxel_size(voxel_size)
    check_box(box, "--box")
    source = read_volume(file, input_voxel_size)
    data = check_map(source.data, file)
    density = fit_to_box(data, source.voxel_size, voxel_size, box)
    lost = share_outside(data, density, (voxel_size / source.voxel_size) ** 3)
    if lost > CUT_WARNING:
        log.warning(
            "%s: the box of %d voxels leaves out %.1f %% of it; set --box (densities.box) to more",
            file,
            box,
            100 * lost,
        )
    write_volume(output, density, voxel_size, [f"map {file.name}"])
    parameters = {"voxel_size": voxel_size, "box": box, "input_voxel_size": source.voxel_size}
    made = provenance("densities import", [file], parameters)
    write_json(sidecar(output), {"provenance": made})
    log.info("%s: %d^3 voxels of %g A", output, box, voxel_size)


@command(app, "pose")
def pose(
    maps: Annotated[list[Path], typer.Argument(help="Density maps; the stem is the class.")],
    output: Output,
    count: Annotated[int, typer.Option(help="Poses of each map.", show_default=False)],
    max_shift: Annotated[float, typer.Option(help="Angstrom an axis.")] = 0.0,
    class_count: Annotated[
        list[str] | None, typer.Option(help="NAME=N: another count for one class; repeatable.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(help="STAR file whose angles and origins are drawn from.")
    ] = None,
    prior_spread: Annotated[
        float, typer.Option(help="Degrees; blurs the orientations of --prior.")
    ] = 5.0,
    seed: Seed = 0,
) -> None:
    """Random poses of density maps: a volume set (STAR and MRC stack), N of each map.

    Orientations uniform on SO(3), shifts uniform within --max-shift on each axis. With
    --prior, orientations are those of its rows (rlnAngleRot/Tilt/Psi, of the same
    cryoetganClass where it has ten), blurred by --prior-spread, and shifts are those of
    its rlnOriginX/Y/ZAngst; what it has no columns for stays as without it.
    """
    from cryoetgan.densities.maps import check_map, check_space
    from cryoetgan.densities.pose_prior import read_prior
    from cryoetgan.densities.poses import poses
    from cryoetgan.io.files import provenance, sidecar, write_json
    from cryoetgan.io.mrc import check_same_voxel_size, read_volume
    from cryoetgan.io.star import paths_by_class
    from cryoetgan.io.volume_set import VolumeSetWriter
    from cryoetgan.progress import track

    if not 0 <= max_shift < float("inf"):
        raise UserError(f"--max-shift: got {max_shift:g} A, wanted zero or more")
    if not 0 <= prior_spread <= 180:
        raise UserError(f"--prior-spread: got {prior_spread:g} degrees, wanted 0 to 180")
    named = paths_by_class(maps)
    counts = parse_counts(list(named), count, class_count, "--count", "--class-count")
    observed = read_prior(prior, prior_spread) if prior else None
    opened = {name: read_volume(path) for name, path in named.items()}
    first_name, first = next(iter(opened.items()))
    for name, volume in opened.items():
        check_map(volume.data, named[name])
        check_same_voxel_size(first.voxel_size, volume.voxel_size, named[first_name], named[name])
        if volume.data.shape != first.data.shape or len(set(volume.data.shape)) != 1:
            raise UserError(
                f"{named[name]}: has shape {volume.data.shape}, but {named[first_name]} has "
                f"{first.data.shape}; maps of one set are cubes of one size (densities.box)"
            )
    total, box = sum(counts.values()), first.data.shape[0]
    if max_shift > box * first.voxel_size / 2:
        raise UserError(
            f"--max-shift: got {max_shift:g} A, more than half the box "
            f"({box * first.voxel_size / 2:g} A): particles would lie outside it"
        )
    check_space(output, total, box)
    with VolumeSetWriter(output, total, box, first.voxel_size) as writer:
        made = (
            item
            for name, volume in opened.items()
            for item in poses(
                name, volume.data, counts[name], max_shift, volume.voxel_size, seed, observed
            )
        )
        for posed, row in track(made, "posing", total):
            writer.add(posed, row)
    parameters = {
        "counts": counts,
        "max_shift": max_shift,
        "prior_spread": prior_spread if prior else None,
    }
    inputs = [*maps, *([prior] if prior else [])]
    record = provenance("densities pose", inputs, parameters, seed)
    write_json(sidecar(output), {"provenance": record})
    log.info("%s: %d volumes of %d classes", output, total, len(opened))

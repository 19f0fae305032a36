"""Commands of the `densities` stage."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from cryoetgan.command import MrcOutput, Output, Record, Seed, check_positive, command, group, log
from cryoetgan.errors import UserError

app = group("")
VoxelSize = Annotated[float, Option("--voxel-size", help="Angstrom.", show_default=False)]
Resolution = Annotated[float, Option("--resolution", help="Angstrom.", show_default=False)]
Box = Annotated[int, Option("--box", help="Edge in voxels.", show_default=False)]
WARN_FRACTION_OUTSIDE = 0.005
"""Fraction of a map's mass outside the box above which a warning is logged."""


@command(app, "simulate")
def simulate(
    file: Annotated[Path, Argument(help="PDB or mmCIF, gzipped or not.")],
    output: MrcOutput,
    voxel_size: VoxelSize,
    resolution: Resolution,
    box: Box,
    engine: Annotated[
        Literal["builtin", "eman2"], Option(help="eman2 runs e2pdb2mrc.py.")
    ] = "builtin",
    assembly: Annotated[str, Option(help="Biological assembly, or none.")] = "1",
    center: Annotated[bool, Option(help="Centre of mass at voxel n // 2.")] = True,
    eman2_compatible: Annotated[
        bool, Option("--eman2-compatible", help="Read atoms as e2pdb2mrc.py does.")
    ] = False,
    model: Annotated[str, Option(help="Number of a MODEL, all (merged), or auto.")] = "auto",
    component: Annotated[int, Option(help="N-th largest of separate parts; 0: all.")] = 0,
    chains: Annotated[str, Option(help="Chains by author name, A,B; default: all.")] = "",
    min_confidence: Annotated[
        float, Option(help="Lowest pLDDT of a residue, for predicted models; 0: all residues.")
    ] = 0.0,
    hydrogens: Annotated[bool, Option("--hydrogens", help="Include hydrogens.")] = False,
    ligands: Annotated[bool, Option(help="Include ligands, ions and glycans.")] = True,
    waters: Annotated[bool, Option("--waters", help="Include waters.")] = False,
) -> Record:
    """Simulate the density map of a structure: sum of Z exp(-r^2 / w^2), w = resolution / pi.

    Writes MRC with protein positive, not normalised. Lengths in angstrom, box in voxels. The
    Z-weighted centre of mass lies at voxel n // 2; with --no-center, the origin of coordinates
    does.
    """
    from cryoetgan.densities.atoms import Part, read_atoms
    from cryoetgan.densities.density_from_atoms import simulate as simulate_density
    from cryoetgan.densities.eman2 import drop_unknown_elements, read_atoms_as_eman2, run_e2pdb2mrc
    from cryoetgan.io.mrc import write_volume

    _check_grid(voxel_size, box)
    _check_resolution(resolution, voxel_size, eman2_compatible)
    keep = [name.strip() for name in chains.split(",") if name.strip()]
    for option, value in (("--chains", keep), ("--min-confidence", min_confidence)):
        if eman2_compatible and value:
            raise UserError(f"{option} and --eman2-compatible exclude each other; give one of them")
    if eman2_compatible:
        atoms = read_atoms_as_eman2(file)
    else:
        part = Part(model, component, keep, min_confidence)
        atoms = read_atoms(file, assembly, hydrogens, ligands, waters, part)
    if engine == "eman2" and atoms.trace:
        raise UserError(f"{file}: EMAN2 counts single atoms, and this is a trace; use builtin")
    if engine == "eman2":
        atoms = drop_unknown_elements(atoms, file)
        density = run_e2pdb2mrc(atoms, voxel_size, resolution, box, center)
    atoms = atoms.centre() if center else atoms
    if engine == "builtin":
        density = simulate_density(
            atoms.positions, atoms.atomic_numbers, voxel_size, resolution, box, eman2_compatible
        )
    _warn_of_cut_map(atoms.positions, voxel_size, box, file)
    kind = "a phantom, not a structure" if atoms.phantom else "a structure"
    labels = [f"density of {kind}, {resolution:g} A, sum of Z exp(-r2/w2)"]
    write_volume(output, density, voxel_size, labels)
    log.info("%s: %d atoms", output, len(atoms))
    return Record(about={"atoms": len(atoms), "phantom": atoms.phantom})


def _check_grid(voxel_size: float, box: int) -> None:
    from cryoetgan.densities.density_from_atoms import check_box
    from cryoetgan.io.mrc import MAX_VOXEL_SIZE_A, MIN_VOXEL_SIZE_A

    check_box(box, "--box")
    if not MIN_VOXEL_SIZE_A <= voxel_size <= MAX_VOXEL_SIZE_A:
        raise UserError(
            f"--voxel-size: got {voxel_size:g} A, wanted {MIN_VOXEL_SIZE_A:g} to "
            f"{MAX_VOXEL_SIZE_A:g} angstrom"
        )


def _check_max_shift(max_shift: float, edge: float) -> None:
    if not 0 <= max_shift < float("inf"):
        raise UserError(f"--max-shift: got {max_shift:g} A, wanted zero or more")
    if max_shift > edge / 2:
        raise UserError(
            f"--max-shift: got {max_shift:g} A, but half the box is only {edge / 2:g} A, so "
            "particles would lie outside"
        )


def _check_resolution(resolution: float, voxel_size: float, eman2_compatible: bool) -> None:
    check_positive(resolution, "--resolution", " A")
    if resolution >= 2 * voxel_size:
        return
    message = (
        f"--resolution: got {resolution:g} A, below twice the voxel size ({voxel_size:g} A), so "
        f"atoms fall between voxels; give {2 * voxel_size:g} or more"
    )
    if not eman2_compatible or resolution < voxel_size:  # EMAN2 refuses the latter too
        raise UserError(message)
    log.warning(message)


def _warn_of_cut_map(positions: Any, voxel_size: float, box: int, file: Path) -> None:
    import numpy as np

    reach = float(np.abs(positions / voxel_size).max())
    if reach > box / 2 - 1:
        wanted = 4 * int(np.ceil(2 * (reach + 1) / 4))
        log.warning(
            f"{file}: the particle reaches {reach:.0f} voxels from the centre and is cut by the "
            f"box of {box}; set --box (densities.box) to {wanted} or more"
        )


@command(app, "membrane")
def membrane(
    output: MrcOutput,
    voxel_size: VoxelSize,
    box: Box,
    resolution: Annotated[float, Option(help="Angstrom.")] = 30.0,
    membrane_thickness: Annotated[float, Option(help="Angstrom between head-group layers.")] = 40.0,
    membrane_radius: Annotated[float, Option(help="Angstrom; curvature.")] = 600.0,
    membrane_tilt: Annotated[float, Option(help="Degrees about y from z to the normal.")] = 0.0,
) -> Record:
    """Simulate a patch of lipid bilayer: head groups and hydrophobic trough.

    Writes MRC; a model, not a measurement. Lengths in angstrom, box in voxels. The mid-plane
    passes through voxel n // 2; its normal is z unless tilted.
    """
    from cryoetgan.densities.membrane import simulate_membrane
    from cryoetgan.io.mrc import write_volume

    _check_grid(voxel_size, box)
    for value, name in (
        (resolution, "--resolution"),
        (membrane_thickness, "--membrane-thickness"),
        (membrane_radius, "--membrane-radius"),
    ):
        check_positive(value, name, " A")
    density = simulate_membrane(
        voxel_size, resolution, box, membrane_thickness, membrane_radius, membrane_tilt
    )
    write_volume(output, density, voxel_size, ["model of a lipid bilayer, not a measurement"])
    log.info("%s: a membrane patch", output)
    return Record()


@command(app, "import")
def import_(
    file: Annotated[Path, Argument(help="Density map, MRC or MAP, protein positive.")],
    output: MrcOutput,
    voxel_size: VoxelSize,
    box: Box,
    input_voxel_size: Annotated[float | None, Option(help="Angstrom, not the header's.")] = None,
    resolution: Annotated[
        float | None, Option(help="Angstrom, of the run's other maps; default: three voxels.")
    ] = None,
) -> Record:
    """Import a density map of another program at the run's box and voxel size (MRC).

    Angstrom and voxels. Any axis order, byte order or header, gzipped or not. The map's centre,
    voxel n // 2, stays the centre. If the grey level of its particle differs more than three times
    from protein's in `densities simulate` at --resolution, the map is multiplied to it: membranes,
    crowders, gold and other classes have this scale. The factor is recorded.
    """
    from cryoetgan.densities.maps import import_map
    from cryoetgan.io.mrc import write_volume

    _check_grid(voxel_size, box)
    if resolution is not None:
        check_positive(resolution, "--resolution", " A")
    found = import_map(file, voxel_size, box, input_voxel_size, resolution)
    if found.outside > WARN_FRACTION_OUTSIDE:
        log.warning(
            f"{file}: the box of {box} voxels cuts off {100 * found.outside:.1f} % of the map; "
            "raise --box (densities.box)"
        )
    write_volume(output, found.density, voxel_size, [f"map {file.name}"])
    log.info("%s: %d^3 voxels of %g A", output, box, voxel_size)
    return Record(
        parameters={"input_voxel_size": found.voxel_size}, about={"multiplied_by": found.factor}
    )


@command(app, "other")
def other(
    maps: Annotated[list[Path], Argument(help="Density maps of the named classes.")],
    output: Output,
    count: Annotated[int, Option(help="Number of boxes.", min=1, show_default=False)],
    unnamed: Annotated[float, Option(help="Fraction of the boxes with a protein.")] = 0.5,
    max_shift: Annotated[float, Option(help="Angstrom per axis.")] = 0.0,
    seed: Seed = 0,
) -> Record:
    """Write density boxes of class `other`, without a named particle: a volume set.

    The fraction --unnamed holds a generic protein in a random pose, as in `tomograms scene`: of 30
    to 600 kDa, or up to 1.5 times the mass of the largest map, if that is more. The other boxes are
    empty. Simulated or translated like posed densities, they resemble picks of other species and of
    background: the negatives of a classifier.
    """
    from cryoetgan.densities.maps import read_pose_maps
    from cryoetgan.densities.unnamed import draw_others
    from cryoetgan.io.files import check_disk_space
    from cryoetgan.io.volume_set import VolumeSetWriter
    from cryoetgan.progress import track

    if not 0 <= unnamed <= 1:
        raise UserError(f"--unnamed: got {unnamed:g}, wanted a fraction, 0 to 1")
    densities, voxel_size = read_pose_maps(maps)
    box = len(next(iter(densities.values())))
    _check_max_shift(max_shift, box * voxel_size)
    check_disk_space(output, 4 * count * box**3, "lower --count (densities.count)")
    drawn = draw_others(densities, count, unnamed, max_shift, voxel_size, seed)
    with VolumeSetWriter(output, count, box, voxel_size) as writer:
        for volume, row in track(drawn, "drawing", count):
            writer.add(volume, row)
    log.info("%s: %d boxes without a named particle", output, count)
    return Record()


@command(app, "pose")
def pose(
    maps: Annotated[list[Path], Argument(help="Density maps; the stem is the class.")],
    output: Output,
    count: Annotated[int, Option(help="Poses of each map.", show_default=False)],
    max_shift: Annotated[float, Option(help="Angstrom per axis.")] = 0.0,
    class_count: Annotated[
        list[str] | None, Option(help="NAME=N: another count for one class; repeatable.")
    ] = None,
    prior: Annotated[Path | None, Option(help="STAR file of observed angles and origins.")] = None,
    prior_spread: Annotated[float, Option(help="Degrees; blurs the prior's orientations.")] = 5.0,
    seed: Seed = 0,
) -> Record:
    """Draw random poses of density maps: a volume set (STAR and MRC stack), N of each map.

    Orientations are uniform on SO(3), shifts uniform within --max-shift along each axis. With
    --prior, orientations are drawn from its rlnAngleRot/Tilt/Psi (rows of the same
    cryoetganClass, if there are ten or more), blurred by --prior-spread, and shifts from its
    rlnOriginX/Y/ZAngst. If it lacks the columns of one, that one stays uniform.
    """
    from cryoetgan.command import parse_counts
    from cryoetgan.densities.maps import read_pose_maps
    from cryoetgan.densities.poses import draw_poses, read_pose_prior
    from cryoetgan.io.files import check_disk_space
    from cryoetgan.io.volume_set import VolumeSetWriter
    from cryoetgan.progress import track

    densities, voxel_size = read_pose_maps(maps)
    counts = parse_counts(list(densities), count, class_count, "--count", "--class-count")
    observed = read_pose_prior(prior, prior_spread) if prior else None
    total, box = sum(counts.values()), len(next(iter(densities.values())))
    _check_max_shift(max_shift, box * voxel_size)
    check_disk_space(output, 4 * total * box**3, "lower --count (densities.count)")
    with VolumeSetWriter(output, total, box, voxel_size) as writer:
        poses = (
            item
            for name, density in densities.items()
            for item in draw_poses(
                name, density, counts[name], max_shift, voxel_size, seed, observed
            )
        )
        for volume, row in track(poses, "posing", total):
            writer.add(volume, row)
    log.info("%s: %d volumes of %d classes", output, total, len(densities))
    return Record(parameters={"counts": counts})

"""Commands of the `densities` stage."""

from pathlib import Path
from typing import Annotated

import typer

from cryoetgan.command import Output, Seed, command, group, log, positive
from cryoetgan.errors import UserError

app = group("")
VoxelSize = Annotated[float, typer.Option("--voxel-size", help="Angstrom.", show_default=False)]
Resolution = Annotated[float, typer.Option("--resolution", help="Angstrom.", show_default=False)]
Box = Annotated[int, typer.Option("--box", help="Edge in voxels.", show_default=False)]
CUT_WARNING = 0.005


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
    hydrogens: Annotated[bool, typer.Option("--hydrogens", help="Count hydrogens.")] = False,
    ligands: Annotated[bool, typer.Option(help="Count ligands, ions and glycans.")] = True,
    waters: Annotated[bool, typer.Option("--waters", help="Count waters.")] = False,
) -> None:
    """Structure to density map: MRC, sum of Z exp(-r^2 / w^2), w = resolution / pi.

    Lengths in angstrom, box in voxels, protein positive, nothing normalised.
    """
    import numpy as np

    from cryoetgan.densities import atoms as reading
    from cryoetgan.densities.eman2 import e2pdb2mrc
    from cryoetgan.densities.simulation import simulate as density_of
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.volumes import write_volume

    positive(voxel_size, "--voxel-size", " A")
    if resolution < 2 * voxel_size and not eman2_compatible:
        raise UserError(
            f"--resolution: got {resolution:g} A, below twice the voxel size ({voxel_size:g} A): "
            f"atoms would fall between voxels; give {2 * voxel_size:g} or more"
        )
    if engine not in ("builtin", "eman2"):
        raise UserError(f"--engine: got '{engine}', wanted builtin or eman2")
    if eman2_compatible:
        atoms = reading.read_atoms_as_eman2(file)
    else:
        atoms = reading.read_atoms(file, assembly, hydrogens, ligands, waters)
    if center:
        atoms = atoms.centred()
    if engine == "eman2":
        density = e2pdb2mrc(atoms, voxel_size, resolution, box)
    else:
        density = density_of(
            atoms.positions, atoms.atomic_numbers, voxel_size, resolution, box, eman2_compatible
        )
    reach = np.abs(atoms.positions / voxel_size).max()
    if reach > box / 2 - 1:
        wanted = 4 * int(np.ceil(2 * (reach + 1) / 4))
        log.warning(
            "%s: the particle reaches %.0f voxels from the centre and is cut by the box of %d; "
            "set densities.box to %d or more",
            file,
            reach,
            box,
            wanted,
        )
    write_volume(output, density, voxel_size, [f"density at {resolution:g} A, Z exp(-r2/w2)"])
    made = provenance(
        "densities simulate",
        [file],
        {
            "voxel_size": voxel_size,
            "resolution": resolution,
            "box": box,
            "engine": engine,
            "assembly": assembly,
        },
    )
    write_json(sidecar(output), {"provenance": made, "atoms": len(atoms)})
    log.info("%s: %d atoms", output, len(atoms))


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
) -> None:
    """A patch of lipid bilayer as density map (MRC): head groups and hydrophobic trough.

    A model, not a measurement; its normal lies along z.
    """
    from cryoetgan.densities.membrane import membrane as bilayer
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.volumes import write_volume

    for value, name in (
        (voxel_size, "--voxel-size"),
        (resolution, "--resolution"),
        (box, "--box"),
        (membrane_thickness, "--membrane-thickness"),
    ):
        positive(value, name)
    density = bilayer(voxel_size, resolution, box, membrane_thickness, membrane_radius)
    write_volume(output, density, voxel_size, ["model of a lipid bilayer"])
    parameters = {
        "voxel_size": voxel_size,
        "resolution": resolution,
        "box": box,
        "membrane_thickness": membrane_thickness,
        "membrane_radius": membrane_radius,
    }
    made = provenance("densities membrane", parameters=parameters)
    write_json(sidecar(output), {"provenance": made})


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

    The map's centre, voxel n // 2, stays the centre.
    """
    import numpy as np

    from cryoetgan.densities.maps import fit_to_box, share_outside
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.volumes import read_volume, write_volume

    positive(voxel_size, "--voxel-size", " A")
    source = read_volume(file, input_voxel_size)
    data = np.asarray(source.data, np.float64)
    density = fit_to_box(data, source.voxel_size, voxel_size, box)
    lost = share_outside(data, density, (voxel_size / source.voxel_size) ** 3)
    if lost > CUT_WARNING:
        log.warning("%s: the box of %d voxels leaves out %.1f %% of it", file, box, 100 * lost)
    write_volume(output, density, voxel_size, [f"map {file.name}"])
    made = provenance("densities import", [file], {"voxel_size": voxel_size, "box": box})
    write_json(sidecar(output), {"provenance": made})


@command(app, "pose")
def pose(
    maps: Annotated[list[Path], typer.Argument(help="Density maps; the stem is the class.")],
    output: Output,
    count: Annotated[int, typer.Option(help="Poses of each map.")],
    max_shift: Annotated[float, typer.Option(help="Angstrom an axis.")] = 0.0,
    class_count: Annotated[
        list[str] | None, typer.Option(help="NAME=N: another count for one class; repeatable.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Random poses of density maps: a volume set (STAR and MRC stack), N of each map.

    Orientations uniform on SO(3), shifts uniform on [-max-shift, max-shift] an axis.
    Angles in degrees (RELION's), origins in angstrom.
    """
    from cryoetgan.command import counts_by_class
    from cryoetgan.densities.poses import poses
    from cryoetgan.files import provenance, sidecar, write_json
    from cryoetgan.progress import track
    from cryoetgan.star import class_name
    from cryoetgan.volumes import VolumeSetWriter, read_volume, same_voxel_size

    if max_shift < 0:
        raise UserError(f"--max-shift: got {max_shift:g} A, wanted zero or more")
    named = {class_name(path): path for path in maps}
    if len(named) < len(maps):
        raise UserError(f"two maps have the same name: {', '.join(path.stem for path in maps)}")
    counts = counts_by_class(list(named), count, class_count, "--count", "--class-count")
    opened = {name: read_volume(path) for name, path in named.items()}
    first_name, first = next(iter(opened.items()))
    for name, volume in opened.items():
        same_voxel_size(first.voxel_size, volume.voxel_size, named[first_name], named[name])
        if volume.data.shape != first.data.shape or len(set(volume.data.shape)) != 1:
            raise UserError(
                f"{named[name]}: has shape {volume.data.shape}, but {named[first_name]} has "
                f"{first.data.shape}; maps of one set are cubes of one size (densities.box)"
            )
    total, box = sum(counts.values()), first.data.shape[0]
    with VolumeSetWriter(output, total, box, first.voxel_size) as writer:
        made = (
            item
            for name, volume in opened.items()
            for item in poses(name, volume.data, counts[name], max_shift, volume.voxel_size, seed)
        )
        for posed, row in track(made, "posing", total):
            writer.add(posed, row)
    record = provenance("densities pose", maps, {"count": count, "max_shift": max_shift}, seed)
    write_json(sidecar(output), {"provenance": record})
    log.info("%s: %d volumes of %d classes", output, total, len(opened))

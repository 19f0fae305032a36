"""Options of the commands that are settings of the functions, too."""

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from cryoetgan.command import check_positive, parse_numbers, parse_tilt_range
from cryoetgan.errors import UserError

if TYPE_CHECKING:
    from cryoetgan.physics.acquisition import Acquisition


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Options: how a tomogram was recorded."""

    tilts: Annotated[str, Option(metavar="LO,HI[,STEP]", help="Degrees about y.")] = "-60,60,3"
    voltage: Annotated[float, Option(help="Kilovolts.")] = 300.0
    cs: Annotated[float, Option(help="Spherical aberration, millimetres.")] = 2.7
    amplitude_contrast: Annotated[float, Option(help="Fraction.")] = 0.07
    defocus: Annotated[float | None, Option(help="Micrometres, underfocus positive.")] = None
    ctf: Annotated[
        Literal["raw", "phase-flipped", "corrected"], Option(help="State of the CTF.")
    ] = "raw"
    group: Annotated[str, Option(help="Microscope session.")] = "all"

    def acquisition(self, contrast: str = "dark") -> "Acquisition":
        """Return the acquisition; raise `UserError` if a value is invalid."""
        from cryoetgan.io.star import CLASS_NAME
        from cryoetgan.physics.acquisition import Acquisition

        low, high, step = parse_tilt_range(self.tilts)
        if not CLASS_NAME.fullmatch(self.group):
            raise UserError(f"--group: got '{self.group}', wanted letters, digits, _ and -")
        known = {key: value for key, value in vars(self).items() if key != "tilts"}
        return Acquisition(tilt_low=low, tilt_high=high, tilt_step=step, contrast=contrast, **known)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How a tomogram is converted at its import."""

    input_voxel_size: Annotated[float | None, Option(help="Angstrom, not the header's.")] = None
    voxel_size: Annotated[float | None, Option(help="Angstrom, after resampling.")] = None
    contrast: Annotated[Literal["dark", "bright"], Option(help="Protein in the file.")] = "dark"
    tilt_axis: Annotated[Literal["y", "x"], Option(help="Tilt axis in the file.")] = "y"
    beam_axis: Annotated[Literal["z", "y"], Option(help="Beam axis; y: IMOD's raw volumes.")] = "z"
    flip_hand: Annotated[
        bool, Option("--flip-hand", help="Mirror along z: the file's hand is wrong.")
    ] = False
    float16: Annotated[bool, Option("--float16", help="Half the disk space.")] = False
    mask: Annotated[Path | None, Option(help="MRC on the file's grid; not zero: excluded.")] = None

    def __post_init__(self) -> None:
        if self.voxel_size is not None:
            check_positive(self.voxel_size, "--voxel-size", " A")


@dataclass(frozen=True, kw_only=True)
class BoxAxes:
    """The voxels and axes of boxes in their files."""

    input_voxel_size: Annotated[float | None, Option(help="Angstrom, not the header's.")] = None
    tilt_axis: Annotated[Literal["y", "x"], Option(help="Tilt axis in the files.")] = "y"
    beam_axis: Annotated[Literal["z", "y"], Option(help="Beam axis in the files.")] = "z"
    flip_hand: Annotated[
        bool, Option("--flip-hand", help="Mirror the boxes along z: their hand is wrong.")
    ] = False

    def __post_init__(self) -> None:
        if self.input_voxel_size is not None:
            check_positive(self.input_voxel_size, "--input-voxel-size", " A")


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """Blurring of a tilt series in addition to the CTF."""

    dose: Annotated[
        float, Option(help="Electrons per square angstrom, of the series; 0: no damage.")
    ] = 100.0
    """Dose-symmetric from tilt zero outwards (Hagen 2017, doi 10.1016/j.jsb.2016.06.007)."""
    b_factor: Annotated[float, Option(help="Square angstrom, of every image.")] = 300.0
    """Envelope exp(-B k^2 / 4) of coherence and motion."""
    misalignment: Annotated[float, Option(help="Pixels, standard deviation.")] = 0.4
    """Residual shift of an image, in u and y."""
    mtf: Annotated[float, Option(help="Detector's transfer at the Nyquist frequency, up to 1.")] = (
        1.0
    )
    """Modulation transfer function, in (0, 1]: falls off to this value as a Gaussian."""
    detector: Annotated[
        str | None,
        Option(metavar="k2|k3|MTF.star", help="Measured transfer of a detector, or of your own."),
    ] = None
    """None: `mtf` alone."""
    detector_pixel: Annotated[
        float | None, Option(help="Angstrom, unbinned pixel of the --detector.")
    ] = None
    drift: Annotated[
        float, Option(help="Angstrom of motion during an image, in a random direction.")
    ] = 0.0
    """0: the B-factor holds the rest of the motion."""
    ice_structure: Annotated[
        bool, Option("--ice-structure", help="Structural noise is the same ice in all images.")
    ] = False
    """Off: water moves in the beam, so every image sees other ice (McMullan 2015,
    doi 10.1016/j.ultramic.2015.05.017)."""
    phase_shift: Annotated[float, Option(help="Degrees, of a phase plate.")] = 0.0
    astigmatism: Annotated[
        float, Option(help="Micrometres between the largest and the smallest defocus.")
    ] = 0.0
    astigmatism_angle: Annotated[
        float, Option(help="Degrees from u (across the tilt axis) to the largest defocus.")
    ] = 45.0
    defocus_gradient: Annotated[
        bool,
        Option("--defocus-gradient", help="Defocus varies across tilted images, corrected or not."),
    ] = False
    """Off: a tomogram is fitted and corrected with one CTF."""
    mean_free_path: Annotated[
        float | None,
        Option(help="Angstrom of inelastic scattering in ice; shot noise grows with the path."),
    ] = None
    """3,800 at 300 kV. The default lets all noise grow as 1 / cos(tilt)."""
    tilt_error: Annotated[
        float, Option(help="Degrees, standard deviation of the angles of the images.")
    ] = 0.0
    misalignment_growth: Annotated[
        float, Option(help="Factor of the misalignment at 60 degrees, minus 1.")
    ] = 0.0
    dose_weighting: Annotated[
        bool, Option("--dose-weighting", help="Filter images by the dose before reconstruction.")
    ] = False

    def __post_init__(self) -> None:
        if self.mean_free_path is not None:
            check_positive(self.mean_free_path, "--mean-free-path", " A")
        if self.detector_pixel is not None:
            check_positive(self.detector_pixel, "--detector-pixel", " A")
        for name in (
            "dose", "b_factor", "misalignment", "astigmatism", "tilt_error", "misalignment_growth",
            "drift",
        ):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value < inf:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option}: got {value:g}, wanted zero or more")
        if self.detector is not None:
            import numpy as np

            from cryoetgan.tomograms.simulation.detector import detector_transfer

            detector_transfer(self.detector, np.zeros(1))  # refuses what it does not know
            if self.detector_pixel is None:
                raise UserError(
                    "--detector: its transfer depends on its pixel; give --detector-pixel, in "
                    "angstrom before binning"
                )
        if not 0 < self.mtf <= 1:
            raise UserError(f"--mtf: got {self.mtf:g}, wanted a number above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Processing:
    """Processing of the reconstruction, which the imaging models do not know of."""

    denoise: Annotated[
        float, Option(help="Weight of total variation denoising, standard deviations; 0: none.")
    ] = 0.0
    saturation: Annotated[
        float | None,
        Option(help="Standard deviations s of the grey scale tanh(v / s); default: linear."),
    ] = None

    def __post_init__(self) -> None:
        if not 0 <= self.denoise < inf:
            raise UserError(f"--denoise: got {self.denoise:g}, wanted zero or more")
        if self.saturation is not None:
            check_positive(self.saturation, "--saturation")


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """Particles of a simulated tomogram or scene."""

    shape: Annotated[str | None, Option(metavar="X,Y,Z", help="Voxels.")] = None
    copies: Annotated[
        int | None, Option(help="Particles of each class; default: as many as --fill needs.")
    ] = None
    fill: Annotated[
        float | None,
        Option(help="Fraction of the ice that is occupied at most, for example 0.3."),
    ] = None
    class_copies: Annotated[
        list[str] | None, Option(help="NAME=N: another number for one class; repeatable.")
    ] = None
    crowder: Annotated[
        list[Path] | None,
        Option(help="Map of a background species: labelled, not in the truth; repeatable."),
    ] = None
    crowder_copies: Annotated[int, Option(min=0, help="Copies of each crowder.")] = 100

    def __post_init__(self) -> None:
        if self.fill is not None and not 0 < self.fill < 1:
            raise UserError(f"--fill: got {self.fill:g}, wanted a number between 0 and 1")

    def sides(self) -> tuple[int, int, int]:
        """Return the shape in voxels: x, y, z."""
        if self.shape is None:
            raise UserError("--shape: not given; give X,Y,Z in voxels")
        sides = parse_numbers(self.shape, "--shape", ("X", "Y", "Z"))
        if any(side < 1 or side != int(side) for side in sides):
            raise UserError(f"--shape: got '{self.shape}', wanted whole numbers above zero")
        x, y, z = (int(side) for side in sides)
        return x, y, z


MEMBRANE_SHAPES = ("vesicle", "tube", "torus", "fold", "double")


@dataclass(frozen=True, kw_only=True)
class CellContents:
    """Membranes, filaments, unnamed crowders, the ice and what lies on it."""

    membranes: Annotated[int, Option(min=0, help="Number of membranes of random shapes.")] = 0
    membrane_shape: Annotated[
        list[str] | None,
        Option(help="vesicle, tube, torus, fold or double; repeatable; default: all."),
    ] = None
    membrane_radius: Annotated[
        str, Option(metavar="LO,HI", help="Angstrom; longest half axis of closed membranes.")
    ] = "300,1000"
    membrane_protein: Annotated[
        list[Path] | None,
        Option(help="Map: z along the normal, voxel n // 2 on the mid-plane; repeatable."),
    ] = None
    membrane_protein_density: Annotated[
        float, Option(help="Copies of each on a square micrometre.")
    ] = 2000.0
    membrane_protein_inverted: Annotated[float, Option(help="Fraction whose z points inwards.")] = (
        0.0
    )
    filament: Annotated[
        list[Path] | None,
        Option(help="Map of a monomer: z along the axis, x away from it; repeatable."),
    ] = None
    filament_length: Annotated[float, Option(help="Micrometres of each filament in all.")] = 1.0
    helix: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=RISE,TWIST,RADIUS[,N,STAGGER[,PERSISTENCE]]",
            help="Lattice of a filament, angstrom and degrees; known: actin, microtubule.",
        ),
    ] = None
    crowder_fraction: Annotated[float, Option(help="Fraction of the ice in unnamed proteins.")] = (
        0.0
    )
    thickness: Annotated[
        str | None, Option(metavar="LO,HI", help="Angstrom; ice that varies; default: the volume.")
    ] = None
    carbon_edge: Annotated[
        float, Option(help="Fraction of the area that the carbon around a hole covers.")
    ] = 0.0
    contamination: Annotated[
        int, Option(min=0, help="Pieces of ice on the faces of the film; needs --thickness.")
    ] = 0

    def __post_init__(self) -> None:
        self.radii()
        self.thickness_range()
        for shape in self.membrane_shape or []:
            if shape not in MEMBRANE_SHAPES:
                wanted = ", ".join(MEMBRANE_SHAPES)
                raise UserError(f"--membrane-shape: got '{shape}', wanted {wanted}")
        for name in ("crowder_fraction", "carbon_edge"):
            if not 0 <= (value := getattr(self, name)) < 1:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option}: got {value:g}, wanted a fraction below 1")
        if self.contamination and self.thickness is None:
            raise UserError(
                "--contamination: lies on the ice, which fills the volume; give --thickness"
            )
        if not 0 <= self.membrane_protein_inverted <= 1:
            raise UserError(
                f"--membrane-protein-inverted: got {self.membrane_protein_inverted:g}, wanted 0 to 1"
            )
        check_positive(self.membrane_protein_density, "--membrane-protein-density")
        check_positive(self.filament_length, "--filament-length", " micrometres")
        if self.membrane_protein and not self.membranes:
            raise UserError("--membrane-protein: the scene has no membrane; give --membranes")

    def radii(self) -> tuple[float, float]:
        """Return the shortest and the longest half axis of membranes, angstrom."""
        return _parse_range(self.membrane_radius, "--membrane-radius")

    def thickness_range(self) -> tuple[float, float] | None:
        """Return the least and the largest thickness of the ice, angstrom; None: the volume."""
        return None if self.thickness is None else _parse_range(self.thickness, "--thickness")


def _parse_range(text: str, option: str) -> tuple[float, float]:
    low, high = parse_numbers(text, option, ("LO", "HI"))
    if not 0 < low <= high:
        raise UserError(f"{option}: got {text}, wanted 0 < LO <= HI")
    return low, high


@dataclass(frozen=True, kw_only=True)
class VesiclesAndGold:
    """Vesicles and gold beads of a simulated tomogram or scene."""

    vesicles: Annotated[int, Option(min=0, help="Number of membrane vesicles.")] = 0
    vesicle_radius: Annotated[str, Option(metavar="LO,HI", help="Angstrom; longest half axis.")] = (
        "200,500"
    )
    beads: Annotated[int, Option(min=0, help="Number of gold beads.")] = 0
    bead_diameter: Annotated[float, Option(help="Angstrom.")] = 100.0
    resolution: Annotated[
        float | None,
        Option(help="Angstrom, of the maps and so of all objects without one; default: 3 voxels."),
    ] = None

    def __post_init__(self) -> None:
        low, high = self.vesicle_radii()
        if not 0 < low <= high:
            raise UserError(f"--vesicle-radius: got {low:g},{high:g}, wanted 0 < LO <= HI")
        check_positive(self.bead_diameter, "--bead-diameter", " A")
        if self.resolution is not None:
            check_positive(self.resolution, "--resolution", " A")

    def vesicle_radii(self) -> tuple[float, float]:
        """Return the shortest and the longest half axis, angstrom."""
        low, high = parse_numbers(self.vesicle_radius, "--vesicle-radius", ("LO", "HI"))
        return low, high

"""Set 2 of the test data, made ready: maps, tomograms in several looks, picks, models, crops.

Seven kinds of particles at 10 A in boxes of 28. dev_set2_1 is what a user has: its own
Difference-of-Gaussians picks, aligned to the maps, no label. The truth of all three tomograms
makes test crops, and the labelled crops of dev_set2_1 the ceiling.
"""

import subprocess
import sys

import pandas as pd
from imaging_variants import make

BOX, VOXEL = 28, 10.0
MAPS = {
    "T20S_1pma": "T20S_1pma.pdb.gz",
    "apoferritin_6z6u": "apoferritin_6z6u.pdb.gz",
    "hemagglutinin_4o5n": "hemagglutinin_4o5n.pdb.gz",
    "hsp90_2cg9": "hsp90_2cg9.pdb.gz",
    "insulinreceptor_4zxb": "insulinreceptor_4zxb.cif.gz",
    "p97hexamer_3cf3": "p97_3cf3.pdb.gz",
    "rubisco_1bxn": "rubisco_1bxn.pdb.gz",
}
CHAINS = {"insulinreceptor_4zxb": "E"}
"""The tomograms hold the receptor without the entry's four Fabs: `imaging fit` says that its
picks show 0.52 of the whole entry's map, where other classes show all of theirs."""
LOOKS = {
    "plain": (None, 3.5),
    "denoised": ("denoised", 3.5),
    "defocus": (None, 4.5),
    "narrow": ("narrow", 3.5),
    "snr0.1": ("snr0.1", 3.5),
    "snr0.05": ("snr0.05", 3.5),
}
"""Name to the change of the volume (imaging_variants.py) and the defocus typed, micrometres."""


class Set2:
    """A folder in which each file is made once; a killed run goes on where it was.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    data : Path
        The test data.
    look : str
        One of `LOOKS`.
    count : int
        Poses of each class.
    shift : float
        Angstrom an axis that poses may lie off centre; the test's crops lie half a voxel off.
    """

    def __init__(self, folder, data, look="plain", count=200, shift=VOXEL):
        self.folder, self.data, self.look = folder.resolve(), data.resolve(), look
        self.count, self.shift = count, shift
        self.maps = [f"maps/{name}.mrc" for name in MAPS]
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, name, *words):
        """Run a command that writes `name`, where it is not there; return the name."""
        if not (self.folder / name).exists():
            folder, _, file = name.rpartition("/")
            target = folder if file == "checkpoint.pt" else name
            command = [sys.executable, "-m", "cryoetgan", *map(str, words), "-q", "-o", target]
            subprocess.run(command, cwd=self.folder, check=True)
        return name

    def prepare(self, numbers=(1, 2, 3)):
        """Make maps, poses, tomograms and crops; picks, scores and model of the first tomogram."""
        for name, file in MAPS.items():
            self.run(
                f"maps/{name}.mrc", "densities", "simulate", self.data / "structures" / file,
                "--voxel-size", VOXEL, "--resolution", 30, "--box", BOX,
                "--chains", CHAINS.get(name, ""),
            )  # fmt: skip
        self.run(
            "poses.star", "densities", "pose", *self.maps, "--count", self.count,
            "--max-shift", self.shift,
        )  # fmt: skip
        for i in sorted({1, *numbers}):
            self.tomogram(i)
            self.extract(f"real{i}.star", f"truth{i}.star", i)
        self.match(1)
        self.extract("own.star", "picks.star", 1)
        self.extract("pseudo.star", "selected.star", 1)
        densities = [word for path in self.maps for word in ("--density", path)]
        self.run("M.json", "imaging", "fit", "t1.mrc", "--particles", "scores.star", *densities)

    def tomogram(self, number):
        """Import a tomogram in the look, and its truth."""
        change, defocus = LOOKS[self.look]
        source = self.data / "tomograms" / f"dev_set2_{number}.mrc"
        words = (source, "--tilts=-60,60,3", "--defocus", defocus, "--ctf", "phase-flipped")
        if change:
            name = self.run(f"as_it_is/t{number}.mrc", "tomograms", "import", *words)
            if not (self.folder / f"t{number}.mrc").exists():
                make(self.folder / name, change, self.folder / f"t{number}.mrc")
        else:
            self.run(f"t{number}.mrc", "tomograms", "import", *words)
        # the column `tomo` names the file before import
        truth, own = source.with_name(f"dev_set2_{number}_truth.csv"), f"truth{number}.csv"
        pd.read_csv(truth).drop(columns="tomo").to_csv(self.folder / own, index=False)
        self.run(f"truth{number}.star", "particles", "import", own, "--tomogram", f"t{number}.mrc")

    def match(self, number, suffix=""):
        """Pick a tomogram, align the templates to its picks, keep each pick's best class."""
        self.score_picks(number, suffix)
        return self.run(
            f"selected{suffix}.star", "particles", "select", f"scores{suffix}.star",
            "--top", 1000, "--split", f"t{number}=train",
        )  # fmt: skip

    def score_picks(self, number, suffix=""):
        """Pick a tomogram and align the templates to its picks."""
        tomogram, picks, scores = f"t{number}.mrc", f"picks{suffix}.star", f"scores{suffix}.star"
        self.run(picks, "particles", "pick", tomogram, "--sigma", 40, "--top", 500)
        templates = [word for path in self.maps for word in ("--template", path)]
        self.run(
            scores, "particles", "score", tomogram, picks, *templates, "--tilts=-60,60",
        )  # fmt: skip

    def extract(self, name, particles, number):
        """Cut boxes out of a tomogram."""
        return self.run(
            name, "particles", "extract", particles, "--tomogram", f"t{number}.mrc", "--box", BOX,
        )  # fmt: skip

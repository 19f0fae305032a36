"""Small labelled sets whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.io.mrc import write_volume
from cryoetgan.io.volume_set import write_volume_set
from cryoetgan.physics.acquisition import Acquisition
from cryoetgan.physics.geometry import relion_from_rotation, rotate_volume

BOX, VOXEL = 16, 10.0


def particle(name: str, box: int = BOX) -> np.ndarray:
    """Two lobed, chiral densities: no rotation maps one onto the other, or onto itself."""
    centre = box // 2
    lobes = {
        "bent": [(0, 0, 0, 1.0), (4, 0, 0, 1.0), (0, 4, 0, 0.7), (0, 0, 3, 0.5)],
        "rod": [(0, 0, -5, 1.2), (0, 0, 0, 1.0), (0, 0, 5, 0.6), (0, 2, 5, 0.6)],
    }[name]
    volume = np.zeros((box, box, box))
    for x, y, z, weight in lobes:
        volume[centre + z, centre + y, centre + x] = weight
    return ndimage.gaussian_filter(volume, 1.2)


@pytest.fixture(scope="session")
def make_set(tmp_path_factory):
    """Write a set of noisy posed particles and their maps; return its STAR file."""
    folder = tmp_path_factory.mktemp("sets")

    def make(
        name: str,
        count: int = 24,
        noise: float = 0.3,
        seed: int = 0,
        classes: tuple[str, ...] = ("bent", "rod"),
        tomograms: tuple[str, ...] = ("a", "b"),
        splits: bool = True,
        source: str = "real",
        scale: float = 1.0,
    ):
        star = folder / f"{name}.star"
        rng = np.random.default_rng(seed)
        rows, volumes = [], []
        for index in range(count):
            kind = classes[index % len(classes)]
            rotation = Rotation.random(rng=rng)
            clean = rotate_volume(particle(kind), rotation)
            volumes.append(
                scale * (clean / clean.std() + noise * 10 * rng.normal(size=clean.shape))
            )
            rot, tilt, psi = relion_from_rotation(rotation)
            row = {
                "rlnAngleRot": rot,
                "rlnAngleTilt": tilt,
                "rlnAnglePsi": psi,
                "cryoetganClass": kind,
                "cryoetganSource": source,
            }
            if source == "real":
                x, y, z = rng.uniform(8, [200, 120, 40])
                tomogram = tomograms[(index // len(classes)) % len(tomograms)]
                row |= {
                    "rlnTomoName": tomogram,
                    "rlnCoordinateX": x,
                    "rlnCoordinateY": y,
                    "rlnCoordinateZ": z,
                    "cryoetganId": f"p{name}{index}",
                    "cryoetganSplit": "train" if tomogram == tomograms[0] else "test",
                }
                if not splits:
                    del row["cryoetganSplit"]
            rows.append(row)
        optics = pd.DataFrame([Acquisition().to_optics(1, "one")])
        write_volume_set(star, np.array(volumes), pd.DataFrame(rows), VOXEL, optics)
        return star

    return make


@pytest.fixture(scope="session")
def maps(tmp_path_factory):
    """Write the densities of both classes; return their files."""
    folder = tmp_path_factory.mktemp("maps")
    for name in ("bent", "rod"):
        write_volume(folder / f"{name}.mrc", particle(name), VOXEL)
    return [folder / "bent.mrc", folder / "rod.mrc"]


def shapes(rng, count: int, noise: float = 1.0) -> tuple[np.ndarray, list[str]]:
    """Noisy balls and rods in turn, 16^3, and their classes."""
    z, y, x = np.indices((16,) * 3) - 8
    masks = {"ball": x**2 + y**2 + z**2 < 20, "rod": (x**2 + y**2 < 5) & (abs(z) < 7)}
    names = [["ball", "rod"][index % 2] for index in range(count)]
    volumes = [3 * masks[name] + noise * rng.standard_normal((16,) * 3) for name in names]
    return np.array(volumes, np.float32), names


@pytest.fixture(scope="session")
def shape_sets(tmp_path_factory):
    """Write train.star (60) and test.star (40); return their folder."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(7)
    optics = pd.DataFrame([Acquisition().to_optics(1, "t")])
    for name, count in (("train", 60), ("test", 40)):
        volumes, classes = shapes(rng, count)
        table = pd.DataFrame({"cryoetganClass": classes, "cryoetganSplit": name})
        write_volume_set(folder / f"{name}.star", volumes, table, 10.0, optics)
    return folder

"""Membranes, their proteins, filaments, crowders: distances, normals, twist, room, truth."""

import tempfile

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoetgan.densities.crowders import make_crowders, protein_mass
from cryoetgan.densities.density_from_atoms import gaussian_width
from cryoetgan.densities.membrane import bilayer_profile
from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.physics.geometry import clip_box, rotate_volume, rotation_from_relion
from cryoetgan.tomograms.options import MEMBRANE_SHAPES
from cryoetgan.tomograms.simulation.filaments import (
    add_filaments,
    interpolate,
    longest_stretch,
    worm_like_chain,
)
from cryoetgan.tomograms.simulation.film import (
    CARBON_ELECTRON_DENSITY,
    CARBON_THICKNESS_A,
    ICE_ELECTRON_DENSITY,
    add_carbon,
    add_contamination,
    make_film,
)
from cryoetgan.tomograms.simulation.helices import HELICES, Helix, parse_helices
from cryoetgan.tomograms.simulation.membranes import (
    WantedMembranes,
    add_membrane_proteins,
    add_membranes,
    find_surface,
    make_field,
)
from cryoetgan.tomograms.simulation.packing import empty_scene, pack
from tests.conftest import refused

WIDTH, VOXEL = 30 / np.pi, 10.0


def wanted(count, shapes, *radii):
    return WantedMembranes("membrane", count, shapes, radii)


def pin():
    """A map longer towards +z, thicker towards +x: its pose can be read from a scene."""
    z, y, x = np.indices((16, 16, 16)) - 8.0
    return np.exp(-(x**2 + y**2) / 3 - np.where(z > 0, z / 2.5, -z / 1.2) ** 2) + 0.5 * np.exp(
        -((x - 2.5) ** 2 + y**2 + (z - 2) ** 2) / 2
    )


@pytest.mark.parametrize("shape", MEMBRANE_SHAPES)
def test_the_depth_is_the_distance_from_the_mid_plane_and_the_normal_its_gradient(shape, rng):
    for seed in range(40):
        generator = np.random.default_rng(seed)
        field, extent = make_field(shape, (300.0, 300.0), generator)
        scene = empty_scene((60, 64, 64))
        surface = find_surface(field, np.array([32.0, 32, 30]), extent, scene, VOXEL)
        if surface is not None and len(surface.middle) > 500:
            break
    voxels = np.array(np.unravel_index(surface.voxels, scene.labels.shape))[::-1].T
    middle = voxels[surface.middle] - surface.depth[surface.middle, None] / VOXEL * surface.normals
    tree = cKDTree(middle)
    inner = (voxels > 8).all(axis=1) & (voxels < np.array([55, 55, 51])).all(axis=1)
    chosen = rng.permutation(np.flatnonzero(inner))[:2000]
    distance, nearest = tree.query(voxels[chosen])
    # the points are a voxel apart, so the nearest is somewhat farther than the surface
    error = VOXEL * distance - abs(surface.depth[chosen])
    assert np.median(abs(error)) < 3.0
    # the normal at the nearest point leads to the voxel, on the side of the sign of the depth
    far = abs(surface.depth[chosen]) > 25
    away = (voxels[chosen] - middle[nearest])[far] * np.sign(surface.depth[chosen][far])[:, None]
    cosine = (away * surface.normals[nearest][far]).sum(1) / np.linalg.norm(away, axis=1)
    assert np.degrees(np.arccos(np.clip(np.median(cosine), -1, 1))) < 15


def test_the_area_of_a_membrane_is_counted_in_its_layer():
    scene = empty_scene((80, 80, 80))
    (membrane,) = add_membranes(scene, wanted(1, ["vesicle"], 300.0, 300.0), WIDTH, VOXEL, "t", 4)
    assert membrane.number == 1
    layer = np.count_nonzero(scene.labels) * VOXEL**3 / (2 * 38.0)
    assert membrane.area == pytest.approx(layer, rel=0.1)
    assert scene.filled == np.count_nonzero(scene.occupied) == np.count_nonzero(scene.instances)
    # head groups: two ridges, 20 angstrom from the mid-plane, or one if they are blurred
    assert (
        scene.density[scene.labels > 0].mean() > 20 * abs(scene.density[scene.labels == 0]).mean()
    )


def test_a_bilayer_has_two_ridges_of_head_groups():
    depth = np.linspace(-60, 60, 121)
    profile = bilayer_profile(depth, 40.0, gaussian_width(10.0))
    assert abs(abs(depth[profile.argmax()]) - 20) < 3
    assert profile[60] < 0.2 * profile.max()
    assert np.allclose(profile, profile[::-1])


def test_membranes_do_not_cross_and_leave_room_for_particles():
    scene = empty_scene((64, 100, 100))
    placed = add_membranes(scene, wanted(6, MEMBRANE_SHAPES, 200.0, 300.0), WIDTH, VOXEL, "t", 1)
    assert len(placed) + scene.missing.get("membrane", 0) == 6
    membranes = scene.instances.copy()
    pack(scene, {"a": pin()}, {"a": 40}, "t", 1)
    assert len(scene.rows) == 40
    assert np.array_equal(scene.instances[membranes > 0], membranes[membranes > 0])


def test_proteins_stand_on_membranes_along_the_normal():
    scene = empty_scene((90, 90, 90))
    membranes = add_membranes(scene, wanted(2, ["vesicle"], 250.0, 300.0), WIDTH, VOXEL, "t", 2)
    add_membrane_proteins(scene, {"pin": pin()}, membranes, 2e-5, 0.3, "t", 2)
    expected = sum(membrane.area for membrane in membranes) * 2e-5
    assert len(scene.rows) + scene.missing.get("pin", 0) == pytest.approx(expected, abs=2)
    assert len(scene.rows) > 0.6 * expected
    points, normals = (
        np.concatenate([getattr(membrane, name) for membrane in membranes])
        for name in ("points", "normals")
    )
    up, places = [], []
    for row in scene.rows:
        places.append([row[c] for c in COORDINATES])
        up.append(rotation_from_relion([row[a] for a in ANGLES]).apply([0, 0, 1]))
    distance, nearest = cKDTree(points).query(places)
    assert distance.max() < 1e-3
    cosine = (np.array(up) * normals[nearest]).sum(axis=1)
    assert np.degrees(np.arccos(abs(cosine).min())) < 5
    assert 0.1 < (cosine < 0).mean() < 0.55
    # the map lies in the scene at its row: inside of its mask it alone
    for row in scene.rows[:5]:
        own = scene.instances == row["cryoetganInstance"]
        assert scene.density[own].max() == pytest.approx(pin().max(), rel=0.2)


def test_a_chain_has_its_persistence_length(rng):
    """<t(0) t(s)> = exp(-s / P)."""
    dots = []
    for _ in range(400):
        _, frames = worm_like_chain(np.zeros(3), np.array([1.0, 0, 0]), 1.0, 40.0, 81, rng)
        assert np.allclose(frames @ frames.transpose(0, 2, 1), np.eye(3), atol=1e-9)
        dots.append(frames[:, :, 2] @ frames[0, :, 2])
    mean = np.mean(dots, axis=0)
    for s in (20, 40, 80):
        assert mean[s] == pytest.approx(np.exp(-s / 40), abs=0.06)


def test_linear_interpolation_is_that_of_scipy(rng):
    volume = rng.random((9, 12, 11), np.float32)
    places = (rng.random((3, 40_000)) * [[7.9], [10.9], [9.9]]).astype(np.float32)
    places[:, :5] = np.rint(places[:, :5])
    expected = ndimage.map_coordinates(volume, places, order=1)
    assert np.allclose(interpolate(volume, places), expected, atol=1e-5)


def test_a_straight_stretch_of_density_leaves_its_chain_by_half_an_angstrom(rng):
    persistence, count, squares = 5e4, 41, []
    step = longest_stretch(persistence) / (count - 1)
    for _ in range(400):
        points, frames = worm_like_chain(np.zeros(3), np.eye(3)[0], step, persistence, count, rng)
        points, line = points - points.mean(axis=0), frames[count // 2, :, 2]
        squares.append(((points - np.outer(points @ line, line)) ** 2).sum(axis=1).mean())
    assert np.sqrt(np.mean(squares)) == pytest.approx(0.5, rel=0.1)


def test_monomers_have_the_rise_the_twist_and_the_radius_of_the_lattice():
    scene = empty_scene((60, 200, 200))
    helix = Helix(40.0, 30.0, 20.0, persistence=1e9)
    placed = add_filaments(scene, {"h": pin()}, {"h": helix}, 1000.0, VOXEL, "t", 3)
    assert placed["h"] >= 800
    rows = [row for row in scene.rows if row["rlnHelicalTubeID"] == 1]
    places = np.array([[row[c] for c in COORDINATES] for row in rows]) * VOXEL
    turns = rotation_from_relion(np.array([[row[a] for a in ANGLES] for row in rows]))
    axis = turns.apply([0, 0, 1])
    assert (axis @ axis[0] > np.cos(np.radians(1))).all()
    centres = places - 20.0 * turns.apply([1, 0, 0])
    steps = np.diff(centres, axis=0)
    assert np.allclose(np.linalg.norm(steps, axis=1), 40, atol=0.1)
    assert (steps @ axis[0] > 39).all()
    relative = (turns[:-1].inv() * turns[1:]).as_euler("ZYX", degrees=True)[:, 0]
    assert np.allclose(relative, 30, atol=3)
    # density and rows have one centre
    centre = np.array(ndimage.center_of_mass(scene.density)[::-1])
    assert np.abs(centre - places.mean(axis=0) / VOXEL).max() < 1.5


def test_a_microtubule_closes_with_a_seam():
    scene = empty_scene((60, 100, 100))
    lattice = HELICES["microtubule"]
    add_filaments(scene, {"mt": pin()}, {"mt": lattice}, 800.0, VOXEL, "t", 1)
    rows = [row for row in scene.rows if row["rlnHelicalTubeID"] == 1][:13]
    places = np.array([[row[c] for c in COORDINATES] for row in rows]) * VOXEL
    turns = rotation_from_relion(np.array([[row[a] for a in ANGLES] for row in rows]))
    axis = turns[0].apply([0, 0, 1])
    along = places @ axis
    assert np.allclose(np.diff(along), -9.37, atol=0.2)
    # a left-handed three-start helix: counter-clockwise about +z it falls
    turn = np.cross(turns[0].apply([1, 0, 0]), turns[1].apply([1, 0, 0])) @ axis
    assert turn * (along[1] - along[0]) < 0
    size = np.array(scene.labels.shape[::-1]) * VOXEL
    every = np.array([[row[c] for c in COORDINATES] for row in scene.rows]) * VOXEL
    assert ((every >= 0) & (every < size)).all()
    # 13 steps rise by three monomers of 40.6 A: one and a half dimers, which is the seam
    assert pytest.approx(1.5 * lattice.rise, rel=0.01) == 13 * 9.37
    outwards = turns.apply([1, 0, 0])
    neighbours = (outwards[1:] * outwards[:-1]).sum(axis=1)
    assert np.allclose(neighbours, np.cos(2 * np.pi / 13), atol=1e-3)


@pytest.mark.parametrize(
    "helix",
    [
        HELICES["microtubule"],
        Helix(40.0, 30.0, 20.0, persistence=1e9),
        Helix(12.0, 100.0, 20.0, persistence=2e4),
    ],
    ids=["mt", "one", "bent"],
)
def test_the_density_of_a_filament_is_the_sum_of_its_monomers(helix):
    """Rings are placed at once; each monomer lies in its own pose nevertheless."""
    scene = empty_scene((60, 100, 100))
    add_filaments(scene, {"f": pin()}, {"f": helix}, 800.0, VOXEL, "t", 1)
    expected, union = np.zeros(scene.density.shape), np.zeros(scene.density.shape, bool)
    for row in scene.rows:
        place = np.array([row[c] for c in COORDINATES])
        whole = np.rint(place).astype(int)
        rotation = rotation_from_relion([row[a] for a in ANGLES])
        monomer = rotate_volume(pin(), rotation, place - whole)
        in_scene, in_box = clip_box(whole[::-1] - 8, monomer.shape, expected.shape)
        expected[in_scene] += monomer[in_box]
        union[in_scene] |= monomer[in_box] > 0.15 * pin().max()
    error = scene.density - expected
    assert np.sqrt((error**2).sum() / (expected**2).sum()) < 0.05
    inside = scene.labels == scene.names["f"]
    assert (inside & union).sum() > 0.8 * (inside | union).sum()


def test_parts_of_filaments_wait_in_the_folder_of_the_output(tmp_path, monkeypatch):
    """Not in the folder of temporary files, which may be small; here there is none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    scene = empty_scene((40, 40, 40), folder=tmp_path)
    add_filaments(scene, {"f": pin()}, {"f": HELICES["actin"]}, 300.0, VOXEL, "t", 1)
    assert scene.filled > 0


@pytest.mark.parametrize(("largest", "limit"), [(3e5, 6e5), (2.5e6, 3.75e6), (1e9, 5e6)])
def test_crowders_have_the_mass_of_proteins_up_to_the_largest_named(largest, limit):
    made = make_crowders(VOXEL, WIDTH, 0, largest)
    scale = 0.38 * np.pi**1.5 * WIDTH**3
    masses = [density.sum() * VOXEL**3 / scale / 1.21 for density in made.values()]
    found = [protein_mass(density, VOXEL, WIDTH) for density in made.values()]
    assert found == pytest.approx(masses, rel=1e-4)
    assert 2.9e4 < min(masses) < 1.5e5
    assert 0.3 * limit < max(masses) < 1.01 * limit
    for density in made.values():
        assert ndimage.label(density > 0.2 * density.max())[1] == 1, "an oligomer is one piece"


def test_nothing_lies_outside_the_ice():
    scene = empty_scene((60, 64, 64))
    placed = add_membranes(scene, wanted(2, ["fold"], 300.0, 300.0), WIDTH, VOXEL, "t", 1)
    film = make_film(scene.labels.shape, (250.0, 400.0), VOXEL, "t", 1)
    film.cut(scene)
    assert 1 - 40 / 60 < film.outside < 1 - 25 / 60
    thickness = (film.high - film.low) * VOXEL
    assert 250 <= thickness.min() < thickness.max() <= 400
    for membrane in placed:
        cut = membrane.within(scene)
        assert 0.3 < cut.area / membrane.area < 0.8
        layer = np.count_nonzero(scene.instances == membrane.number) * VOXEL**3 / (2 * 38.0)
        assert cut.area == pytest.approx(layer, rel=0.15)
    pack(scene, {"a": pin()}, {"a": None}, "t", 1, 0.05)
    used = np.flatnonzero((scene.labels > 0).any(axis=(1, 2)))
    assert 9 <= used.min() < used.max() <= 50
    assert not scene.density[:5].any()
    assert scene.filled == np.count_nonzero(scene.instances)


def test_carbon_covers_its_share_of_the_area_on_one_face_and_ends_in_an_arc():
    scene, fraction = empty_scene((60, 120, 120)), 0.3
    film = make_film(scene.labels.shape, (400.0, 500.0), VOXEL, "t", 1)
    add_carbon(scene, film, fraction, WIDTH, VOXEL, "t", 3)
    film.cut(scene)
    carbon = scene.labels == scene.names["carbon"]
    covered = carbon.any(axis=0)
    assert covered.mean() == pytest.approx(fraction, abs=0.01)
    # one piece, and the hole is one piece
    assert [ndimage.label(part)[1] for part in (covered, ~covered)] == [1, 1]
    layers = carbon.sum(axis=0)[covered] * VOXEL
    assert layers.mean() == pytest.approx(CARBON_THICKNESS_A, abs=VOXEL)
    inner = ndimage.binary_erosion(carbon, iterations=4)
    scale = np.pi**1.5 * WIDTH**3
    assert scene.density[inner].mean() == pytest.approx(CARBON_ELECTRON_DENSITY * scale, rel=0.02)
    # grains: less than a tenth, for atoms of a kind are random, and the map is blurred
    assert 0.005 < scene.density[inner].std() / scene.density[inner].mean() < 0.1
    pack(scene, {"a": pin()}, {"a": 30}, "t", 1)
    assert (scene.labels[carbon] == scene.names["carbon"]).all()


def test_contamination_lies_on_the_ice_alone_and_is_labelled():
    scene = empty_scene((80, 100, 100))
    film = make_film(scene.labels.shape, (300.0, 350.0), VOXEL, "t", 1)
    film.cut(scene)
    add_contamination(scene, film, 4, WIDTH, VOXEL, "t", 2)
    placed = 4 - scene.missing.get("contamination", 0)
    ice = scene.labels == scene.names["contamination"]
    assert placed >= 2
    assert set(np.unique(scene.instances)) == set(range(placed + 1))
    z = np.arange(80)[:, None, None]
    inside = (z >= film.low) & (z <= film.high)
    assert not (ice & inside).any()
    assert not scene.density[inside].any()
    assert scene.filled == np.count_nonzero(scene.instances)
    middle = ndimage.binary_erosion(ice, iterations=4)
    scale = np.pi**1.5 * WIDTH**3
    assert np.median(scene.density[middle]) == pytest.approx(ICE_ELECTRON_DENSITY * scale, rel=0.02)
    # it touches the film
    near = ndimage.binary_dilation(inside, iterations=2)
    pieces, count = ndimage.label(ice)
    assert all((near & (pieces == n)).any() for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--carbon-edge", "1.5"), ("--carbon-edge", "fraction")),
        (("--contamination", "2"), ("--contamination", "--thickness")),
        (("--membrane-shape", "cube"), ("--membrane-shape", "cube", "torus")),
        (("--membrane-protein", "a.mrc"), ("--membranes",)),
        (("--filament", "f.mrc"), ("lattice", "--helix f=RISE")),
        (("--filament", "f.mrc", "--helix", "f=1,2"), ("--helix", "f=1,2", "RISE,TWIST,RADIUS")),
        (("--filament", "a.mrc"), ("a", "twice")),
        (("--membranes", "1", "--filament", "membrane.mrc"), ("membrane", "rename")),
        (("--filament", "crowder_x.mrc"), ("crowder_x", "rename")),
        (("--crowder-fraction", "1.5"), ("--crowder-fraction",)),
        (("--thickness", "0.1,0.2"), ("--thickness", "no voxel")),
        (("--thickness", "300,200"), ("--thickness", "LO")),
    ],
)
def test_invalid_contents_are_refused(cryoetgan, tmp_path, words, said):
    for name in ("a", "f", "membrane", "crowder_x"):
        write_volume(tmp_path / f"{name}.mrc", pin().astype(np.float32), VOXEL)
    base = ("tomograms", "scene", "a.mrc", "--copies", 1, "--shape=32,32,32", "-o", "s.mrc")
    refused(cryoetgan(*base, *words, code=2), *said)


@pytest.mark.parametrize("seed", range(4))  # either face
def test_carbon_lies_in_the_volume_though_the_ice_is_thicker(seed):
    scene = empty_scene((20, 32, 32))
    film = make_film(scene.labels.shape, (600.0, 900.0), VOXEL, "t", seed)
    assert film.outside == 0
    add_carbon(scene, film, 0.3, WIDTH, VOXEL, "t", seed)
    assert (scene.labels > 0).any(axis=0).mean() == pytest.approx(0.3, abs=0.01)


def test_a_lattice_given_replaces_the_known_one():
    assert parse_helices(["actin_1"], [])["actin_1"] == HELICES["actin"]
    assert parse_helices(["actin_1"], ["actin_1=5,6,7"])["actin_1"] == Helix(5, 6, 7)


def test_the_command_writes_a_cell_and_its_record(cryoetgan, tmp_path):
    for name in ("a", "pin", "actin"):
        write_volume(tmp_path / f"{name}.mrc", pin().astype(np.float32), VOXEL)
    words = ("--membranes", 2, "--membrane-radius", "200,300", "--membrane-protein", "pin.mrc")
    words += ("--filament", "actin.mrc", "--filament-length", 0.1, "--crowder-fraction", 0.05)
    base = ("tomograms", "scene", "a.mrc", "--copies", 5, "--shape=96,96,48", "-o", "s.mrc")
    cryoetgan(*base, *words, "--thickness", "300,400")
    about = read_json(tmp_path / "s.mrc.json")
    assert set(about["labels"].values()) == {"a", "membrane", "pin", "actin", "crowder"}
    assert about["membrane_area_um2"] > 0.003
    assert about["filament_um"]["actin"] == pytest.approx(0.1, abs=0.05)
    rows = read_star(tmp_path / "s.star").particles
    assert set(rows["cryoetganClass"]) == {"a", "pin", "actin"}
    assert rows[ANGLES].notna().all().all()
    labels = read_volume(tmp_path / "s_labels.mrc").data
    crowded = next(int(n) for n, name in about["labels"].items() if name == "crowder")
    assert (labels == crowded).mean() > 0.02

"""Scenes of other simulators: places, angles, names, scale, by their documented formats."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from cryoetgan.errors import UserError
from cryoetgan.io.files import read_json
from cryoetgan.io.mrc import Volume, read_volume, write_volume
from cryoetgan.io.star import ANGLES, COORDINATES, read_star
from cryoetgan.physics.geometry import rotate_volume, rotation_from_relion
from cryoetgan.tomograms.importing.class_maps import match_means
from cryoetgan.tomograms.importing.import_scene import (
    _check_contrast,
    _count_particles,
    _label_means,
)
from cryoetgan.tomograms.importing.no_data import NearestSections
from cryoetgan.tomograms.importing.objects import (
    NO_PARTICLES,
    find_numbers,
    number_components,
    number_given,
    settle_rows,
)
from cryoetgan.tomograms.importing.touching import map_shape
from cryoetgan.tomograms.sources.scene_volumes import ForeignScene
from tests.conftest import refused

N, SHAPE = 16, (40, 60, 64)
POLNET = "type\tlabel\tcode\tpolymer\tx\ty\tz\tq1\tq2\tq3\tq4\n"


def template():
    z, y, x = np.indices((N, N, N)) - 7.5
    return np.exp(-(x**2 / 14 + (y - 1) ** 2 / 5 + (z + 1.5) ** 2 / 8)) + 0.6 * np.exp(
        -((x - 3) ** 2 + (y + 2) ** 2 + z**2) / 4
    )


@pytest.fixture
def polnet(tmp_path, rng):
    """A folder as PolNet 1.1 writes it: templates turned about (n - 1) / 2, added at round - n // 2."""
    density, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    text = POLNET + "membrane\t1\tsphere\t0\t50\t60\t70\t0\t0\t1\t0\n"
    labels[0:2] = 1
    density[0:2] = 0.5
    for index, whole in enumerate([(15, 15, 14), (15, 40, 18), (45, 15, 22), (44, 44, 27)]):
        rotation = Rotation.random(random_state=index)
        x, y, z, w = rotation.as_quat()
        backward = rotation.inv().as_matrix()[::-1, ::-1]
        middle = np.full(3, (N - 1) / 2)
        turned = ndimage.affine_transform(template(), backward, middle - backward @ middle)
        corner = np.array(whole[::-1]) - N // 2
        box = tuple(slice(a, a + N) for a in corner)
        density[box] += turned
        labels[box][turned > 0.15 * turned.max()] = 2
        shown = 10 * (np.array(whole) + rng.uniform(-0.4, 0.4, 3))
        values = [*shown, w, x, y, z]
        text += "cprotein\t2\tpdb_4v4r.a\t0\t" + "\t".join(f"{v:.8g}" for v in values) + "\n"
    write_volume(tmp_path / "tomo_001_den.mrc", density, 10.0)
    write_volume(tmp_path / "tomo_001_lbl.mrc", labels.astype(np.int16), 10.0)
    (tmp_path / "tomo_001_motif_list.csv").write_text(text)
    # numbers that are wrong if a component placed nothing
    (tmp_path / "labels_table.csv").write_text("MODEL\tLABEL\nnothing\t1\nsphere\t2\nx\t3\n")
    write_volume(tmp_path / "pdb_4v4r_a.mrc", 1500 * template().astype(np.float32), 10.0)
    return tmp_path


def test_rows_of_polnet_fit_its_density(cryoetgan, polnet):
    words = ("tomograms", "import-scene", ".", "--voxel-size", 10, "-o", "out/s.mrc")
    cryoetgan(*words, "--template", "pdb_4v4r_a.mrc")
    rows = read_star(polnet / "out/s.star").particles
    scene, labels, instances = (
        read_volume(polnet / f"out/s{end}.mrc").data for end in ("", "_labels", "_instances")
    )
    assert set(rows["cryoetganClass"]) == {"pdb_4v4r_a"}
    for _, row in rows.iterrows():
        place, whole = row[COORDINATES].to_numpy(float), None
        whole = np.rint(place).astype(int)
        turned = rotate_volume(
            template(), rotation_from_relion(row[ANGLES].to_numpy(float)), place - whole
        )
        box = tuple(slice(a, a + N) for a in whole[::-1] - N // 2)
        mask = turned > 0.1 * turned.max()
        assert np.corrcoef(turned[mask], scene[box][mask])[0, 1] > 0.99
        own = instances == row["cryoetganInstance"]
        assert np.abs(np.argwhere(own).mean(axis=0)[::-1] - place).max() < 2
        assert set(np.unique(labels[own])) == {2}
    about = read_json(polnet / "out/s.mrc.json")
    assert about["labels"] == {"1": "sphere", "2": "pdb_4v4r_a"}
    # in the units of the user's map, and as far as the poses are exact
    assert scene.max() == pytest.approx(1500 * template().max(), rel=0.15)
    assert about["maps"]["pdb_4v4r_a"]["likeness"] > 0.99


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tomos", "tomos_motif_list.csv"), ("sample", "digital_sample_motif_list.csv")],
)
def test_polnet_1_0_has_its_list_in_the_folder_above(cryoetgan, polnet, folder, name):
    """Types of its own, floating-point labels, files with a number at the end."""
    cryoetgan("tomograms", "import-scene", "tomo_001_den.mrc", "--voxel-size", 10, "-o", "1.mrc")
    made = polnet / "old" / folder
    made.mkdir(parents=True)
    (polnet / "tomo_001_den.mrc").rename(made / "tomo_den_0.mrc")
    labels = read_volume(polnet / "tomo_001_lbl.mrc").data
    write_volume(made / "tomo_lbls_0.mrc", labels.astype(np.float32), 10.0)
    lines = (polnet / "tomo_001_motif_list.csv").read_text().splitlines()
    lines = [lines[0].title(), *(line.replace("cprotein", "SAWLC") for line in lines[1:])]
    columns = ["Density", *[f"/far/{folder}/tomo_den_0.mrc"] * (len(lines) - 1)]
    text = "\r\n".join(f"{a}\t{b}" for a, b in zip(columns, lines, strict=True))
    (made.parent / name).write_text(text)
    for source in ("old", f"old/{folder}/tomo_den_0.mrc"):
        cryoetgan("tomograms", "import-scene", source, "--voxel-size", 10, "-o", "0.mrc")
        new, old = (read_star(polnet / f"{n}.star").particles for n in (1, 0))
        columns = [*COORDINATES, *ANGLES, "cryoetganClass"]
        assert new[columns].equals(old[columns])
    assert read_json(polnet / "0.mrc.json")["labels"] == {"1": "sphere", "2": "pdb_4v4r_a"}


def test_picks_of_polnet_are_the_rows_of_its_scene(cryoetgan, polnet):
    cryoetgan("tomograms", "import-scene", ".", "--voxel-size", 10, "-o", "out/s.mrc")
    words = ("particles", "import", "tomo_001_motif_list.csv", "--tomogram", "tomo_001_den.mrc")
    cryoetgan(*words, "-o", "p.star")
    scene, picks = (read_star(polnet / name).particles for name in ("out/s.star", "p.star"))
    columns = [*COORDINATES, *ANGLES]
    assert np.allclose(scene[columns].to_numpy(float), picks[columns].to_numpy(float), atol=1e-5)


def test_angles_of_filaments_are_not_claimed(cryoetgan, polnet):
    path = polnet / "tomo_001_motif_list.csv"
    path.write_text(path.read_text().replace("cprotein", "filament", 1))
    cryoetgan(
        "tomograms", "import-scene", "tomo_001_den.mrc", "--voxel-size", 10, "-o", "out/s.mrc"
    )
    angles = read_star(polnet / "out/s.star").particles[ANGLES].to_numpy(float)
    assert np.isnan(angles).all(axis=1).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("4v4r.a\t0\t", "4v4r.a\t0\tx", ("x of row 2", "'x1", "numbers")),
        ("\tlabel\t", "\tnumber\t", ("label",)),
        ("cprotein\t2\t", "cprotein\ttwo\t", ("label of row", "two")),
        ("type", "", ("type",)),
        (None, "", ("empty",)),
        (None, "\0\1\2", ("motif_list",)),
    ],
)
def test_a_damaged_list_of_motifs_is_refused_by_file_and_row(cryoetgan, polnet, old, new, said):
    path = polnet / "tomo_001_motif_list.csv"
    text = path.read_text()
    path.write_text(new if old is None else text.replace(old, new, 1))
    words = ("tomograms", "import-scene", "tomo_001_den.mrc", "--voxel-size", 10, "-o", "o.mrc")
    refused(cryoetgan(*words, code=2), "tomo_001_motif_list.csv", *said)


def test_a_rotation_of_length_zero_is_refused(cryoetgan, polnet):
    path = polnet / "tomo_001_motif_list.csv"
    lines = path.read_text().splitlines()
    lines[-1] = "\t".join(lines[-1].split("\t")[:7] + ["0"] * 4)
    path.write_text("\n".join(lines) + "\n")
    words = ("tomograms", "import-scene", "tomo_001_den.mrc", "--voxel-size", 10, "-o", "o.mrc")
    refused(cryoetgan(*words, code=2), "tomo_001_motif_list.csv", "quaternion")


def test_odd_templates_lie_at_the_rounded_position(cryoetgan, polnet):
    """Without the half voxel of even ones, for the centre and for the turn about it."""
    for name, words in (("even", ()), ("odd", ("--odd-templates",))):
        end = ("--voxel-size", 10, *words, "-o", f"out/{name}.mrc")
        cryoetgan("tomograms", "import-scene", "tomo_001_den.mrc", *end)
    even, odd = (read_star(polnet / f"out/{name}.star").particles for name in ("even", "odd"))
    places = odd[COORDINATES].to_numpy(float)
    assert np.allclose(places, [[15, 15, 14], [15, 40, 18], [45, 15, 22], [44, 44, 27]])
    turned = rotation_from_relion(odd[ANGLES].to_numpy(float)).apply([0.5, 0.5, 0.5])
    assert np.allclose(even[COORDINATES].to_numpy(float), places - 0.5 + turned, atol=1e-4)


def test_another_voxel_size_keeps_the_places_in_angstrom(cryoetgan, polnet):
    for size in (10, 20):
        words = ("--voxel-size", size, "-o", f"out/s{size}.mrc")
        cryoetgan("tomograms", "import-scene", "tomo_001_den.mrc", *words)
    fine, coarse = (read_star(polnet / f"out/s{size}.star").particles for size in (10, 20))
    assert np.allclose(fine[COORDINATES].to_numpy(float), 2 * coarse[COORDINATES].to_numpy(float))
    counts = [
        np.count_nonzero(read_volume(polnet / f"out/s{size}_labels.mrc").data) for size in (10, 20)
    ]
    assert counts[0] / counts[1] == pytest.approx(8, rel=0.15)


def test_components_of_labels_become_particles(cryoetgan, tmp_path):
    density, labels = np.zeros((2, *SHAPE), np.float32)
    for z, y, x in ((10, 10, 12), (10, 30, 12), (25, 40, 50)):
        labels[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = 7
    labels[36:38], labels[30, 30, 30] = 3, 7  # a membrane; a single voxel
    density[labels > 0] = 1
    write_volume(tmp_path / "d.mrc", density, 10.0)
    write_volume(tmp_path / "l.mrc", labels.astype(np.int16), 10.0)
    words = ("tomograms", "import-scene", "d.mrc", "--labels", "l.mrc", "--voxel-size", 10)
    refused(cryoetgan(*words, "--label", "p97=7", "-o", "s.mrc", code=2), "label 3", "--label")
    write_volume(tmp_path / "f.mrc", (labels / 2).astype(np.float32), 10.0)  # interpolated
    filtered = ("--labels", "f.mrc", "--voxel-size", 10, "-o", "s.mrc")
    refused(cryoetgan(*words[:3], *filtered, code=2), "f.mrc", "whole numbers")
    names = ("--label", "p97=7", "--label", "membrane_a=3")
    cryoetgan(*words, *names, "-o", "s.mrc")
    rows = read_star(tmp_path / "s.star").particles
    assert sorted(map(tuple, rows[COORDINATES].to_numpy(float))) == [
        (12, 10, 10), (12, 30, 10), (50, 40, 25),
    ]  # fmt: skip
    assert set(rows["cryoetganClass"]) == {"p97"}
    assert not set(ANGLES) & set(rows)
    assert len(np.unique(read_volume(tmp_path / "s_instances.mrc").data)) == 1 + 3 + 1


def test_a_folder_of_cryotomosim(cryoetgan, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    labels = np.zeros(SHAPE, np.int16)
    labels[8:13, 18:23, 28:33], labels[0], labels[20:25, 40:45, 3:8] = 1, 2, 3
    write_volume(folder / "ribo.mrc", 0.5 * (labels > 0).astype(np.float32), 10.0)
    write_volume(folder / "Atlas.mrc", labels, 10.0)
    (folder / "Atlas.txt").write_text("background\nribo\nmembrane\nbundled\n")
    # a place that is listed outside
    (folder / "zcoords_ribo.csv").write_text("31,21,11\n31,62,11\n")
    done = cryoetgan("tomograms", "import-scene", "model", "--voxel-size", 10, "-o", "s.mrc")
    assert "1 of 2 listed places have no voxels" in done.stderr
    rows = read_star(tmp_path / "s.star").particles
    # between the middles of boxes of even and of odd length; members of bundles are not listed
    assert rows[COORDINATES].to_numpy(float).tolist() == [[29.75, 19.75, 9.75], [5, 42, 22]]
    assert rows["cryoetganClass"].tolist() == ["ribo", "bundled"]
    names = {"1": "ribo", "2": "membrane", "3": "bundled"}
    assert read_json(tmp_path / "s.mrc.json")["labels"] == names
    instances = read_volume(tmp_path / "s_instances.mrc").data
    assert [np.unique(instances[labels == n]).tolist() for n in (1, 2, 3)] == [[1], [2], [3]]
    assert rows["cryoetganInstance"].tolist() == [1, 3]
    for text in ("31,21\n", "31,x,11\n", "31,nan,11\n"):
        (folder / "zcoords_ribo.csv").write_text(text)
        words = ("tomograms", "import-scene", "model", "--voxel-size", 10, "-o", "t.mrc")
        refused(cryoetgan(*words, code=2), "zcoords_ribo.csv", "x, y, z")
    (folder / "zcoords_ribo.csv").write_text("")
    (folder / "zcoords_other.csv").write_text("31,21,11\n")
    words = ("tomograms", "import-scene", "model", "--voxel-size", 10, "-o", "t.mrc")
    refused(cryoetgan(*words, code=2), "other", "Atlas.txt")


@pytest.mark.parametrize(
    ("name", "is_particle"),
    [
        *(("carbonic_anhydrase", True), ("icea", True), ("gold_binding", False)),
        *(("membrane_a", False), ("Vesicles", False), ("grid", False), ("ribosome", True)),
    ],
)
def test_only_whole_first_words_of_labels_are_no_particles(name, is_particle):
    assert (NO_PARTICLES.match(name) is None) == is_particle


def ball(radius, stretch=1.0):
    z, y, x = np.indices((N, N, N)) - 8.0
    return (np.sqrt(x**2 + y**2 + (z / stretch) ** 2) < radius).astype(np.float32)


def touching(name):
    """A label volume of two particles that touch, their true middles (xyz), and their map."""
    labels = np.zeros(SHAPE, np.int16)
    if name == "spheres":
        density, moves, turns = ball(5), [(20, 20, 20), (20, 20, 29)], Rotation.random(2)
    elif name == "rods side by side":
        density, moves, turns = ball(2.6, 2.6), [(20, 20, 20), (20, 20, 25)], Rotation.identity(2)
    else:
        density, moves = template().astype(np.float32), [(14, 20, 20), (15, 20, 27)]
        turns = Rotation.random(2, random_state=4)
    middles = []
    for move, turn in zip(moves, turns, strict=True):
        inside = rotate_volume(density, turn, np.zeros(3)) > (
            0.5 if name != "lumps" else 0.15 * density.max()
        )
        places = np.argwhere(inside) - N // 2 + move
        free = labels[tuple(places.T)] == 0
        labels[tuple(places[free].T)] = 1
        middles.append(places[free].mean(axis=0)[::-1])
    return labels, np.array(middles), density


@pytest.mark.parametrize("name", ["spheres", "rods side by side", "lumps"])
def test_touching_particles_are_two_by_the_map_of_their_class(cryoetgan, tmp_path, name):
    labels, middles, density = touching(name)
    assert ndimage.label(labels, np.ones((3, 3, 3)))[1] == 1
    write_volume(tmp_path / "d.mrc", labels.astype(np.float32), 10.0)
    write_volume(tmp_path / "l.mrc", labels, 10.0)
    write_volume(tmp_path / "p97.mrc", 40 * density, 10.0)
    words = ("tomograms", "import-scene", "d.mrc", "--labels", "l.mrc", "--label", "p97=1")
    words = (*words, "--voxel-size", 10, "-o", "s.mrc")
    cryoetgan(*words)
    assert len(read_star(tmp_path / "s.star").particles) == 1
    cryoetgan(*words, "--template", "p97.mrc")
    rows = read_star(tmp_path / "s.star").particles
    found = rows[COORDINATES].to_numpy(float)
    far = np.linalg.norm(found[:, None] - middles, axis=2)
    assert sorted(far.argmin(axis=1)) == [0, 1]
    assert far.min(axis=1).max() < 1
    instances = read_volume(tmp_path / "s_instances.mrc").data
    assert len(np.unique(instances)) == 3
    assert (instances[labels == 0] == 0).all()


def test_parts_that_have_not_the_shape_of_the_map_are_said(cryoetgan, tmp_path):
    """A plate of twice the volume of a ball is not two balls."""
    labels = np.zeros(SHAPE, np.int16)
    labels[20:22, 10:34, 10:32] = 1
    write_volume(tmp_path / "d.mrc", labels.astype(np.float32), 10.0)
    write_volume(tmp_path / "l.mrc", labels, 10.0)
    write_volume(tmp_path / "p97.mrc", ball(5), 10.0)
    words = ("tomograms", "import-scene", "d.mrc", "--labels", "l.mrc", "--label", "p97=1")
    words = (*words, "--voxel-size", 10, "--template", "p97.mrc", "-o", "s.mrc")
    done = cryoetgan(*words)
    assert "2 of 2 parts of touching particles" in done.stderr
    assert len(read_star(tmp_path / "s.star").particles) == 0


def test_a_large_component_is_said_if_no_map_is_given(cryoetgan, tmp_path):
    labels = np.zeros(SHAPE, np.int16)
    for x in range(5, 60, 10):
        labels[10:15, 10:15, x : x + 5] = 1
    labels[10:15, 10:15, 50:60] = 1
    write_volume(tmp_path / "d.mrc", labels.astype(np.float32), 10.0)
    write_volume(tmp_path / "l.mrc", labels, 10.0)
    words = ("tomograms", "import-scene", "d.mrc", "--labels", "l.mrc", "--label", "p97=1")
    done = cryoetgan(*words, "--voxel-size", 10, "-o", "s.mrc")
    assert "1 of 5 components are 3.0 to 3.0 times" in done.stderr
    assert "--template p97.mrc" in done.stderr


def test_listed_places_beside_their_particles_are_moved_to_them():
    """As the members of CryoTomoSim's clusters; another place, 0.4 voxels off, stays as listed."""
    labels = np.zeros(SHAPE, np.int16)
    middles = np.array([(20, 20, 20), (31, 20, 20), (31, 31, 22)])
    for x, y, z in middles:
        labels[z - 5 : z + 6, y - 5 : y + 6, x - 5 : x + 6] = 1
    listed = middles + np.array([(0.4, 0, 0), (5, 4, 4), (6, 5, 3)])
    rows = pd.DataFrame(listed, columns=COORDINATES).assign(cryoetganClass="clu")
    found = settle_rows(labels, {1: "clu"}, rows)[COORDINATES].to_numpy(float)
    assert found[0].tolist() == [20.4, 20, 20]
    assert np.allclose(found[1:], middles[1:], atol=0.5)


def test_places_without_voxels_are_left_out_although_they_are_most():
    labels = np.zeros((30, 30, 100), np.int16)
    labels[13:18, 13:18, 8:13] = 1
    listed = [(x, 15, 15) for x in (10, 40, 60, 80)]
    rows = pd.DataFrame(listed, columns=COORDINATES, dtype=float).assign(cryoetganClass="a")
    found = settle_rows(labels, {1: "a"}, rows)[COORDINATES].to_numpy(float)
    assert found.tolist() == [[10, 15, 15]]


def test_an_instance_goes_to_the_nearest_row_within_its_radius():
    labels, ids = np.zeros((2, 20, 20, 200), np.int16)
    labels[8:12, 8:12, 8:12] = ids[8:12, 8:12, 8:12] = 1
    labels[8:12, 8:12, 20:24], ids[8:12, 8:12, 20:24] = 1, 2
    instances = np.zeros(labels.shape, np.float32)
    objects = number_given(labels, NearestSections(ids, ids.shape, 1.0), {1: "a"}, instances)
    assert np.allclose(objects["radius"], np.sqrt(3 * 1.25))
    listed = [(11, 9.5, 9.5), (9.5, 9.5, 9.5), (180, 9.5, 9.5), (25, 9.5, 9.5)]
    rows = pd.DataFrame(listed, columns=COORDINATES).assign(cryoetganClass="a")
    assert find_numbers(rows, objects, labels, instances).tolist() == [0, 1, 0, 2]


def test_a_contrast_within_the_noise_changes_neither_sign_nor_scale(rng):
    """Of four particles; of one hundred it is significant."""
    density, labels = rng.standard_normal(SHAPE).astype(np.float32), np.zeros(SHAPE, np.int16)
    for number in range(100):
        z, y, x = 4 + 8 * (number % 4), 4 + 10 * (number // 4 % 5), 4 + 12 * (number // 20)
        labels[z : z + 3, y : y + 3, x : x + 3] = 1
    density[labels == 1] -= 1
    for shape, sign in ((np.s_[:8, :, :12], 1.0), (np.s_[:], -1.0)):
        data = density[shape], labels[shape]
        scene = ForeignScene(
            "d.mrc", Volume(data[0], 10.0), "l.mrc", data[1], {1: "a"}, None, "none"
        )
        means = _label_means(*data, scene.names)
        means["particles"] = _count_particles(means, scene, scene.names)
        assert means["particles"].tolist() == [1, 5 if sign > 0 else 100]
        assert _check_contrast(means, scene) == sign
        maps = {"a": 10 * ball(3)}
        found = match_means(means, scene.names, maps, {}, sign)
        assert set(found) == (set() if sign > 0 else {"a"})


def test_maps_of_few_voxels_are_refused_or_split_nothing():
    tiny = np.zeros((8, 8, 8), np.float32)
    tiny[4, 4, 2:6] = 1
    with pytest.raises(UserError, match="--template p97: its mask has 4 voxels, wanted 8"):
        map_shape(tiny, "p97")
    labels = np.zeros((12, 12, 12), np.int16)
    labels[4:7, 4:7, 4:7] = 1
    shapes = {"p97": map_shape(ball(2), "p97").scaled(1 / 64)}
    found = number_components(labels, {1: "p97"}, np.zeros(labels.shape, np.float32), shapes)
    assert len(found) == 1


def test_a_component_of_too_many_particles_stays_whole():
    labels = np.ones((30, 30, 30), np.int16)
    shapes = {"p97": map_shape(ball(2), "p97")}
    instances = np.zeros(labels.shape, np.float32)
    found = number_components(labels, {1: "p97"}, instances, shapes)
    assert len(found) == 1
    assert instances.max() == 1

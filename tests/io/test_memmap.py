"""Memory maps: pages are released on the way, and no byte changes by it."""

import numpy as np

from cryoetgan.io import memmap
from cryoetgan.io.volume_set import VolumeSetWriter, read_volume_set


def resident_kb():
    """Return the memory of this process that belongs to files, kB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssFile"))


def test_a_region_of_a_mapped_file_is_read_and_its_pages_are_released(tmp_path, rng):
    whole = rng.integers(-9, 9, (9, 300, 4000)).astype(">i2")
    whole.tofile(tmp_path / "v")
    mapped = np.memmap(tmp_path / "v", ">i2", "r", shape=whole.shape)
    spans = [(1, 9), (0, 300), (7, 207)]
    before = resident_kb()
    part = memmap.read_region(mapped, spans)
    assert part.dtype == np.float32
    assert np.array_equal(part, whole[1:9, :, 7:207])
    assert resident_kb() - before < 1000  # the pages of the region hold 19 MB


def test_sections_that_are_filled_keep_their_values_when_pages_are_released(tmp_path, rng):
    whole = rng.standard_normal((40, 100, 500)).astype(np.float32)
    mapped = np.memmap(tmp_path / "v", np.float32, "w+", shape=whole.shape)
    before, most = resident_kb(), 0
    for section, values in zip(memmap.iterate_sections(mapped, 500_000), whole, strict=True):
        section[:] = values
        most = max(most, resident_kb() - before)
    assert most < 3000  # of 8 MB
    assert np.array_equal(mapped, whole)
    assert (tmp_path / "v").read_bytes() == whole.tobytes()


def test_a_volume_set_is_written_in_bounded_memory(tmp_path, rng):
    whole = rng.standard_normal((100, 30, 30, 30)).astype(np.float32)
    before, most = resident_kb(), 0
    with VolumeSetWriter(tmp_path / "s.star", 100, 30, 5.0, release_every=10**6) as writer:
        for volume in whole:
            writer.add(volume, {"cryoetganClass": "a"})
            most = max(most, resident_kb() - before)
    assert most < 4000  # of 11 MB
    assert np.array_equal(read_volume_set(tmp_path / "s.star").volumes, whole)


def test_advice_leaves_the_values_alone(tmp_path):
    for array in (memmap.scratch_array(tmp_path, np.int16, (3, 5)), np.zeros((3, 5), np.int16)):
        array[1] = 7
        for random in (True, False):
            memmap.expect_random_access(array, random)
            memmap.release_pages(array)
            assert array.tolist() == [[0] * 5, [7] * 5, [0] * 5]

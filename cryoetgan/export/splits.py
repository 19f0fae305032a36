"""The split of each exported tomogram: training, validation, test, or to be picked."""

VALIDATION_PART = 5
"""One in this number of runs is for validation, if the particles have no split."""


def complete_splits(runs: list[tuple[str, str, bool]]) -> list[tuple[str, str]]:
    """Return the split of each run, given its name, the split of its particles, and if they are known.

    A run with known particles and without a split is for training. If no run is for validation or
    test, the last of these are. Other runs without a split, or with several, are to be picked:
    particles for testing must not be learned.

    Examples
    --------
    >>> complete_splits([("s1", "", True), ("s2", "", True), ("T", "", False)])
    [('s1', 'train'), ('s2', 'validation'), ('T', 'pick')]
    """
    found = {name: split or ("train" if known else "pick") for name, split, known in runs}
    free = [name for name, split, known in runs if known and not split]
    if len(free) > 1 and not {"validation", "test"} & set(found.values()):
        found |= dict.fromkeys(free[-max(1, len(free) // VALIDATION_PART) :], "validation")
    return list(found.items())


def validation_split(splits: list[tuple[str, str]]) -> str:
    """Return the split to validate on: validation if a run has it, else test, else train."""
    found = {split for _, split in splits} | {"train"}
    return next(name for name in ("validation", "test", "train") if name in found)

"""Tables of scores for tests of selection and import."""

import pandas as pd

from cryoetgan.io.star import COORDINATES


def scores(rng, tomograms=("t1", "t2"), picks=40, classes=("a", "b")):
    rows = []
    for tomogram in tomograms:
        for index in range(picks):
            place = rng.uniform(20, 180, 3)
            for name in classes:
                row = dict(zip(COORDINATES, place, strict=True))
                row |= {"rlnTomoName": tomogram, "cryoetganId": f"{tomogram}-{index}"}
                rows.append(row | {"cryoetganClass": name, "cryoetganScore": rng.random()})
    return pd.DataFrame(rows)

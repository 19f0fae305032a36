"""The first line of the page: whether to trust the synthetic data."""

from dataclasses import dataclass
from typing import Any

CLOSE = 0.05
"""Accuracies closer than this are equal: seeds alone differ by as much."""


@dataclass(frozen=True)
class Verdict:
    """What is concluded, in one sentence, and how sure it is."""

    sentence: str
    tone: str
    caveats: list[str]


def conclude(found: dict[str, dict[str, Any]], marked: str, simulated: bool) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    found : dict
        gan_train, physics_train, ceiling, gan_test: each with accuracy and interval.
    marked : str
        What the test crops' labels are: `truth`, `marked` or `template`.
    simulated : bool
        Whether the "real" tomograms are simulated themselves.
    """
    made, physics, ceiling = (found.get(n) for n in ("gan_train", "physics_train", "ceiling"))
    caveats = []
    if marked == "template":
        caveats.append(
            "The test crops' classes are those of their best template, not a person's: a "
            "classifier is compared with template matching. Mark some crops for a stronger test."
        )
    if simulated:
        caveats.append(
            "The tomograms of this run are simulated: this tells that the workflow works, "
            "nothing about your microscope."
        )
    if not made:
        return Verdict("No verdict: nothing was trained on synthetic data yet.", "unknown", caveats)
    n = made.get("n_test", 0)
    sentence = (
        f"Trained on synthetic data alone, a classifier is right on {_share(made)} of {n} "
        "held-out real crops"
    )
    if physics:
        sentence += f"; trained on the typed-in physics, on {_share(physics)}"
    if ceiling:
        sentence += f"; trained on labelled real crops, on {_share(ceiling)}"
    sentence += "."
    tone = "good"
    chance = 1 / max(len(made.get("classes", [])), 1)
    if made["interval"][0] <= chance:
        tone = "bad"
        sentence += " That is no better than guessing: do not use this synthetic set."
    elif physics and made["accuracy"] < physics["accuracy"] - CLOSE:
        tone = "bad"
        sentence += " Physics alone does better: use imaging/simulated.star, not the translation."
    elif physics and made["accuracy"] < physics["accuracy"] + CLOSE:
        tone = "fair"
        sentence += " The translation adds nothing that can be told apart from physics alone."
    elif ceiling and made["accuracy"] < ceiling["accuracy"] - 2 * CLOSE:
        tone = "fair"
        sentence += " Better than physics, but short of labelled real crops."
    else:
        sentence += " As good as labelled real crops, and better than physics."
    test = found.get("gan_test")
    if test and test["accuracy"] > made["accuracy"] + 0.2:
        caveats.append(
            f"A classifier of real crops recognises {_share(test)} of the generated volumes, far "
            "above what training on them gives: their classes may carry a mark that real ones lack."
        )
    return Verdict(sentence, tone, caveats)


def _share(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    return f"{100 * result['accuracy']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"

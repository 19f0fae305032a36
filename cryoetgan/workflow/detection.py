"""The plan of detection: a detector taught by the synthetic tomograms, run on the user's."""

from typing import TYPE_CHECKING

from cryoetgan.workflow.shell_options import format_options

if TYPE_CHECKING:
    from cryoetgan.workflow.plan import Plan


class DetectionPlan:
    """Files and options of the detector.

    Attributes
    ----------
    tomograms : list of str
        Tomograms that the detector runs on; empty without a detector.
    model : str
        The trained detector.
    """

    def __init__(self, plan: "Plan") -> None:
        self.plan = plan
        self.model = plan.results("detection/model.pt")
        trained = plan.translation.synthetic and plan.config.detection.steps != 0
        self.tomograms = [row.tomogram for row in plan.tomogram_rows] if trained else []

    def picks(self) -> list[str]:
        """Return the picks of all tomograms."""
        return [self.plan.results(f"detection/{name}.star") for name in self.tomograms]

    def hands(self) -> list[str]:
        """Return the hand tests of the picks."""
        return [self.plan.results(f"detection/{name}_hand.json") for name in self.tomograms]

    def training_options(self) -> str:
        """Return the classes to learn, the alternative tomograms, and the choice between them."""
        return format_options(
            class_=list(self.plan.classes),
            fitted=self.plan.translation.fitted_alternatives(),
            choice=self.plan.tomogram_choice,
            steps=self.plan.config.detection.steps,
        )

    def products(self) -> list[str]:
        """Return the files for a person: the gallery, and the picks for RELION."""
        if not self.tomograms:
            return []
        files = ["detection/gallery.html"]
        if "relion" in self.plan.config.export.formats:
            files.append("export/detected/particles.star")
        return [self.plan.results(name) for name in files]

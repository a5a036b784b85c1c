"""The label maps of scans in a folder, and confidence.csv, which grows with each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crossmod.data.form import write_outline
from crossmod.errors import DataError, counted
from crossmod.files.outputs import Outputs
from crossmod.intake import NotAScan, ScanFile
from crossmod.intake.dicom import write_seg
from crossmod.model.confidence import Confidence, by_need, read_confidence, write_confidence
from crossmod.model.load import Model
from crossmod.model.predict import Found, Outlined, outlined
from crossmod.model.queue import Failed

CONFIDENCE = "confidence.csv"

Layout = Literal["nifti", "dicom-seg"]

ENDINGS: dict[Layout, str] = {"nifti": ".nii.gz", "dicom-seg": ".dcm"}


@dataclass
class Predicted:
    """What came of a prediction.

    Attributes:
        scans: how many there were.
        confidence: how sure the model is of each structure of those that it outlined.
        failed: those without a label map.
    """

    scans: int
    confidence: list[Confidence] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def require(self) -> None:
        """Raise unless every scan was outlined.

        Raises:
            CrossmodError: names the others; a DataError where any of the scans is to blame.
        """
        if not self.failed:
            return
        errors = [one.error for one in self.failed]
        kind = DataError if any(isinstance(e, DataError) for e in errors) else type(errors[0])
        count = f"{counted(len(errors), 'scan')} could not be outlined:"
        raise kind("\n".join([count, *(f"{one.scan.case}: {one.error}" for one in self.failed)]))


@dataclass(frozen=True)
class Naming:
    """What label maps are called.

    Attributes:
        pattern: a name with one ``{case}`` in it, with or without its ending.
        layout: the format, which gives the ending.
    """

    pattern: str
    layout: Layout

    def __call__(self, scan: ScanFile) -> str:
        """The name of the file for a scan."""
        ending = ENDINGS[self.layout]
        name = f"{self.pattern.removesuffix(ending)}{ending}"
        return name.replace("{case}", scan.case)


@dataclass
class LabelMaps:
    """Writes the label map of every scan, and the table as it grows.

    Attributes:
        outputs: the folder.
        naming: what label maps are called.
        model: the model.
        done: what has come of the scans so far.
        tell: takes a line about what is odd.
        hear: takes each result once it is written, or has failed.
    """

    outputs: Outputs
    naming: Naming
    model: Model
    done: Predicted
    tell: Callable[[str], None]
    hear: Callable[[Outlined | Failed], None] = lambda result: None

    def keep(self, found: Found | Failed) -> None:
        """Outline a scan on its own grid and write its label map, or note why there is none."""
        result = outlined(self.model, found) if isinstance(found, Found) else found
        if isinstance(result, Outlined):
            try:
                self._write(result)
            except DataError as error:  # of the source that a segmentation refers to
                result = Failed(result.scan, error)
        if isinstance(result, Failed) and not self._was_meant(result):
            self.done.scans -= 1
            self.tell(f"note: {result.error}; skipped")
            return
        if isinstance(result, Failed):
            self.done.failed.append(result)
        self.hear(result)

    def _was_meant(self, failed: Failed) -> bool:
        """Whether it is not just a label map that lay beside scans."""
        return not (isinstance(failed.error, NotAScan) and failed.scan.found)

    def take_up(self) -> None:
        """Continue the table that lies in the folder from before, if any."""
        if self.outputs.owns(CONFIDENCE):
            self.done.confidence = read_confidence(self.outputs.folder / CONFIDENCE)

    def _write(self, result: Outlined) -> None:
        scan, facts = result.scan, self.model.facts
        with self.outputs.file(self.naming(scan)) as draft:
            if self.naming.layout == "dicom-seg":
                values = {name: values[0] for name, values in facts.classes.items()}
                write_seg(
                    draft,
                    result.labels,
                    result.grid.affine,
                    values,
                    folder=scan.path,
                    series=scan.series,
                    title=facts.title,
                )
            else:
                write_outline(draft, result.labels, result.grid.affine, result.form)
        for remark in result.remarks:
            self.tell(f"note: {scan.path}: {remark}")
        others = [row for row in self.done.confidence if row.case != scan.case]
        self.done.confidence = by_need([*others, *result.confidence])
        with self.outputs.file(CONFIDENCE) as draft:
            write_confidence(draft, self.done.confidence)

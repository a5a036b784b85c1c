"""The files of a case, and command lines that open them in viewers installed on many machines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path


@dataclass(frozen=True)
class ViewFiles:
    """The files of a case on one grid.

    Attributes:
        images: the scan first.
        maps: label maps, that of the last stage at the end; several are of one run, and have
            names that differ in the folder of their step only.
    """

    images: Sequence[Path]
    maps: Sequence[Path]

    def seen_from(self, folder: Path) -> ViewFiles:
        """The same, named from a folder where they lie below it."""

        def seen(paths: Sequence[Path]) -> list[Path]:
            return [p.relative_to(folder) if p.is_relative_to(folder) else p for p in paths]

        return ViewFiles(seen(self.images), seen(self.maps))

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each program with its command line."""
        images = [str(path) for path in self.images]
        maps = [str(path) for path in self.maps]
        snap = ["itksnap", "-g", images[0], *(["-o", *images[1:]] if images[1:] else [])]
        snap += ["-s", *reversed(maps)] if maps else []
        older = " (before 4.2, it opens the outlines of the last stage only)"
        yield f"ITK-SNAP{older if len(maps) > 1 else ''}", shlex.join(snap)
        given, drawn = json.dumps(images), json.dumps(self._pattern())
        slicer = (
            "from glob import glob; from os.path import abspath;"  # it has a folder of its own
            f" [slicer.util.loadVolume(abspath(f)) for f in {given}];"
            f" [slicer.util.loadSegmentation(f) for f in sorted(glob(abspath({drawn})))]"
        )
        yield "3D Slicer", shlex.join(["Slicer", "--python-code", slicer])
        napari = (
            "from glob import glob; import napari, nibabel; v = napari.Viewer();"
            f" [v.add_image(n.get_fdata(), affine=n.affine) for n in map(nibabel.load, {given})];"
            " [v.add_labels(n.get_fdata().astype(int), affine=n.affine)"
            f" for n in map(nibabel.load, sorted(glob({drawn})))]; napari.run()"
        )
        yield "napari", shlex.join(["python", "-c", napari])

    def _pattern(self) -> str:
        """What all label maps match: a list of them would be long."""
        if len(self.maps) < 2:
            return "".join(escape(str(path)) for path in self.maps)
        [(run, *below)] = {(p.parents[2], p.parent.name, p.name) for p in self.maps}
        return str(Path(escape(str(run)), "*", *map(escape, below)))

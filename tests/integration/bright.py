"""The plugin "bright" as pip would install it, and a model folder of it, made by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from crossmod.data.grids import Preprocess
from crossmod.model.facts import MODEL_FILE, Identity, ModelFacts, Origin, Split, write_facts


def site(folder: Path, version: str = "0.3", more: str = "") -> Path:
    """A folder of packages with the plugin."""
    folder.mkdir()
    source = Path(__file__).with_name("crossmod_bright.py").read_text(encoding="utf-8")
    (folder / "crossmod_bright.py").write_text(source + more, encoding="utf-8")
    metadata = folder / f"crossmod_bright-{version}.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: crossmod-bright\nVersion: {version}\n"
    (metadata / "METADATA").write_text(head, encoding="utf-8")
    points = "[crossmod.plugins]\nbright = crossmod_bright\n"
    (metadata / "entry_points.txt").write_text(points, encoding="utf-8")
    return folder


def model(folder: Path) -> Path:
    """A model that nothing had to be trained for."""
    folder.mkdir()
    weights = save({"level": np.array([0.65]), "note": np.zeros(1, np.uint8)})
    (folder / "fold-1.safetensors").write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    facts = ModelFacts(
        classes={"tumor": (1,), "cochlea": (2,)},
        preprocess=Preprocess(spacing_mm=(2.0, 2.0, 2.0)),
        segmenter=Identity(
            name="bright", distribution="crossmod-bright", version="0.3", code="of the author"
        ),
        options={},
        average="probabilities",
        largest_component=("tumor",),
        title="Bright",
        seed=0,
        stage="naive",
        origin=Origin(
            embedded=True, data={"source": Split(centers={}, digest="")}, crossmod="0", libraries={}
        ),
        trained_on={},
        scores=(),
        weights={"fold-1.safetensors": {"sha256": digest, "notes": {}}},
    )
    write_facts(folder / MODEL_FILE, facts)
    return folder

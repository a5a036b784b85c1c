"""The model card: what people should know before they use a model."""

from __future__ import annotations

from pathlib import Path

import jinja2

from crossmod.model.facts import ModelFacts
from crossmod.scores.table import penalties, reported

CARD_FILE = "README.md"


def card(model: ModelFacts) -> str:
    """The model card as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = lambda value: "n/a" if value is None else f"{value:.3f}"
    splits = {
        name: ", ".join(f"{count} from {center}" for center, count in split.centers.items())
        for name, split in model.origin.data.items()
    }
    template = environment.get_template("card.md.j2")
    metrics = reported()
    return template.render(
        model=model, splits=splits, metrics=metrics, penalties=penalties(metrics)
    )

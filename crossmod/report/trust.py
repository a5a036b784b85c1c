"""Which pseudo-labels were kept, round by round, and pictures of those that were not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crossmod.data.slices import Upright, window
from crossmod.report.content import Dropped, ReportContent, spread
from crossmod.report.drawing import Key
from crossmod.report.galleries import Gallery, Strip
from crossmod.report.slices import CLOSE_UP_MM, Outline, Tile, box_around, picture

MAX_DROPPED = 12
"""Pictures of dropped cases."""

MAX_ROWS = 200
"""Rows of the table; ledger.csv holds all."""

COLOR = "#45c4ff"

FIGURE = re.compile(r"(?<![\w.])\d+(\.\d+)?%?(?!\w)")
"""In a reason why a case was dropped: reasons of one kind differ in nothing else."""


@dataclass(frozen=True)
class LedgerPart:
    """What the page shows of the ledger.

    Attributes:
        counts: (round, kept, dropped, why they were dropped) for each round.
        heads: columns of the table.
        rows: its cells, as text; kept ones among them.
        more: rows that only ledger.csv has.
        gallery: pictures of dropped cases.
    """

    counts: Sequence[tuple[str, int, int, str]]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: int
    gallery: Gallery


def ledger_part(content: ReportContent) -> LedgerPart | None:
    """The part of a run that has a ledger; None for others."""
    if not content.ledger:
        return None
    rounds = dict.fromkeys(row["round"] for row in content.ledger)
    counts = [_counted(f"{number:g}", _of(content, number)) for number in map(float, rounds)]
    dropped_first = sorted(content.ledger, key=lambda row: row["kept"] == "yes")[:MAX_ROWS]
    names = dict.fromkeys(name for row in dropped_first for name in row)
    heads = [name for name in names if _is_shown(name, content.structure)]
    rows = [[_text(row.get(name, "")) for name in heads] for row in dropped_first]
    more = len(content.ledger) - len(rows)
    words = [head.replace("_", " ") for head in heads]
    return LedgerPart(counts, words, rows, more, _gallery(content))


def _of(content: ReportContent, number: float) -> list[Mapping[str, str | float]]:
    return [row for row in content.ledger if row["round"] == number]


def _counted(number: str, rows: Sequence[Mapping[str, str | float]]) -> tuple[str, int, int, str]:
    lost = [str(row.get("why", "")) for row in rows if row["kept"] != "yes"]
    kinds = Counter(FIGURE.sub("…", why).removesuffix(" …") for why in lost)
    told = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    return number, len(rows) - len(lost), len(lost), told


def _is_shown(name: str, structure: str) -> bool:
    """Whether a column is about a case or the structure that the report follows."""
    kinds = ("agreement_", "volume_mm3_", "volume_ratio_")
    return not name.startswith(kinds) or name.endswith(f"_{structure}")


def _text(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:.4g}"


def _gallery(content: ReportContent) -> Gallery:
    caption = (
        f"Close-ups of {CLOSE_UP_MM:g} mm of target scans that were not learned from in a round:"
        f" the scan, and the {content.structure} that was predicted there."
    )
    strips = [_strip(content, one) for one in spread(content.dropped, MAX_DROPPED)]
    return Gallery(strips, caption, [Key("predicted, dropped", COLOR, "line")])


def _strip(content: ReportContent, one: Dropped) -> Strip:
    volume = one.case.volume()
    scan = Upright.of(volume.data[0], volume.affine)
    lesion = Upright.of(one.labels() == content.label, volume.affine)
    level = lesion.fullest_level()
    box = box_around(lesion.plane(level), scan.pixel_mm, CLOSE_UP_MM)
    plane = scan.plane(level)[box]
    lines = [Outline(lesion.plane(level)[box], COLOR)]
    tiles = [
        Tile(picture(plane, scan.pixel_mm, window(plane), outlines), "") for outlines in ([], lines)
    ]
    note = f"{one.case.center}, round {one.round}: {one.why}"
    return Strip(one.case.case, tiles, note)

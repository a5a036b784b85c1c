"""Histogram matching keeps the contract, and gives images the gray levels of the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from crossmod_histogram import HistogramMatching, HistogramOptions

from crossmod import Context
from crossmod.testing import check_stage, small_cohort


def test_the_plugin_keeps_the_contract(tmp_path: Path) -> None:
    check_stage(HistogramMatching(), tmp_path)


def test_translations_have_the_quantiles_of_the_target(tmp_path: Path) -> None:
    source = small_cohort(tmp_path / "source", labeled=True, cases=1)
    target = small_cohort(tmp_path / "target", labeled=False, cases=1, seed=1)
    stage, ctx = HistogramMatching(HistogramOptions(levels=101)), Context(tmp_path)
    [given], [wanted] = source.volumes(), target.volumes()
    [found] = stage.translate([given], stage.fit(source, target, ctx), ctx)
    steps = np.linspace(0, 1, 21)
    # Between two of 101 quantiles the map is linear: it is off by less than one of their steps.
    step = np.diff(np.quantile(wanted.data, np.linspace(0, 1, 101))).max()
    off = np.quantile(found.data, steps) - np.quantile(wanted.data, steps)
    assert np.abs(off).max() <= step
    order = np.argsort(given.data, axis=None)
    assert (np.diff(found.data.ravel()[order]) >= 0).all()

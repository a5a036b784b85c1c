"""Every built-in plugin passes the contract that third parties are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crossmod.stages import find
from crossmod.testing import check_stage

GROUP = {"name": "all", "factors": [0.7, 1.2]}
FAST: dict[str, dict[str, Any]] = {
    "cyclegan": {
        "iterations": 2,
        "base_channels": 4,
        "blocks": 1,
        "discriminator_channels": 4,
        "discriminator_layers": 1,
    },
    "van-cittert": {"iterations": 2},
    "naive-rescale": {"groups": [GROUP]},
    "repaint": {"structures": [{"structure": "tumor", "means": [0.2, 0.6]}]},
    "singan-gba": {
        "groups": [GROUP],
        "iterations": 2,
        "min_size": 21,
        "scale_factor": 0.8,
        "start_scales": [1],
        "width": 4,
    },
    "unet3d": {"iterations": 2, "base_channels": 4, "mirror_predictions": False},
    "self-training": {},
}
TRUST: dict[str, Any] = {
    "min_agreement": 0.5,
    "volume_window": (0.2, 1.8),
    "max_entropy": 0.3,
    "mask_below": 1.0,
    "lowest_weight": 0.5,
    "shares": (0.7,),
}


@pytest.mark.parametrize("name", FAST)
def test_the_plugin_keeps_the_contract(name: str, tmp_path: Path) -> None:
    stage = find.load(name).stage
    check_stage(stage(stage.options_type.model_validate(FAST[name])), tmp_path)


def test_self_training_that_judges_keeps_the_contract(tmp_path: Path) -> None:
    stage = find.load("self-training").stage
    check_stage(stage(stage.options_type.model_validate(TRUST)), tmp_path)

"""Classes by name: the values they have in label files, and the labels that stages see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crossmod.data.volumes import LabelArray


@dataclass(frozen=True)
class Classes:
    """What a recipe calls its structures.

    Label files of a data set may hold any values, more structures than a recipe wants, or one
    structure in parts. Stages always see labels 1, 2, 3, … in the order of the recipe.

    Attributes:
        values: class name -> its values in label files; predictions are written with the first.

    Example:
        >>> classes = Classes({"tumor": (1, 2), "cochlea": (3,)})
        >>> classes.labels
        {'tumor': 1, 'cochlea': 2}
        >>> classes.to_labels(np.array([0, 1, 2, 3, 9])).tolist()
        [0, 1, 1, 2, 0]
        >>> classes.to_values(np.array([0, 1, 2])).tolist()
        [0, 1, 3]
    """

    values: Mapping[str, tuple[int, ...]]

    @cached_property
    def labels(self) -> dict[str, int]:
        """Class name -> label that stages see."""
        return {name: label for label, name in enumerate(self.values, start=1)}

    def to_labels(self, file: LabelArray) -> LabelArray:
        """Labels from the values of a file, ``(I, J, K)``; values of no class are background."""
        table = np.zeros(256, np.uint8)
        for name, values in self.values.items():
            table[list(values)] = self.labels[name]
        labels: LabelArray = table[file]
        return labels

    def to_values(self, labels: LabelArray) -> LabelArray:
        """File values from labels, ``(I, J, K)``."""
        table = np.array([0, *(values[0] for values in self.values.values())], np.uint8)
        file: LabelArray = table[labels]
        return file

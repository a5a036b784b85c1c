"""Cohorts of drawn heads with a tumor and a cochlea, in several modalities."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from crossmod import Volume
from crossmod.data.cohorts import CohortWriter

SHAPE = (36, 32, 20)
AFFINE = np.diag([1.5, 1.5, 1.5, 1.0])
CLASSES = {"tumor": 1, "cochlea": 2}


def scene(number):
    """A head of smooth tissue with a tumor that wanders and a cochlea that hardly does."""
    rng = np.random.default_rng(number)
    places = np.indices(SHAPE).transpose(1, 2, 3, 0)
    head = ndimage.gaussian_filter(np.random.default_rng(99).standard_normal(SHAPE), 3)
    head = 0.4 + head + 0.02 * rng.standard_normal(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    tumor = np.array([12, 16, 10]) + rng.integers(-4, 5, 3)
    cochlea = np.array([26, 16, 10]) + rng.integers(-1, 2, 3)
    labels[np.linalg.norm(places - tumor, axis=-1) <= rng.uniform(2.5, 4)] = 1
    labels[np.linalg.norm(places - cochlea, axis=-1) <= 2] = 2
    return head, labels


def cohort(folder, change, names=("",), count=8, first=0, depth=None, center="ldn"):
    writer = CohortWriter(folder, CLASSES)
    for number in range(first, first + count):
        head, labels = scene(number)
        for suffix in names:
            image = np.clip(change(head, labels), 0, 1).astype(np.float32)[None, :, :, :depth]
            name = f"ldn_{number}"
            volume = Volume.of(image, AFFINE, case=name + suffix, center=center)
            writer.add(volume, patient=name, labels=labels[:, :, :depth])
    return writer.close()


def shown(head, labels):
    return np.where(labels == 1, 0.9, np.where(labels == 2, 0.1, head))


def dark(head, labels):
    return np.where(labels == 1, 0.05, np.where(labels == 2, 0.95, 1 - head))


def tumor_erased(head, labels):
    return np.where(labels == 2, 0.95, 1 - head)


def moved(head, labels):
    return np.roll(dark(head, labels), 2, axis=1)

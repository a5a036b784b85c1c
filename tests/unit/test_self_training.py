"""Cleaning, dropping and stopping of self-training."""

import numpy as np
import pytest
from crossmod_self_training import SelfTraining, SelfTrainingOptions
from crossmod_self_training.clean import agreement

from crossmod import Context, History, Prediction, RecipeError, Volume, keep_largest
from crossmod.data.cohorts import CohortWriter

SHAPE = (12, 10, 8)
CLASSES = {"tumor": 1, "cochlea": 2}


def prediction(labels, certainty=0.9, case="a"):
    """A prediction of these labels with the same certainty everywhere."""
    probabilities = np.full((3, *SHAPE), (1 - certainty) / 2, np.float32)
    np.put_along_axis(probabilities, labels[None].astype(int), certainty, axis=0)
    image = Volume.of(np.zeros((1, *SHAPE), np.float32), np.eye(4), case=case)
    return Prediction(image, probabilities)


def two_lumps():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 1:5, 1:5] = 1
    labels[8:10, 6:8, 5:7] = 1
    labels[0, 9, 0] = labels[11, 9, 7] = 2
    return labels


def select(predictions, folder, **options):
    stage = SelfTraining(SelfTrainingOptions(**options))
    return list(stage.select(predictions, History(), Context(folder, classes=CLASSES)))


def cohort(folder, **labels):
    folder.mkdir()
    writer = CohortWriter(folder, CLASSES)
    for case, values in labels.items():
        image = Volume.of(np.zeros((1, *SHAPE), np.float32), np.eye(4), case=case)
        writer.add(image, labels=values)
    return writer.close()


def test_only_the_largest_component_of_the_tumor_is_kept(tmp_path):
    (pair,) = select([prediction(two_lumps())], tmp_path)
    assert pair.labels[2, 2, 2] == 1
    assert pair.labels[8, 6, 5] == 0
    assert (pair.labels == 2).sum() == 2
    assert pair.labels.dtype == np.uint8
    assert pair.patient == pair.case == "a"


def test_touching_corners_and_edges_connect():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[1, 2, 2] = 1  # over a corner, over an edge
    labels[5, 5, 4:] = 1
    kept = keep_largest(labels, 1)
    assert kept.sum() == 3
    assert kept[5].sum() == 0


def test_components_may_be_left_alone(tmp_path):
    (pair,) = select([prediction(two_lumps())], tmp_path, largest_component=())
    np.testing.assert_array_equal(pair.labels, two_lumps())


def test_empty_predictions_are_dropped_unless_wanted(tmp_path):
    empty = prediction(np.zeros(SHAPE, np.uint8))
    assert select([empty], tmp_path) == []
    assert len(select([empty], tmp_path, keep_empty=True)) == 1


def test_uncertain_predictions_are_dropped_on_request(tmp_path):
    both = [prediction(two_lumps(), 0.9, "sure"), prediction(two_lumps(), 0.6, "unsure")]
    assert [pair.case for pair in select(both, tmp_path)] == ["sure", "unsure"]
    assert [pair.case for pair in select(both, tmp_path, min_confidence=0.8)] == ["sure"]


def test_unknown_class_is_named(tmp_path):
    with pytest.raises(RecipeError, match="tumour"):
        select([prediction(two_lumps())], tmp_path, structure="tumour")


def test_agreeing_rounds_stop_early(tmp_path):
    full, half = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    full[:4, :4, :4] = 1
    half[:2, :4, :4] = 1
    one = cohort(tmp_path / "1", a=full, b=full)
    two = cohort(tmp_path / "2", a=full, b=half)
    assert agreement(one, two, 1) == pytest.approx((1 + 2 / 3) / 2)
    assert SelfTraining(SelfTrainingOptions(tolerance=0.2)).done(History((one, two)))
    assert not SelfTraining(SelfTrainingOptions(tolerance=0.1)).done(History((one, two)))
    assert not SelfTraining(SelfTrainingOptions()).done(History((one, one)))


def test_a_case_of_one_round_only_is_disagreement(tmp_path):
    one = cohort(tmp_path / "1", a=two_lumps(), b=two_lumps())
    two = cohort(tmp_path / "2", a=two_lumps())
    assert agreement(one, two, 1) == 0.5


def test_rounds_that_find_nothing_agree(tmp_path):
    nothing = np.zeros(SHAPE, np.uint8)
    one = cohort(tmp_path / "1", a=nothing, b=two_lumps())
    two = cohort(tmp_path / "2", a=nothing, b=two_lumps())
    assert agreement(one, two, 1) == 1

"""The metric: worked examples, a slow restatement, and the official evaluation of cityscapesscripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, trainId2label
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import make_tiny_dataset, tiny_frames

from stdc.data.labels import LABEL_ID_TO_TRAIN_ID, TRAIN_ID_TO_LABEL_ID, TRAIN_NAMES
from stdc.evaluation import metrics


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_confusion_of_a_worked_example() -> None:
    truth = ids(0, 0, 1, 2, 2, 255, 255)
    prediction = ids(0, 1, 1, 0, 2, 2, 0)
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    confusion = metrics.confusion_matrix(truth, prediction, 3)
    assert confusion.tolist() == expected and confusion.dtype == np.int64
    # Class 0: 1 hit, 1 missed, 1 wrong; class 1: 1 hit, 1 wrong; class 2: 1 hit, 1 missed.
    assert metrics.class_iou(confusion) == [1 / 3, 1 / 2, 1 / 2]
    assert metrics.mean_iou(confusion) == pytest.approx(4 / 9, rel=1e-15)
    assert metrics.pixel_accuracy(confusion) == 3 / 5


def test_class_that_occurs_nowhere_is_left_out_of_the_mean() -> None:
    confusion = metrics.confusion_matrix(ids(0, 0, 3), ids(0, 3, 3), 5)
    assert metrics.class_iou(confusion) == [1 / 2, None, None, 1 / 2, None]
    assert metrics.mean_iou(confusion) == 1 / 2


def test_class_that_is_only_predicted_scores_zero_and_counts() -> None:
    confusion = metrics.confusion_matrix(ids(0, 0), ids(0, 1), 3)
    assert metrics.class_iou(confusion) == [1 / 2, 0.0, None]
    assert metrics.mean_iou(confusion) == 1 / 4


def test_ignored_pixels_alone_give_no_score() -> None:
    confusion = metrics.confusion_matrix(ids(255, 255), ids(0, 18))
    assert confusion.sum() == 0
    assert metrics.mean_iou(confusion) is None and metrics.pixel_accuracy(confusion) is None
    assert set(metrics.category_iou(confusion).values()) == {None}


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (ids(19), ids(0), "truth holds a value"),
        (ids(254), ids(0), "truth holds a value"),
        (ids(0), ids(19), "prediction holds a value"),
        (ids(0), ids(255), "prediction holds a value"),
        (ids(0, 1), ids(0), "one shape"),
        (ids(0).astype(np.int64), ids(0), "uint8"),
    ],
)
def test_values_that_are_no_class_are_refused(truth: np.ndarray, prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(truth, prediction)


@given(st.lists(st.tuples(st.sampled_from([*range(19), 255]), st.integers(0, 18)), min_size=1, max_size=60))
def test_confusion_equals_counting_pixel_by_pixel(pairs: List[Any]) -> None:
    truth, prediction = (np.array(side, np.uint8).reshape(1, -1) for side in zip(*pairs))
    expected = np.zeros((19, 19), np.int64)
    for true, predicted in pairs:
        if true != 255:
            expected[true, predicted] += 1
    assert np.array_equal(metrics.confusion_matrix(truth, prediction), expected)


def test_mistake_within_a_category_is_no_mistake_of_the_category() -> None:
    train_id = {name: number for number, name in enumerate(TRAIN_NAMES)}
    truth = ids(train_id["car"], train_id["car"], train_id["road"])
    prediction = ids(train_id["bus"], train_id["road"], train_id["sidewalk"])
    scores = metrics.category_iou(metrics.confusion_matrix(truth, prediction))
    assert scores["vehicle"] == 1 / 2 and scores["flat"] == 1 / 2
    assert scores["human"] is None and len(scores) == 7


def test_object_counts_of_a_worked_example() -> None:
    person, rider, car = (TRAIN_NAMES.index(name) for name in ("person", "rider", "car"))
    # Two persons of 2 and 3 pixels, a car of 1, a crowd of persons (24), a road (7) and a caravan (29, not trained).
    instances = np.array([24001, 24001, 24002, 24002, 24002, 26005, 24, 7, 29001], np.uint16)
    prediction = ids(person, car, rider, rider, person, car, person, 0, car)
    counts = metrics.instance_counts(instances, prediction)
    assert counts.tolist() == [[person, 2, 1, 1], [person, 3, 1, 3], [car, 1, 1, 1]]
    assert metrics.instance_counts(np.zeros(9, np.uint16), prediction).shape == (0, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.instance_counts(instances[:3], prediction)


# The official evaluation.


@pytest.fixture(scope="module")
def official() -> Any:
    # Removed from NumPy 2.4; the official script uses nothing else that is.
    if not hasattr(np, "in1d"):
        np.in1d = np.isin
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling

    return evalPixelLevelSemanticLabeling


def run_official(official: Any, root: Path, results: Path) -> Dict[str, Any]:
    truths = sorted(root.glob("gtFine/val/*/*_labelIds.png"))
    arguments = official.args
    arguments.quiet, arguments.JSONOutput = True, False
    arguments.predictionPath, arguments.predictionWalk = str(results), None
    predictions = [official.getPrediction(arguments, str(truth)) for truth in truths]
    return dict(official.evaluateImgLists(predictions, [str(truth) for truth in truths], arguments))


def random_prediction(truth: np.ndarray, generator: np.random.RandomState, classes: int) -> np.ndarray:
    """Right for most of the pixels that count, and one of the first `classes` train ids for the rest."""
    guesses = generator.randint(0, classes, truth.shape)
    return np.where((generator.random_sample(truth.shape) < 0.7) & (truth != 255), truth, guesses).astype(np.uint8)


def close(ours: Optional[float], theirs: float) -> bool:
    if ours is None:
        return bool(np.isnan(theirs))
    # Integers are equal; what is left is the rounding of float sums in another order.
    return abs(ours - theirs) <= 1e-12


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("frames", "classes"), [(1, 12), (4, 19)])
def test_every_figure_equals_the_official_evaluation(official: Any, tmp_path: Path, frames: int, classes: int) -> None:
    root = make_tiny_dataset(
        tmp_path / "cityscapes", {"val": ("frankfurt", "lindau")}, frames, 40, 80, color=False, polygons=False
    )
    generator = np.random.RandomState(frames)
    results = tmp_path / "results"
    results.mkdir()
    confusion = np.zeros((19, 19), np.int64)
    counts = []
    for frame in tiny_frames(root, "val"):
        stem = root / "gtFine" / "val" / frame.split("_")[0] / f"{frame}_gtFine"
        truth = LABEL_ID_TO_TRAIN_ID[np.asarray(Image.open(f"{stem}_labelIds.png"))]
        prediction = random_prediction(truth, generator, classes)
        Image.fromarray(TRAIN_ID_TO_LABEL_ID[prediction]).save(results / f"{frame}_pred_labelIds.png")
        confusion += metrics.confusion_matrix(truth, prediction)
        counts.append(metrics.instance_counts(np.asarray(Image.open(f"{stem}_instanceIds.png")), prediction))

    theirs = run_official(official, root, results)
    figures = metrics.figures(confusion)
    instance = metrics.instance_iou(confusion, np.concatenate(counts))

    trained = [trainId2label[number].id for number in range(19)]
    matrix = np.array(theirs["confMatrix"], np.int64)
    assert np.array_equal(confusion, matrix[np.ix_(trained, trained)])
    assert len(figures["class_iou"]) == 19 and len(figures["category_iou"]) == 7
    for name, score in figures["class_iou"].items():
        assert close(score, theirs["classScores"][name]), name
    for name, score in figures["category_iou"].items():
        assert close(score, theirs["categoryScores"][name]), name
    assert set(instance["class_iiou"]) == {label.name for label in id2label.values() if named_instances(label)}
    for name, score in instance["class_iiou"].items():
        assert close(score, theirs["classInstScores"][name]), name
    assert set(instance["category_iiou"]) == {"human", "vehicle"}
    for name, score in instance["category_iiou"].items():
        assert close(score, theirs["categoryInstScores"][name]), name
    assert close(figures["miou"], theirs["averageScoreClasses"])
    assert close(instance["miiou"], theirs["averageScoreInstClasses"])
    assert close(metrics.mean_score(list(figures["category_iou"].values())), theirs["averageScoreCategories"])
    assert close(metrics.mean_score(list(instance["category_iiou"].values())), theirs["averageScoreInstCategories"])
    # Two frames leave classes out: the test would be worth less without.
    assert (None in figures["class_iou"].values()) == (frames == 1)
    assert len(np.concatenate(counts)) >= 2


def named_instances(label: Any) -> bool:
    return bool(label.hasInstances and not label.ignoreInEval)


def test_weights_of_objects_are_the_official_ones(official: Any) -> None:
    sizes = official.args.avgClassSize
    assert dict(metrics.AVERAGE_INSTANCE_PIXELS) == {name: sizes[name] for name in metrics.INSTANCE_TRAIN_NAMES}

from __future__ import annotations

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, name2label, trainId2label

from stdc.data import labels


def test_trained_classes_are_the_nineteen_of_the_benchmark_in_order():
    # Typed here from the benchmark's definition, as the second opinion.
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    names = (
        "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,"
        "person,rider,car,truck,bus,train,motorcycle,bicycle"
    )
    assert [label.id for label in labels.TRAIN_LABELS] == ids
    assert ",".join(labels.TRAIN_NAMES) == names
    assert labels.NUM_CLASSES == 19


def test_table_to_train_ids_follows_cityscapesscripts_for_every_byte():
    for value in range(256):
        known = id2label.get(value)
        assert labels.LABEL_ID_TO_TRAIN_ID[value] == (known.trainId if known else 255)


def test_table_back_to_label_ids_inverts_the_trained_ones_and_voids_the_rest():
    for value in range(256):
        expected = trainId2label[value].id if value < 19 else 0
        assert labels.TRAIN_ID_TO_LABEL_ID[value] == expected


def test_license_plate_has_no_id_that_a_raster_may_hold():
    assert -1 not in labels.LABEL_IDS
    assert tuple(range(34)) == labels.LABEL_IDS
    assert tuple(range(24, 34)) == labels.INSTANCE_LABEL_IDS


def test_colors_and_categories_belong_to_the_classes():
    assert labels.TRAIN_COLORS[0].tolist() == [128, 64, 128]
    assert labels.TRAIN_COLORS[18].tolist() == [119, 11, 32]
    assert labels.CATEGORY_NAMES == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    for name, category in zip(labels.TRAIN_NAMES, labels.TRAIN_ID_TO_CATEGORY):
        assert labels.CATEGORY_NAMES[category] == name2label[name].category
    assert labels.TRAIN_NAMES[11:] == labels.INSTANCE_TRAIN_NAMES


@pytest.mark.parametrize(
    ("name", "drawn_as"),
    [
        ("car", "car"),
        ("cargroup", "car"),
        ("polegroup", "polegroup"),
        ("skygroup", "sky"),
        ("license plate", "license plate"),
        ("caR", None),
        ("group", None),
        ("cargroupgroup", None),
        ("", None),
    ],
)
def test_polygon_label_is_found_by_name_or_by_group_ending(name, drawn_as):
    found = labels.find_label(name)
    assert (found.name if found else None) == drawn_as


def test_tables_cannot_be_changed_by_accident():
    for table in (labels.LABEL_ID_TO_TRAIN_ID, labels.TRAIN_ID_TO_LABEL_ID, labels.TRAIN_COLORS):
        assert isinstance(table, np.ndarray)
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1

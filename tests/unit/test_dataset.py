"""Samples by key."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from PIL import Image

from stdc.data.dataset import EvalDataset, TrainDataset, read_image, read_instances, read_label
from stdc.data.entry import Entry
from stdc.data.frame_checks import decode_gray
from stdc.errors import InputError
from stdc.recipe import resolve
from stdc.seeds import sample_generator


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def entries(tmp_path: Path) -> List[Entry]:
    generator = np.random.RandomState(0)
    made = []
    for number in range(3):
        image = generator.randint(0, 256, (48, 96, 3)).astype(np.uint8)
        label = generator.randint(0, 19, (48, 96)).astype(np.uint8)
        label[:5] = 255
        frame = f"aachen_{number:06d}_000019"
        made.append(Entry(frame, write(tmp_path / f"{frame}.png", image), write(tmp_path / f"{frame}_ids.png", label)))
    return made


def crops(entries: List[Any], seed: int = 7, **changes: Any) -> TrainDataset:
    train = {"preset": "paddleseg", "iterations": 1, "global_batch": 1, "crop_height": 32, "crop_width": 64}
    return TrainDataset(entries, resolve({**train, **changes}).augmentation, seed)


def test_sample_depends_on_its_key_alone(entries: List[Entry]) -> None:
    straight = crops(entries)
    first = {key: straight[key] for key in range(9)}
    copy = pickle.loads(pickle.dumps(crops(entries)))
    for key in (8, 0, 4, 4, 7):
        image, label = copy[key]
        assert np.array_equal(image, first[key][0]) and np.array_equal(label, first[key][1])
    assert image.shape == (3, 32, 64) and image.dtype == np.uint8
    assert label.shape == (32, 64) and label.dtype == np.uint8
    assert [copy.frame(key) for key in (0, 4, 8)] == [entries[index].frame for index in (0, 1, 2)]


def test_crops_that_do_not_end_in_8_bits_are_handed_over_normalized(entries: List[Entry]) -> None:
    # The interpolated values of the same crop, cut to 8 bits, are the other crop where no color is changed.
    exact = crops(entries, distort="none")
    whole = crops(entries, distort="authors", brightness=0.0, contrast=0.0, saturation=0.0)
    for key in range(6):
        image, levels = exact[key][0], whole[key][0]
        assert image.dtype == np.float32 and levels.dtype == np.uint8
        assert np.abs((image * 0.5 + 0.5) * 255 - levels - 0.5).max() <= 0.5 + 1e-3, key


def test_epochs_and_seeds_draw_anew(entries: List[Entry]) -> None:
    one, other = crops(entries), crops(entries, seed=8)
    images = [one[0][0], one[3][0], one[6][0], other[0][0]]
    for index, image in enumerate(images):
        for later in images[index + 1 :]:
            assert not np.array_equal(image, later)


def test_generator_of_a_sample_is_the_same_in_every_numpy() -> None:
    # Worked out once with NumPy 2.3; a change would silently change every training run.
    assert sample_generator(0, 0, 0).random_sample() == 0.47932306384132817
    assert sample_generator(1, 2, 3).random_sample() == 0.7191928367494


def test_evaluation_image_is_whole_and_normalized(entries: List[Entry]) -> None:
    dataset = EvalDataset(entries, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    image, label, index = dataset[1]
    pixels = np.asarray(Image.open(entries[1].image)).astype(np.float64)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert len(dataset) == 3 and index == 1
    assert np.abs(image - expected.transpose(2, 0, 1)).max() < 1e-6
    assert label is not None and np.array_equal(label, np.asarray(Image.open(str(entries[1].label))))


def test_image_without_ground_truth_has_no_label(entries: List[Entry]) -> None:
    dataset = EvalDataset([dataclasses.replace(entries[0], label=None)], (0.5,) * 3, (0.5,) * 3)
    assert dataset[0][1] is None and dataset.instance_ids(0) is None


def test_instance_ids_keep_their_16_bits(entries: List[Entry], tmp_path: Path) -> None:
    ids = np.arange(48 * 96, dtype=np.uint16).reshape(48, 96) * 7
    path = write(tmp_path / "instances.png", ids)
    with_ids = [dataclasses.replace(entry, instances=path) for entry in entries]
    assert np.array_equal(EvalDataset(with_ids, (0.5,) * 3, (0.5,) * 3).instance_ids(2), ids)
    some = EvalDataset([entries[0], *with_ids[1:]], (0.5,) * 3, (0.5,) * 3)
    assert some.instance_ids(1) is None, "of a part of the frames iIoU would be another figure"
    with pytest.raises(InputError, match=r"instances.png: 96x48 .* 95x48"):
        read_instances(path, (48, 95))


def test_missing_image_is_named(entries: List[Entry]) -> None:
    entries[0].image.unlink()
    with pytest.raises(InputError, match=r"aachen_000000_000019.png: no such file"):
        crops(entries)[0]


@pytest.mark.parametrize("keep", [0.5, 0.99, 0.0])
def test_truncated_image_is_named(entries: List[Entry], keep: float) -> None:
    data = entries[0].image.read_bytes()
    entries[0].image.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"aachen_000000_000019.png: not a readable image"):
        read_image(entries[0].image)


def test_label_of_another_size_names_both_sizes(entries: List[Entry]) -> None:
    write(Path(str(entries[1].label)), np.zeros((48, 95), np.uint8))
    for dataset in (crops(entries), EvalDataset(entries, (0.5,) * 3, (0.5,) * 3)):
        with pytest.raises(InputError, match=r"aachen_000001_000019_ids.png: 95x48 .* image has 96x48"):
            dataset[1]


@pytest.mark.parametrize("pixels", [np.zeros((48, 96, 3), np.uint8), np.zeros((48, 96), np.uint16)])
def test_label_that_is_no_raster_of_bytes_is_refused(entries: List[Entry], pixels: np.ndarray) -> None:
    write(Path(str(entries[0].label)), pixels)
    with pytest.raises(InputError, match=r"_ids.png: . channels of .* expected one channel of 8 bits"):
        crops(entries)[0]


def test_label_ids_in_place_of_train_ids_are_refused(entries: List[Entry]) -> None:
    write(Path(str(entries[0].label)), np.full((48, 96), 26, np.uint8))
    for dataset in (crops(entries), EvalDataset(entries, (0.5,) * 3, (0.5,) * 3)):
        with pytest.raises(InputError, match=r"_ids.png: holds the value 26; expected train ids 0 to 18 or 255"):
            dataset[0]


def test_orientation_tag_does_not_turn_the_image_away_from_its_label(entries: List[Entry], tmp_path: Path) -> None:
    from PIL import Image

    pixels = read_image(entries[0].image)
    tag = Image.Exif()
    tag[0x0112] = 6  # Orientation: to be turned by 90 degrees.
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=tag)
    assert np.array_equal(read_image(tmp_path / "turned.png"), pixels)
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(ids).save(tmp_path / "turned_ids.png", exif=tag)
    assert np.array_equal(read_label(tmp_path / "turned_ids.png"), ids)
    assert np.array_equal(decode_gray((tmp_path / "turned_ids.png").read_bytes()), ids)


@pytest.mark.parametrize("kind", ["image", "label", "instances"])
def test_file_that_is_not_the_one_that_was_checked_is_refused(entries: List[Entry], tmp_path: Path, kind: str) -> None:
    ids = write(tmp_path / "instances.png", np.zeros((48, 96), np.uint16))
    checked = []
    for entry in entries:
        paths = {"image": entry.image, "label": entry.label, "instances": ids}
        digests = {f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
        checked.append(dataclasses.replace(entry, instances=ids, **digests))

    def read_all() -> None:
        crops(checked)[1]
        dataset = EvalDataset(checked, (0.5,) * 3, (0.5,) * 3)
        dataset[1], dataset.instance_ids(1)

    read_all()
    path = getattr(checked[1], kind)
    # A sound picture of the same size, so nothing but the digest can tell.
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    write(path, pixels)
    with pytest.raises(InputError, match=rf"{path.name}: not the file that was checked: its SHA-256 is "):
        read_all()

"""Arrays find their parameters, all of them, or an error names what is wrong."""

from __future__ import annotations

from typing import Dict

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.errors import InputError  # noqa: E402
from stdc.nn.segmentor import Segmentor, build_segmentor, is_unused_head_key  # noqa: E402
from stdc.nn.state import load_backbone, load_initial, load_segmentor, load_start, state_arrays, with_unused_heads  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Segmentor:
    return build_segmentor("stdc1")


@pytest.fixture
def arrays(model: Segmentor) -> Dict[str, np.ndarray]:
    return {name: np.full_like(value, 0.25) for name, value in state_arrays(model).items()}


def test_every_parameter_takes_its_array(model: Segmentor, arrays: Dict[str, np.ndarray]) -> None:
    assert load_segmentor(model, arrays, "weights") == []
    assert all((value == 0.25).all() for value in state_arrays(model).values())


def test_state_is_a_copy_that_training_does_not_change(model: Segmentor) -> None:
    state = state_arrays(model)
    name = "conv_out.conv_out.bias"
    before = state[name].copy()
    model.conv_out.conv_out.bias.set_value(before + 1.0)
    np.testing.assert_array_equal(state[name], before)


def test_heads_that_never_run_are_left_out_by_name(model: Segmentor, arrays: Dict[str, np.ndarray]) -> None:
    whole = with_unused_heads(arrays)
    ignored = load_segmentor(model, whole, "weights")
    assert ignored == sorted(key for key in whole if is_unused_head_key(key))
    assert len(ignored) == 3 * 8


def test_weights_completed_for_paddleseg_fill_its_whole_network(arrays: Dict[str, np.ndarray]) -> None:
    whole = build_segmentor("stdc1", unused_heads=True)
    assert load_segmentor(whole, with_unused_heads(arrays), "weights") == []
    state = state_arrays(whole)
    assert (state["conv_out_sp4.conv._batch_norm._variance"] == 1.0).all()
    assert not state["conv_out_sp4.conv_out.weight"].any()
    assert (state["conv_out.conv_out.weight"] == 0.25).all()


def test_missing_unknown_and_misshapen_parameters_are_named(model: Segmentor, arrays: Dict[str, np.ndarray]) -> None:
    before = state_arrays(model)
    del arrays["conv_out.conv_out.bias"]
    arrays["decoder.weight"] = np.zeros(3, np.float32)
    arrays["conv_out8.conv_out.bias"] = np.zeros(20, np.float32)
    with pytest.raises(InputError) as caught:
        load_segmentor(model, arrays, "my.pdparams")
    message = str(caught.value)
    assert message.startswith("my.pdparams: ")
    assert "conv_out.conv_out.bias: missing" in message
    assert "decoder.weight: no such parameter" in message
    assert "conv_out8.conv_out.bias: shape (20,), expected (19,)" in message
    assert "\n" not in message
    # Nothing was loaded in part.
    for name, value in state_arrays(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_of_the_other_backbone_are_refused_in_one_line(model: Segmentor) -> None:
    other = state_arrays(build_segmentor("stdc2"))
    with pytest.raises(
        InputError, match=r"other\.pdparams: does not fit .* and \d+ more\. Is model\.backbone"
    ) as caught:
        load_segmentor(model, other, "other.pdparams")
    assert "\n" not in str(caught.value)


def test_weights_of_another_kind_of_network_are_refused(model: Segmentor) -> None:
    with pytest.raises(InputError, match=r"r\.pdparams: weights of another network.*found layer1\.weight"):
        load_segmentor(model, {"layer1.weight": np.zeros(3, np.float32)}, "r.pdparams")


def test_backbone_loads_from_imagenet_weights_without_their_classifier(model: Segmentor) -> None:
    backbone = {name: np.full_like(value, 0.5) for name, value in state_arrays(model.cp.backbone).items()}
    published = dict(backbone)
    published["conv_last.conv.weight"] = np.zeros((4, 4, 1, 1), np.float32)
    published["linear.weight"] = np.zeros((4, 4), np.float32)
    assert load_backbone(model, published, "backbone") == ["conv_last.conv.weight", "linear.weight"]
    assert (state_arrays(model)["cp.backbone.features.0.conv.weight"] == 0.5).all()
    assert not (state_arrays(model)["cp.arm16.conv._conv.weight"] == 0.5).all()


def test_a_whole_segmentor_is_no_backbone_and_a_backbone_no_segmentor(
    model: Segmentor, arrays: Dict[str, np.ndarray]
) -> None:
    with pytest.raises(InputError, match=r"s\.pdparams: a whole segmentation network .*name it in model\.init_from"):
        load_backbone(model, arrays, "s.pdparams")
    with pytest.raises(InputError, match=r"b\.pdparams: a backbone alone .*model\.pretrained starts"):
        load_segmentor(model, state_arrays(model.cp.backbone), "b.pdparams")


def test_a_network_of_other_classes_gives_all_but_the_class_layers(
    model: Segmentor, arrays: Dict[str, np.ndarray]
) -> None:
    before = state_arrays(model)
    for head, width in (("conv_out", 256), ("conv_out8", 64), ("conv_out16", 64)):
        arrays[f"{head}.conv_out.weight"] = np.zeros((11, width, 1, 1), np.float32)
        arrays[f"{head}.conv_out.bias"] = np.zeros(11, np.float32)
    dropped = load_initial(model, with_unused_heads(arrays), "camvid.pdparams")
    assert dropped == sorted(
        f"{head}.conv_out.{leaf}" for head in ("conv_out", "conv_out8", "conv_out16") for leaf in ("weight", "bias")
    )
    after = state_arrays(model)
    for name, value in after.items():
        expected = before[name] if name in dropped else np.full_like(value, 0.25)
        np.testing.assert_array_equal(value, expected, err_msg=name)
    # What a class layer takes in is no matter of classes.
    arrays["conv_out.conv_out.weight"] = np.zeros((11, 128, 1, 1), np.float32)
    with pytest.raises(InputError, match=r"conv_out\.conv_out\.weight: shape \(11, 128, 1, 1\)"):
        load_initial(model, arrays, "w")


def test_a_start_is_a_backbone_or_a_whole_network_by_its_names(model: Segmentor, arrays: Dict[str, np.ndarray]) -> None:
    load_start(model, arrays, "whole")
    assert (state_arrays(model)["ffm.conv1.weight"] == 0.25).all()
    backbone = {name: np.full_like(value, 0.75) for name, value in state_arrays(model.cp.backbone).items()}
    load_start(model, backbone, "backbone")
    state = state_arrays(model)
    assert (state["ffm.conv1.weight"] == 0.25).all() and (state["cp.backbone.features.0.conv.weight"] == 0.75).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("layer1.0.conv1.weight", "a ResNet"),
        ("backbone.layer3.5.bn2.bias", "a ResNet"),
        ("ppseg_head.arm_list.0.conv_x.weight", "PP-LiteSeg"),
        ("blocks.3.attn.qkv.weight", "a transformer"),
        ("features.3.weight", "VGG or MobileNet"),
    ],
)
def test_a_known_network_is_called_by_its_name(model: Segmentor, name: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"weights of another network \({words}") as caught:
        load_backbone(model, {name: np.zeros(3, np.float32)}, "r.pdparams")
    assert "\n" not in str(caught.value)


def test_an_incomplete_backbone_is_refused(model: Segmentor) -> None:
    backbone = state_arrays(model.cp.backbone)
    del backbone["features.3.conv_list.1.bn._mean"]
    with pytest.raises(InputError, match=r"features\.3\.conv_list\.1\.bn\._mean: missing"):
        load_backbone(model, backbone, "backbone")

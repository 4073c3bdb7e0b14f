"""The verdict: what may be compared, and what comes out; differences are worked out by hand."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Dict, List, Optional

import made_results
import pytest
import yaml

from stdc.data.labels import TRAIN_NAMES
from stdc.errors import InputError
from stdc.files import canonical_json
from stdc.published.configured_run import configured_run
from stdc.published.evidence import Evidence, SeedMetrics, evidence_of_results
from stdc.published.reference import DEFAULT_PATH, load_reference
from stdc.published.verdict import judge
from stdc.results.folder import Results, SeedResult

REFERENCE = load_reference()

PUBLISHED_RUN = {
    "preset": "paddleseg",
    "iterations": 80000,
    "global_batch": 96,
    "crop_height": 512,
    "crop_width": 1024,
}
MODEL = {"backbone": "stdc1", "pretrained": {"source": "stdc1.pdparams", "sha256": "ab" * 32}}
FULL = {
    "expected": "cityscapes",
    "label_source": "labelIds",
    "splits": {"train": {"frames": 2975}, "val": {"frames": 500}, "test": {"frames": 1525}},
}


def metrics(
    miou: float, scales: Any = (1.0,), flip: bool = False, images: int = 500, **protocol: Any
) -> Dict[str, Any]:
    entry = {
        "miou": miou,
        "class_iou": dict.fromkeys(TRAIN_NAMES, miou),
        "images": images,
        "protocol": {
            "name": "main",
            "scales": list(scales),
            "flip": flip,
            "size": [1024, 2048],
            "precision": "float32",
            **protocol,
        },
    }
    return {**entry, "protocols": [entry]}


def evidence(seeds: Optional[List[SeedMetrics]] = None, **changed: Any) -> Evidence:
    fields: Dict[str, Any] = {
        "dataset_kind": "folder",
        "manifest": FULL,
        "seeds": seeds or [SeedMetrics(0, metrics(0.7466))],
    }
    config: Dict[str, Any] = {"name": "full", "model": MODEL, "train": PUBLISHED_RUN, "data": {}, "evaluate": {}}
    config.update({section: changed.pop(section) for section in tuple(changed) if section in config})
    return evidence_of_results(configured_run(config), **{**fields, **changed})


def verdict_of(miou: float) -> str:
    return judge(evidence([SeedMetrics(0, metrics(miou))]), REFERENCE)["verdict"]


def row(found: Dict[str, Any], name: str) -> Dict[str, Any]:
    return next(entry for entry in found["comparisons"] if entry["id"] == name)


@pytest.mark.parametrize(
    ("miou", "expected"),
    [
        (0.7600, "REPRODUCED"),
        (0.7466, "REPRODUCED"),
        (0.74656, "REPRODUCED"),  # 74.66 when rounded as the published figure is
        (0.74654, "WITHIN NOISE"),
        (0.7406, "WITHIN NOISE"),  # exactly the tolerance of 0.6 below
        (0.7405, "BELOW"),
    ],
)
def test_same_run_is_graded_against_the_published_figure_and_its_tolerance(miou, expected):
    assert verdict_of(miou) == expected


def test_difference_and_line_name_figure_source_and_points():
    found = judge(evidence([SeedMetrics(0, metrics(0.7430))]), REFERENCE)
    assert row(found, "bi_v100_stdc1")["difference_points"] == pytest.approx(-0.36)
    assert found["line"] == (
        "WITHIN NOISE: val mIoU 74.30 % (final weights, scale 1) against 74.66 % published "
        "(DeepSparkHub, STDC with PaddlePaddle): -0.36 points, tolerance 0.6"
    )


def test_only_the_figure_of_the_same_recipe_and_protocol_is_compared():
    found = judge(evidence(), REFERENCE)
    compared = [entry["id"] for entry in found["comparisons"] if entry["verdict"] != "NOT COMPARABLE"]
    assert compared == ["bi_v100_stdc1"]
    assert all(entry["difference_points"] is None for entry in found["comparisons"] if entry["id"] not in compared)
    assert "96 images per step instead of 48 (train.global_batch)" in row(found, "paddleseg_stdc1")["reasons"]


def test_every_protocol_is_compared_with_its_own_figure_and_the_worst_decides():
    seed = metrics(0.7480)
    seed["protocols"] += [metrics(0.7500, flip=True), metrics(0.7680, (1.25, 1.0, 0.75), True)]
    found = judge(evidence([SeedMetrics(0, seed)], train={**PUBLISHED_RUN, "global_batch": 48}), REFERENCE)
    grades = {entry["id"]: entry["verdict"] for entry in found["comparisons"] if entry["verdict"] != "NOT COMPARABLE"}
    assert grades == {
        "paddleseg_stdc1": "REPRODUCED",
        "paddleseg_stdc1_flip": "BELOW",  # 75.00 against 75.71
        "paddleseg_stdc1_ms_flip": "REPRODUCED",
    }
    assert (found["verdict"], found["decisive"], found["compared"]) == ("BELOW", "paddleseg_stdc1_flip", 3)
    assert "75.00 % (final weights, scale 1, flip) against 75.71 %" in found["line"]


def test_figure_chosen_on_validation_is_compared_with_weights_chosen_the_same_way():
    train = {**PUBLISHED_RUN, "preset": "authors", "iterations": 60000, "global_batch": 48}
    both = [SeedMetrics(0, metrics(0.7100, (0.5,)), metrics(0.7230, (0.5,)))]
    model = {**MODEL, "pool_counts_padding": True}
    found = row(judge(evidence(both, train=train, model=model), REFERENCE), "authors_stdc1_seg50")
    assert (found["weights"], found["measured"], found["verdict"]) == ("best", 72.3, "REPRODUCED")
    final_only = [SeedMetrics(0, metrics(0.7100, (0.5,)))]
    found = row(judge(evidence(final_only, train=train, model=model), REFERENCE), "authors_stdc1_seg50")
    assert (found["weights"], found["verdict"]) == ("final", "BELOW")


def test_best_weights_never_decide_where_the_source_does_not_say_so():
    found = judge(evidence([SeedMetrics(0, metrics(0.7300), metrics(0.7500))]), REFERENCE)
    assert (found["verdict"], found["selected"]["weights"]) == ("BELOW", "final")
    assert found["measured"][0]["best"]["mean"] == 75.0


def test_figure_without_a_measured_value_says_so():
    train = {**PUBLISHED_RUN, "preset": "authors", "iterations": 60000, "global_batch": 48}
    seed = SeedMetrics(0, metrics(0.7300, (0.5,)), metrics(0.7400))  # the best weights were not evaluated at scale 0.5
    found = judge(evidence([seed], train=train, model={**MODEL, "pool_counts_padding": True}), REFERENCE)
    wanted = row(found, "authors_stdc1_seg50")
    assert wanted["reasons"] == ["no mIoU of the best weights of every seed at this protocol"]
    assert all(entry["reasons"] for entry in found["comparisons"] if entry["verdict"] == "NOT COMPARABLE")


def test_line_of_a_run_that_is_not_comparable_names_the_nearest_figure_and_both_weights():
    found = judge(evidence([SeedMetrics(0, metrics(0.5, images=499), metrics(0.51, images=499))]), REFERENCE)
    assert found["line"] == (
        "NOT COMPARABLE: val mIoU 50.00 % with the final weights, 51.00 % with the best; nearest is 74.66 % published "
        "(DeepSparkHub, STDC with PaddlePaddle), but: evaluated on 499 of 500 validation images"
    )


def test_several_seeds_give_mean_and_spread():
    found = judge(
        evidence([SeedMetrics(seed, metrics(miou)) for seed, miou in enumerate((0.742, 0.745, 0.748))]),
        load_reference(),
    )
    main = found["measured"][0]["final"]
    assert (main["mean"], main["min"], main["max"], main["seeds"]) == (74.5, 74.2, 74.8, [74.2, 74.5, 74.8])
    assert found["verdict"] == "WITHIN NOISE" and "(mean of the seeds, 74.20 to 74.80; final" in found["line"]


def manifest(**changed: Any) -> Dict[str, Any]:
    return {**FULL, **changed}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dataset_kind": "synthetic"}, "generated images, not on the 500 validation images of Cityscapes"),
        ({"manifest": manifest(expected="any")}, "not checked against the official counts"),
        (
            {"manifest": manifest(splits={"train": {"frames": 367}, "val": {"frames": 101}})},
            "367 training and 101 validation frames instead of 2975 and 500",
        ),
        ({"data": {"subset": {"train": 100, "val": None}}}, "trained on a subset of 100 frames"),
        ({"seeds": [SeedMetrics(0, metrics(0.75, images=499))]}, "evaluated on 499 of 500 validation images"),
        (
            {"seeds": [SeedMetrics(0, metrics(0.75, size=[512, 1024]))]},
            "labels of 1024x512 pixels, 2048x1024 published",
        ),
        ({"seeds": [SeedMetrics(0, metrics(0.75, size=None))]}, "labels of unequal sizes pixels"),
        (
            {"seeds": [SeedMetrics(0, metrics(0.75, (0.5,)))]},
            "not evaluated at the published protocol: scale 1, no flip",
        ),
        ({"seeds": [SeedMetrics(0, metrics(0.75, flip=True))]}, "not evaluated at the published protocol"),
        ({"model": {**MODEL, "backbone": "stdc2"}}, "another network: stdc2 here, stdc1 published"),
        ({"model": {"backbone": "stdc1", "pretrained": {"source": None}}}, "started from random weights"),
        ({"model": {**MODEL, "pool_counts_padding": True}}, "model.pool_counts_padding is true, published with false"),
        ({"train": {**PUBLISHED_RUN, "iterations": 79999}}, "79999 iterations instead of 80000"),
        ({"train": {**PUBLISHED_RUN, "crop_height": 256}}, "crops of 1024x256 instead of 1024x512"),
        ({"train": {**PUBLISHED_RUN, "base_lr": 0.02}}, "train.base_lr: 0.02 here, 0.01 in the preset"),
        ({"train": {**PUBLISHED_RUN, "ema_decay": 0.99}}, "train.ema_decay: 0.99 here, 0 in the preset"),
        ({"train": {**PUBLISHED_RUN, "preset": "authors"}}, "another recipe: train.preset authors"),
    ],
)
def test_anything_else_is_not_comparable_and_says_why(changed, reason):
    found = judge(evidence(**changed), REFERENCE)
    reasons = row(found, "bi_v100_stdc1")["reasons"]
    assert any(reason in text for text in reasons), reasons
    assert found["verdict"] == "NOT COMPARABLE" and found["reasons"]
    assert all(text in found["line"] for text in found["reasons"]) and "\n" not in found["line"]


def test_reasons_are_told_against_a_figure_of_the_same_network_and_preset():
    far = {"preset": "paddleseg", "iterations": 100, "global_batch": 8, "crop_height": 64, "crop_width": 128}
    far.update(base_lr=0.05, scale_min=0.75, scale_max=1.5, weight_decay=1e-3)
    assert judge(evidence(train=far), REFERENCE)["decisive"] == "bi_v100_stdc1"
    stdc2 = {**MODEL, "backbone": "stdc2"}
    assert judge(evidence(train=far, model=stdc2), REFERENCE)["decisive"] == "paddleseg_stdc2"


def test_images_seen_in_several_passes_are_a_reason() -> None:
    """Gradients are those of the whole batch; what batch norm and mining look at is not."""
    assert row(judge(evidence(), REFERENCE), "bi_v100_stdc1")["reasons"] == []
    found = judge(evidence(micro_batch=3), REFERENCE)
    (reason,) = row(found, "bi_v100_stdc1")["reasons"]
    assert reason.startswith("batch norm and the mining of hard pixels saw 3 images per forward pass")


def test_results_tell_of_passes_where_a_device_took_its_share_in_several() -> None:
    stage = made_results.report_stage(dataset_kind="folder", model=MODEL, train=PUBLISHED_RUN)
    for world_size, micro_batch, expected in ((8, 12, None), (8, 4, 4), (2, 12, 12), (1, None, None)):
        provenance = {"identity": {"world_size": world_size, "micro_batch": micro_batch}}
        seed = SeedResult(0, metrics(0.7466), None, [], None, provenance)
        results = Results(stage=stage, manifest=FULL, manifest_sha256="", seeds=[seed])
        assert results.evidence().micro_batch == expected


def test_kernel_flags_do_not_forbid_a_comparison():
    train = {**PUBLISHED_RUN, "cudnn_exhaustive_search": True, "deterministic": False, "base_lr": 0.01}
    assert judge(evidence(train=train), REFERENCE)["verdict"] == "REPRODUCED"


def test_run_without_one_labeled_pixel_is_not_comparable():
    nothing = {**metrics(0.5), "miou": None}
    found = judge(evidence([SeedMetrics(0, {**nothing, "protocols": [nothing]})]), REFERENCE)
    assert "no mIoU of the final weights of every seed at this protocol" in found["reasons"]
    assert found["measured"][0]["final"] is None and "val mIoU unknown" in found["line"]


def test_absent_class_forbids_a_comparison():
    seed = metrics(0.80)
    seed["class_iou"]["train"] = None
    found = judge(evidence([SeedMetrics(0, seed)]), REFERENCE)
    assert "the mean leaves out classes that do not occur: train" in found["reasons"]


def named(*names: str) -> Any:
    """The table as if these figures had been published together with weights named "their-weights"."""
    figures = [
        dataclasses.replace(figure, published_with="their-weights") if figure.id in names else figure
        for figure in REFERENCE.figures
    ]
    return dataclasses.replace(REFERENCE, figures=tuple(figures))


@pytest.mark.parametrize(
    ("miou", "expected"), [(0.7474, "REPRODUCED"), (0.7464, "WITHIN NOISE"), (0.7463, "BELOW"), (0.7000, "BELOW")]
)
def test_published_weights_are_held_against_the_figures_they_were_published_with_and_no_others(miou, expected):
    """Whatever the recipe: nobody trained here. Ten hundredths of a point is what another device's rounding may do."""
    given = evidence(
        [SeedMetrics(0, metrics(miou))], given_weights="their-weights", train={**PUBLISHED_RUN, "iterations": 1}
    )
    found = judge(given, named("paddleseg_stdc1", "paddleseg_stdc1_flip"))
    assert (found["verdict"], found["decisive"], found["compared"]) == (expected, "paddleseg_stdc1", 1)
    assert row(found, "paddleseg_stdc1")["tolerance"] == 0.1
    assert row(found, "paddleseg_stdc1_flip")["reasons"] == ["not evaluated at the published protocol: scale 1, flip"]
    assert "how these weights were trained is not known" in row(found, "bi_v100_stdc1")["reasons"][0]


def test_shortened_products_are_a_caveat():
    found = judge(evidence([SeedMetrics(0, metrics(0.75, precision="float32 (tf32)"))]), REFERENCE)
    assert found["verdict"] == "REPRODUCED"
    assert "(TF32)" in " ".join(found["caveats"])
    half = judge(evidence([SeedMetrics(0, metrics(0.75, (0.5,), precision="float16"))]), REFERENCE)
    assert "evaluated in float16, published in float32" in row(half, "authors_stdc1_seg50")["reasons"]


def test_figures_of_another_backend_are_compared_with_nothing():
    found = judge(evidence([SeedMetrics(0, metrics(0.75, backend="onnxruntime 1.32.0 cpu"))]), REFERENCE)
    assert found["verdict"] == "NOT COMPARABLE"
    expected = "evaluated with onnxruntime; published figures are compared with what Paddle predicts"
    assert row(found, "bi_v100_stdc1")["reasons"] == [expected]


def test_weights_of_unknown_origin_are_compared_with_nothing():
    found = judge(evidence([SeedMetrics(0, metrics(0.76))], given_weights="mine.pdparams"), named("paddleseg_stdc1"))
    assert (found["verdict"], found["compared"]) == ("NOT COMPARABLE", 0)
    assert "The weights were given (mine.pdparams), not trained here." in found["caveats"]


def test_named_weights_are_told_and_another_imagenet_training_forbids_a_comparison():
    def start(source: str, sha256: Optional[str] = None) -> Dict[str, Any]:
        return judge(evidence(model={**MODEL, "pretrained": {"source": source, "sha256": sha256}}), REFERENCE)

    named_start = start("paddleseg-stdc1", "first-seen")
    assert named_start["verdict"] == "REPRODUCED"
    assert "started from paddleseg-stdc1, the ImageNet weights of the published runs" in named_start["caveats"][0]
    assert named_start["caveats"][0].endswith("(first-seen) was not recorded.")
    assert "the user's word" in start("mine.pdparams")["initialization"]["text"]
    other = start("pp-stdc1")
    assert other["reasons"] == [
        "the backbone started from pp-stdc1, another ImageNet training than the published one's"
    ]


def test_a_checksum_that_only_the_first_download_speaks_for_is_a_caveat_whole():
    """Its publisher states none, so others can compare nothing but what stands in the verdict."""
    sha256 = "ab12" * 16
    seeds = [SeedMetrics(0, metrics(0.75), weights={"sha256": sha256, "checksum": "first-seen"})]
    started = {**MODEL, "pretrained": {"source": "paddleseg-stdc1", "sha256": "first-seen"}}
    for changed in ({"model": started}, {"given_weights": "paddleseg-stdc1-cityscapes"}):
        found = judge(evidence(seeds, **changed), REFERENCE)
        assert f"first download (first-seen) is {sha256}." in found["caveats"][0]
        assert found["initialization"]["sha256"] == sha256
    given = [SeedMetrics(0, metrics(0.75), weights={"sha256": sha256, "checksum": "given"})]
    text = judge(evidence(given, model=started), REFERENCE)["caveats"][0]
    assert "(sha256 ab12ab12ab12…)" in text and "first download" not in text


def test_judging_the_network_of_paddleseg_is_compared_with_its_figure():
    given = evidence([SeedMetrics(0, metrics(0.7474))], given_weights="paddleseg-stdc1-cityscapes")
    found = judge(given, REFERENCE)
    assert (found["verdict"], found["decisive"], found["compared"]) == ("REPRODUCED", "paddleseg_stdc1", 1)


def picture(split: str, frame: str, content: str) -> Dict[str, Any]:
    return {"split": split, "frame": frame, "image": {"sha256": content}}


def test_pictures_that_stand_in_the_dataset_twice_forbid_a_comparison():
    frames = [picture("train", "ulm_1", "a"), picture("train", "ulm_2", "a"), picture("val", "bonn_1", "b")]
    found = judge(evidence(manifest=manifest(frames=frames)), REFERENCE)
    assert found["reasons"] == ["1 of the training pictures repeats another one (first: ulm_2 is ulm_1)"]
    frames += [picture("val", "bonn_2", "a"), picture("val", "bonn_3", "a"), picture("test", "jena_1", "b")]
    found = judge(evidence(manifest=manifest(frames=frames)), REFERENCE)
    assert found["reasons"][1:] == [
        "1 of the validation pictures repeats another one (first: bonn_3 is bonn_2)",
        "2 of the validation pictures were trained on (first: bonn_2 is ulm_1)",
    ]
    different = [picture("train", "ulm_1", "a"), picture("val", "bonn_1", "b"), picture("test", "jena_1", "b")]
    assert judge(evidence(manifest=manifest(frames=different)), REFERENCE)["verdict"] == "REPRODUCED"


def test_figure_of_another_implementation_is_never_compared():
    run = {**PUBLISHED_RUN, "global_batch": 48}
    for entry in judge(evidence(train=run), REFERENCE)["comparisons"]:
        if entry["id"].startswith(("mmseg", "super_gradients")) or entry["id"].endswith("2_7"):
            assert entry["verdict"] == "NOT COMPARABLE", entry["id"]


def test_random_start_polygon_labels_and_single_seed_are_told():
    given = evidence(manifest=manifest(label_source="polygons"), model={"backbone": "stdc1", "pretrained": None})
    caveats = " ".join(judge(given, REFERENCE)["caveats"])
    assert "random weights" in caveats and "polygons" in caveats and "One seed" in caveats


def test_equal_evidence_gives_equal_bytes_and_is_left_unchanged():
    given = evidence()
    before = copy.deepcopy(given)
    assert canonical_json(judge(given, REFERENCE)) == canonical_json(judge(given, REFERENCE))
    assert given == before


# ---- the table of published figures


def test_table_holds_the_figures_that_the_sources_state():
    figures = {figure.id: figure for figure in REFERENCE.figures}
    seed_row = figures["bi_v100_stdc1"]
    assert (seed_row.value, seed_row.recipe.global_batch, seed_row.tolerance_points) == (74.66, 96, 0.6)
    assert figures["paddleseg_stdc1"].value == 74.74 and figures["paddleseg_stdc2"].value == 77.6
    values = [figures[f"authors_stdc{n}_seg{p}"].value for n in (1, 2) for p in (50, 75)]
    assert values == [72.22, 74.5, 74.24, 77.04]


def test_ambiguous_training_speed_is_told_in_both_readings():
    reference = REFERENCE
    speed = next(entry for entry in reference.speeds if entry.id == "bi_v100_stdc1_training")
    images = 80000 * speed.batch * 8
    hours_if_of_one_card = images / 8 / speed.value / 3600
    hours_if_of_all = images / speed.value / 3600
    assert f"{hours_if_of_one_card:.1f} hours" in speed.note and f"{hours_if_of_all:.0f} hours" in speed.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["figures"][0].update(value="74.66"), "figures.bi_v100_stdc1.value: '74.66'; a number"),
        (lambda table: table["figures"][0].update(value=0.7466), "figures.bi_v100_stdc1.value: 0.7466; a number"),
        (lambda table: table["figures"][0].pop("weights"), "figures[0]: missing weights"),
        (lambda table: table["figures"][0].update(wieghts="best"), "figures[0]: unknown wieghts"),
        (lambda table: table["figures"][0]["protocol"].update(size=[1024]), "size: [1024]; [height, width]"),
        (lambda table: table["figures"][0].update(source="hearsay"), "'hearsay' is not one of"),
        (lambda table: table["figures"].append(copy.deepcopy(table["figures"][1])), "occurs 2 times"),
        (lambda table: table["figures"][0]["recipe"].update(preset=None), "needs never_compared"),
        (lambda table: table.update(figures={}), "figures: dict found, a list is expected"),
        (lambda table: table.pop("speeds"), "top level: missing speeds"),
        (lambda table: table["backbones"]["stdc1"].pop("megaflops"), "backbones.stdc1: missing megaflops"),
        (
            lambda table: table["recipes"]["mmseg"]["values"].pop("devices"),
            "recipes.mmseg.values.devices: None; a number",
        ),
        (lambda table: table["recipes"]["mmseg"]["values"].update(lr=1), "recipes.mmseg.values: unknown lr"),
        (lambda table: table["recipes"]["mmseg"].update(preset="mmseg"), "'mmseg' is not one of"),
        (lambda table: table.update(format=2), "format: 2"),
    ],
)
def test_damaged_table_is_refused_by_key(tmp_path, change, message):
    table = yaml.safe_load(DEFAULT_PATH.read_text(encoding="utf-8"))
    change(table)
    path = tmp_path / "reference.yaml"
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_reference(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["figures: [", "just text", "!!python/object/apply:os.system ['true']"])
def test_text_that_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "reference.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_reference(path)

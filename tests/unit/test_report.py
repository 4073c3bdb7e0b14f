"""The report: what is drawn, what is escaped, what is left out. Results are made up; no network is trained."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import made_results
import numpy as np
import pytest
from programs import assert_refused, run_program
from tiny import make_tiny_dataset, tiny_frames

from stdc.errors import InputError
from stdc.files import sha256_file
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.report import page
from stdc.report.confusion import heat_map, pixel_shares, taken_for
from stdc.report.curves import MAX_POINTS, Series, line_chart, thinned, ticks
from stdc.report.frame_pictures import WIDTH, Picture, choose_frames, jpeg_uri, make_pictures, png_uri
from stdc.report.html import style_sheet
from stdc.results.folder import Results, read_report_stage, read_seed
from stdc.results.formatting import NONE

REFERENCE = load_reference()
FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(12)]
VOID_ELEMENTS = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: List[str] = []
        self.attributes: List[tuple] = []
        self.words: List[str] = []
        self._open: List[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID_ELEMENTS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(tmp_path: Path, seeds=(0,), best: bool = True, **changed: Any) -> Results:
    for seed in seeds:
        made_results.write_seed(tmp_path / f"seed{seed}", seed, FRAMES, (1024, 2048), best)
    stage = made_results.report_stage(seeds=list(seeds), **changed)
    return Results(stage, made_results.manifest(), "ef" * 32, [read_seed(tmp_path / f"seed{s}", s) for s in seeds])


def render(results: Results, pictures: Optional[List[Picture]] = None, other: str = "shared.html") -> str:
    return page.render(results, judge(results.evidence(), REFERENCE), REFERENCE, pictures, other)


# ---- the page


def test_page_is_well_formed_and_says_verdict_figures_and_reasons(tmp_path):
    results = made(tmp_path)
    shown = Page(render(results)).text
    verdict = judge(results.evidence(), REFERENCE)
    assert "NOT COMPARABLE" in shown and all(reason in shown for reason in verdict["reasons"])
    assert f"{100 * results.seeds[0].metrics['miou']:.2f}" in shown
    assert f"{100 * results.seeds[0].best['miou']:.2f}" in shown
    for name in ("traffic light", "motorcycle", "vehicle", "frankfurt 16", "21.40", "11.23", "p95 93.4 ms"):
        assert name in shown, name
    assert "0123456789abcdef0123456789abcdef01234567, with uncommitted changes" in shown and "0:03:20" in shown


def test_page_needs_neither_network_nor_script(tmp_path):
    pictures = [Picture("f", "best", 0.5, 0.5, *["data:image/png;base64,AA=="] * 4)]
    read = Page(render(made(tmp_path), pictures))
    assert not {"script", "link", "iframe", "object", "embed"} & set(read.tags)
    loaded = [value for _, name, value in read.attributes if name in ("src", "srcset", "data", "poster", "xlink:href")]
    assert loaded and all(value.startswith("data:image/") for value in loaded)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    policy = next(value for _, _, value in read.attributes if value and "default-src" in value)
    assert "default-src 'none'" in policy and "script-src" not in policy
    style = style_sheet()
    assert "url(" not in style and "@import" not in style


def test_page_to_share_has_no_picture_and_says_so(tmp_path):
    read = Page(render(made(tmp_path)))
    assert "img" not in read.tags and "may be shared" in read.text and "data:image" not in render(made(tmp_path))


def test_page_with_pictures_warns_and_names_the_one_to_share(tmp_path):
    pictures = [Picture("frankfurt_000000_000001", "worst", 0.125, 0.5, *["data:image/png;base64,AA=="] * 4)]
    results = made(tmp_path, dataset_kind="folder")
    read = Page(render(results, pictures, "report_metrics_only.html"))
    assert read.tags.count("img") == 4 and "mIoU 12.50 %" in read.text
    assert "show pixels of the dataset" in read.text and "report_metrics_only.html" in read.text
    assert "show pixels of the dataset" not in render(made(tmp_path), pictures), "generated images are free"


def test_text_from_files_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>\"&"
    results = made(tmp_path, name=evil)
    results.seeds[0].provenance["commit"] = evil
    results.seeds[0].provenance["versions"] = {evil: evil}
    results.seeds[0].metrics["protocol"]["backend"] = evil
    results.manifest["splits"]["val"]["cities"] = {evil: 1}
    results.manifest["label_source"] = evil
    results.seeds[0].metrics["per_image"][0]["frame"] = evil
    pictures = [Picture(evil, evil, 0.5, 0.5, *["data:image/png;base64,AA=="] * 4)]
    read = Page(render(results, pictures, evil))
    assert "script" not in read.tags and evil in read.text


def test_class_names_from_a_file_are_escaped_in_drawings(tmp_path):
    evil = '<script>"&'
    drawn = heat_map([[1, 2], [3, 4]], [evil, "b"]) + line_chart(evil, [Series(evil, [(1, 1), (2, 2)], "c0")])
    assert "<script>" not in drawn
    ElementTree.fromstring(f"<all>{drawn}</all>")


def test_equal_inputs_give_equal_bytes(tmp_path):
    assert render(made(tmp_path)) == render(made(tmp_path))


def test_page_does_without_what_a_run_may_lack(tmp_path):
    made(tmp_path, best=False)
    for name in ("history.jsonl", "speed.json", "provenance.json"):
        (tmp_path / "seed0" / name).unlink()
    results = Results(made_results.report_stage(), {}, "ef" * 32, [read_seed(tmp_path / "seed0", 0)])
    read = Page(render(results))
    assert "Learning curves" not in read.text and "mIoU, best weights" not in read.text
    assert "the mark the best" not in read.text and "NOT COMPARABLE" in read.text


def test_class_that_does_not_occur_is_a_dash(tmp_path):
    results = made(tmp_path)
    for document in (results.seeds[0].metrics, results.seeds[0].best):
        document["class_iou"]["train"] = None
        document["miou"] = None
        document["protocols"][0]["miou"] = None
    assert re.search(rf"train\s*</th>.*?<td class=\"r\">{NONE}</td>", render(results), re.DOTALL)


def test_shares_and_mistakes_stand_in_the_row_of_their_class(tmp_path):
    results = made(tmp_path)
    confusion = np.array(results.seeds[0].metrics["confusion"])
    # The matrix is by train id: road is its first row, bicycle its last.
    for name, train_id in (("road", 0), ("bicycle", 18)):
        share = 100 * confusion[train_id].sum() / confusion.sum()
        iou = (
            100
            * confusion[train_id, train_id]
            / (confusion[train_id].sum() + confusion[:, train_id].sum() - confusion[train_id, train_id])
        )
        cells = re.search(rf'class="swatch"[^>]*></span>{name}</th>(.*?)</tr>', render(results), re.DOTALL).group(1)
        assert f">{share:.2f}<" in cells and f">{iou:.2f}<" in cells, name


def test_figures_that_do_not_follow_from_the_matrix_are_refused(tmp_path):
    made(tmp_path)
    path = tmp_path / "seed0" / "metrics.json"
    document = json.loads(path.read_text())
    document["class_iou"]["road"], document["class_iou"]["sky"] = 0.1, 0.2
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"metrics\.json: class_iou: road is 0\.1, but the confusion matrix gives"):
        read_seed(tmp_path / "seed0", 0)


def test_several_seeds_show_mean_spread_and_a_line_each(tmp_path):
    results = made(tmp_path, seeds=(0, 1, 2))
    read = Page(render(results))
    values = [100 * seed.metrics["miou"] for seed in results.seeds]
    assert f"{sum(values) / 3:.2f}" in read.text and f"{min(values):.2f} to {max(values):.2f}" in read.text
    assert all(f"seed {seed}" in read.text for seed in range(3))
    for path in (("class_iou", "road"), ("category_iou", "flat")):
        values = [100 * seed.metrics[path[0]][path[1]] for seed in results.seeds]
        assert f"{sum(values) / 3:.2f}" in read.text, path
    accuracy = [100 * seed.metrics["pixel_accuracy"] for seed in results.seeds]
    assert f"{sum(accuracy) / 3:.2f} % final weights, mean of 3 seeds" in read.text


def test_iiou_of_images_of_another_size_is_read_with_a_warning(tmp_path):
    results = made(tmp_path)
    warning = "at other sizes it says little"
    iiou = {"class_iiou": {"person": 0.4}, "category_iiou": {"human": 0.5}, "miiou": 0.4}
    results.seeds[0].metrics["iiou"] = iiou
    assert "40.00" in render(results) and warning not in render(results)
    results.seeds[0].metrics["protocol"]["size"] = [128, 256]
    assert warning in render(results)


def test_comparable_run_shows_the_difference(tmp_path):
    train = {
        "preset": "paddleseg",
        "iterations": 80000,
        "global_batch": 96,
        "crop_height": 512,
        "crop_width": 1024,
    }
    model = {"backbone": "stdc1", "pretrained": {"source": "backbone.pdparams", "sha256": "ab" * 32}}
    results = made(tmp_path, dataset_kind="folder", train=train, model=model)
    full = {"expected": "cityscapes", "splits": {"train": {"frames": 2975}, "val": {"frames": 500}}}
    for document in (results.seeds[0].metrics, results.seeds[0].best):
        for entry in (document, *document["protocols"]):
            entry.update(images=500, miou=0.7430)
    shown = Page(render(Results(results.stage, full, "ef" * 32, results.seeds))).text
    assert "least favorable" not in shown, "one figure is compared"
    assert "WITHIN NOISE" in shown and "-0.36" in shown and "74.30 % (final weights, scale 1) against 74.66 %" in shown


def test_slow_data_pipeline_is_pointed_out(tmp_path):
    results = made(tmp_path)
    assert "holds training up" not in render(results)
    results.seeds[0].speed["training"]["reader_wait_share"] = 0.4
    assert "holds training up" in render(results)


# ---- reading results


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.json", "{", "not readable as JSON"),
        ("metrics.json", "[]", "a JSON object is expected"),
        ("metrics.json", '{"miou": 1}', "class_iou: missing"),
        ("metrics_best.json", "nonsense", "not readable as JSON"),
        ("history.jsonl", '{"iteration": 1}\n{"iter', "line 2 is not JSON"),
        ("history.jsonl", '{"loss": 1}\n', "line 1: iteration: missing"),
        ("speed.json", "3", "a JSON object is expected"),
    ],
)
def test_damaged_result_is_refused_by_name(tmp_path, name, text, message):
    made(tmp_path)
    (tmp_path / "seed0" / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_seed(tmp_path / "seed0", 0)
    assert message in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("rows", [[[1]], [[0.5] * 19] * 19, [[-1] * 19] * 19, "none"])
def test_confusion_of_another_shape_or_kind_is_refused(tmp_path, rows):
    made(tmp_path)
    path = tmp_path / "seed0" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "confusion": rows}), encoding="utf-8")
    with pytest.raises(InputError, match="confusion"):
        read_seed(tmp_path / "seed0", 0)


def test_missing_metrics_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"seed3.metrics\.json: no such file"):
        read_seed(tmp_path / "seed3", 3)


@pytest.mark.parametrize(("key", "value"), [("seeds", []), ("seeds", None), ("model", 3), ("name", None)])
def test_configuration_without_a_section_is_refused(tmp_path, key, value):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(made_results.report_config(**{key: value})), encoding="utf-8")
    with pytest.raises(InputError, match=key):
        read_report_stage(path)


# ---- drawings


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2.5, 5, 7.5, 10]),
        (0, 0.01, [0, 0.0025, 0.005, 0.0075, 0.01]),
        (0, 80000, [0, 20000, 40000, 60000, 80000]),
        (-1, 3, [-1, 0, 1, 2, 3]),
        (0.31, 0.62, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (5, 5, [4, 6, 8, 10]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_ticks_refuse_an_empty_range():
    with pytest.raises(ValueError, match="below"):
        ticks(2, 1, 5)


def test_thinning_keeps_means_and_the_last_place():
    points = [(float(x), float(x % 2)) for x in range(1, 1001)]
    drawn = thinned(points)
    assert len(drawn) <= MAX_POINTS and drawn[-1][0] == 1000
    assert drawn[0] == (5.0, pytest.approx(0.6))  # 1, 0, 1, 0, 1
    assert thinned(points[:7]) == points[:7]


def readouts(drawn: ElementTree.Element) -> List[str]:
    """What a drawing says of each place that can be pointed at."""
    return ["".join(text.itertext()) for text in drawn.iter("text") if text.get("class") == "readout"]


def test_chart_places_values_in_proportion():
    drawn = ElementTree.fromstring(line_chart("t", [Series("s", [(0, 0), (50, 5), (100, 10)], "c0")]))
    points = [tuple(map(float, pair.split(","))) for pair in drawn.find("polyline").get("points").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11) and y0 - y1 == pytest.approx(y1 - y2, abs=0.11)
    assert y2 < y0, "up is more"
    titles = readouts(drawn)
    assert titles == ["iteration 0: s 0", "iteration 50: s 5", "iteration 100: s 10"]


def test_chart_without_points_is_left_out_and_one_point_is_drawn():
    assert line_chart("t", [Series("s", [], "c0")]) == ""
    ElementTree.fromstring(line_chart("t", [Series("s", [(0, 3)], "c0")]))


def test_heat_map_tells_integers_and_shares():
    drawn = heat_map([[6, 2], [0, 0]], ["a", "b"])
    titles = readouts(ElementTree.fromstring(drawn))
    assert titles[:2] == ["a predicted as a: 75.00 % (6 of 8 pixels)", "a predicted as b: 25.00 % (2 of 8 pixels)"]
    assert titles[3] == "b predicted as b: 0.00 % (0 of 0 pixels)"


def test_mistakes_and_shares_are_those_worked_out_by_hand():
    assert taken_for([6, 1, 3], own=0) == (2, 0.3)
    assert taken_for([6, 2, 2], own=0) == (1, 0.2), "the first of equals"
    assert taken_for([6, 0, 0], own=0) is None and taken_for([0, 0, 0], own=1) is None
    assert pixel_shares([[3, 1], [0, 4]]) == [0.5, 0.5] and pixel_shares([[0]]) == [0.0]


# ---- pictures


def images(scores: List[Optional[float]]) -> List[Dict[str, Any]]:
    return [{"frame": f"f{index}", "miou": score} for index, score in enumerate(scores)]


def test_frames_are_chosen_from_best_to_worst():
    scores = images([0.5, 0.9, None, 0.1, 0.3, 0.7])
    chosen = choose_frames(scores, 3)
    assert [(choice.position, choice.why) for choice in chosen] == [(1, "best"), (0, "place 3 of 5"), (3, "worst")]
    assert [choice.position for choice in choose_frames(scores, 99)] == [1, 5, 0, 4, 3]
    assert [choice.position for choice in choose_frames(scores, 1)] == [1]
    assert choose_frames(scores, 0) == [] and choose_frames(images([None]), 4) == []


def test_equal_scores_are_ordered_by_name():
    assert [choice.position for choice in choose_frames(images([0.5, 0.5, 0.5]), 3)] == [0, 1, 2]


def decoded(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_label_pictures_keep_exact_colors_and_are_shrunk():
    flat = np.zeros((600, 1200, 3), np.uint8)
    flat[:, 600:] = (128, 64, 128)
    picture = decoded(png_uri(flat))
    assert picture.shape == (256, WIDTH, 3)
    assert {tuple(color) for color in picture.reshape(-1, 3).tolist()} == {(0, 0, 0), (128, 64, 128)}
    photograph = decoded(jpeg_uri(np.full((8, 16, 3), (200, 100, 50), np.uint8)))
    assert photograph.shape == (8, 16, 3)
    np.testing.assert_allclose(photograph[4, 8], (200, 100, 50), atol=6)


def test_pictures_of_real_files_show_image_truth_and_prediction(tmp_path):
    _, _, pairs = labeled(tmp_path)
    frames = sorted(pairs)
    per_image = [{"frame": frame, "miou": 0.1 * index, "pixel_accuracy": 0.5} for index, frame in enumerate(frames)]
    truth = {frame: cv2.imread(str(pairs[frame].label), cv2.IMREAD_UNCHANGED) for frame in frames}
    asked = []

    def predict(position: int) -> np.ndarray:
        asked.append(position)
        return np.where(truth[frames[position]] == 255, 0, truth[frames[position]]).astype(np.uint8)

    pictures = make_pictures(per_image, choose_frames(per_image, 2), pairs, predict)
    assert asked == [len(frames) - 1, 0]
    assert [picture.frame for picture in pictures] == [frames[-1], frames[0]]
    shown, drawn = decoded(pictures[0].truth), decoded(pictures[0].prediction)
    counted = truth[frames[-1]] != 255
    np.testing.assert_array_equal(shown[counted], drawn[counted])
    assert not shown[~counted].any() and drawn[~counted].any()


# ---- the program


def labeled(tmp_path: Path) -> Any:
    """A tiny dataset with train id rasters; (root, labels folder, pairs by frame)."""
    from stdc.data.entry import Entry
    from stdc.data.labels import LABEL_ID_TO_TRAIN_ID

    root = make_tiny_dataset(tmp_path / "cityscapes", {"val": ("frankfurt",)}, frames=3, height=64, width=128)
    labels = tmp_path / "labels"
    pairs, lines = {}, []
    for frame in tiny_frames(root, "val"):
        ids = cv2.imread(str(root / f"gtFine/val/frankfurt/{frame}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
        image = f"leftImg8bit/val/frankfurt/{frame}_leftImg8bit.png"
        label = f"gtFine/val/frankfurt/{frame}_gtFine_labelTrainIds.png"
        (labels / label).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(labels / label), LABEL_ID_TO_TRAIN_ID[ids])
        pairs[frame] = Entry(frame, root / image, labels / label)
        lines.append(f"{image},{label}\n")
    (tmp_path / "val.txt").write_text("".join(lines), encoding="utf-8")
    return root, labels, pairs


def run_report(tmp_path: Path, root: Path, labels: Path, config: Dict[str, Any]) -> Any:
    (tmp_path / "report.json").write_text(json.dumps(config), encoding="utf-8")
    manifest = made_results.manifest(val_names=tiny_frames(root, "val"))
    rasters = {}
    for frame in manifest["frames"]:
        if frame["split"] == "val":
            frame["image"]["sha256"] = sha256_file(root / frame["image"]["path"])
            raster = labels / f"gtFine/val/frankfurt/{frame['frame']}_gtFine_labelTrainIds.png"
            rasters[f"val/{frame['frame']}"] = sha256_file(raster)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    index = {"manifest_sha256": sha256_file(tmp_path / "manifest.json"), "frames": rasters}
    (tmp_path / "labels.json").write_text(json.dumps(index), encoding="utf-8")
    made_results.tie(tmp_path / "results", config, tmp_path / "manifest.json", {"val": tmp_path / "val.txt"})
    options = {
        "config": tmp_path / "report.json",
        "results": tmp_path / "results",
        "manifest": tmp_path / "manifest.json",
        "dataset": root,
        "labels": labels,
        "index": tmp_path / "labels.json",
        "list": tmp_path / "val.txt",
        "verdict": tmp_path / "out" / "verdict.json",
        "report": tmp_path / "out" / "report.html",
        "threads": 1,
    }
    return run_program("report", *[word for key, value in options.items() for word in (f"--{key}", value)])


def test_program_writes_verdict_and_both_pages_and_prints_the_verdict(tmp_path):
    paddle = pytest.importorskip("paddle")
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import state_arrays
    from stdc.weights.array_files import write_pdparams

    root, labels, pairs = labeled(tmp_path)
    made_results.write_seed(tmp_path / "results" / "seed0", 0, sorted(pairs), (64, 128))
    paddle.seed(0)
    write_pdparams(tmp_path / "results" / "seed0" / "model.pdparams", state_arrays(build_segmentor("stdc1")))
    done = run_report(tmp_path, root, labels, made_results.report_config(report={"overlays": 2}))
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"verdict.json", "report.html", "report_metrics_only.html"}
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["verdict"] == "NOT COMPARABLE"
    told = done.stderr.splitlines()
    assert "NOT COMPARABLE" in told and len(verdict["reasons"]) > 5
    assert all(f"  - {reason}" in told for reason in verdict["reasons"][:5])
    assert f"  - and {len(verdict['reasons']) - 5} more, in {out / 'report.html'}" in told
    assert any(line.startswith("  val mIoU ") for line in told) and str(out / "report.html") in done.stderr
    assert Page((out / "report.html").read_text(encoding="utf-8")).tags.count("img") == 8
    assert "img" not in Page((out / "report_metrics_only.html").read_text(encoding="utf-8")).tags


def test_program_ends_with_2_and_writes_nothing_when_metrics_are_missing(tmp_path):
    root, labels, _ = labeled(tmp_path)
    done = run_report(tmp_path, root, labels, made_results.report_config(report={"overlays": 0}))
    assert_refused(done, "metrics.json: no such file")
    assert not (tmp_path / "out").exists()


def test_frame_that_the_list_lacks_is_refused(tmp_path):
    root, labels, _ = labeled(tmp_path)
    seed = tmp_path / "results" / "seed0"
    made_results.write_seed(seed, 0, FRAMES, (64, 128))
    (seed / "model.pdparams").write_bytes(b"never read")
    done = run_report(tmp_path, root, labels, made_results.report_config())
    assert_refused(
        done, "metrics.json: protocol single_scale: images: 12", "val.txt: frames: 3", "contradict each other"
    )
    assert not (tmp_path / "out").exists()

"""What the page shows beside the figures: charts with values, costs, segments, files; and what it must not show."""

from __future__ import annotations

import copy
import html
import json
import os
import random
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import made_results
import pytest
import yaml

from stdc.errors import InputError
from stdc.published.reference import load_reference
from stdc.published.verdict import judge
from stdc.report import charts, page, sharing, tables
from stdc.report.confusion import opacity
from stdc.report.curves import Band, Mark, Series, line_chart, value_table, without_zeros
from stdc.report.html import style_sheet
from stdc.report.report_job import ReportJob
from stdc.report.run_facts import segment_rows
from stdc.results.folder import Results, read_report_stage, read_seed
from stdc.results.segments import training_seconds
from stdc.results.stage_costs import read_stage_costs

REFERENCE = load_reference()
FRAMES = [f"frankfurt_000000_{number:06d}" for number in range(12)]


def made(tmp_path: Path, seeds: Tuple[int, ...] = (0,), **changed: Any) -> Results:
    for seed in seeds:
        made_results.write_seed(tmp_path / f"seed{seed}", seed, FRAMES, (1024, 2048))
    stage = made_results.report_stage(seeds=list(seeds), **changed)
    return Results(stage, made_results.manifest(), "ef" * 32, [read_seed(tmp_path / f"seed{s}", s) for s in seeds])


def render(results: Results, pictures: Any = None) -> str:
    return page.render(results, judge(results.evidence(), REFERENCE), REFERENCE, pictures, "shared.html")


def texts(svg: str, kind: str) -> List[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("text") if text.get("class") == kind]


# ---- the end of training


def end_chart(results: Results) -> charts.Chart:
    verdict = judge(results.evidence(), REFERENCE)
    return next(
        chart for chart in charts.learning_charts(results, verdict) if chart.title == "Validation mIoU, the end"
    )


def axis_of_values(svg: str) -> Dict[float, float]:
    """Each value beside the axis of a chart, with its height; they stand further left than the iterations below."""
    words = [text for text in ElementTree.fromstring(svg).iter("text") if text.get("class") == "tick"]
    left = min(float(text.get("x")) for text in words)
    return {float(text.text): float(text.get("y")) - 4 for text in words if float(text.get("x")) == left}


def test_the_end_of_training_has_a_range_of_its_own_and_marks_the_best_iteration(tmp_path):
    results = made(tmp_path)
    for event, miou in zip(results.seeds[0].evaluations, [0.1, 0.2, 0.3, 0.31, 0.32, 0.33, 0.37, 0.36, 0.35, 0.35]):
        event["miou"] = miou
    chart = end_chart(results)
    assert min(axis_of_values(chart.svg)) >= 32, "the axis does not start at 0"
    assert texts(chart.svg, "mark-words") == ["best 37.00 at 280"]
    assert [at for at, _ in chart.values.rows] == ["280", "320", "360", "400"]


def test_the_published_value_is_a_dashed_line_with_its_band_where_it_is_near(tmp_path):
    results = made(tmp_path)
    assert 'class="band"' not in end_chart(results).svg and "74.66: out of range" in end_chart(results).note
    for event in results.seeds[0].evaluations:
        event["miou"] = 0.74
    chart = end_chart(results)
    drawn = ElementTree.fromstring(chart.svg)
    line = next(part for part in drawn.iter("line") if part.get("class") == "published")
    band = next(part for part in drawn.iter("rect") if part.get("class") == "band")
    percent = axis_of_values(chart.svg)
    (low, y_low), (high, y_high) = min(percent.items()), max(percent.items())

    def value(y: float) -> float:
        return low + (y - y_low) / (y_high - y_low) * (high - low)

    assert value(float(line.get("y1"))) == pytest.approx(74.66, abs=0.01)
    top = float(band.get("y"))
    assert value(top) == pytest.approx(74.66 + REFERENCE.tolerance_points, abs=0.01)
    assert value(top + float(band.get("height"))) == pytest.approx(74.66 - REFERENCE.tolerance_points, abs=0.01)


def test_a_short_training_has_no_second_panel(tmp_path):
    results = made(tmp_path)
    events = [event for event in results.seeds[0].history if "miou" not in event or event["iteration"] <= 120]
    results.seeds[0].history[:] = events
    assert "Validation mIoU, the end" not in render(results) and "Validation mIoU" in render(results)


# ---- charts


def test_decimals_that_are_zero_in_all_labels_of_an_axis_are_left_out():
    assert without_zeros(["0.00", "10.00"]) == ["0", "10"]
    assert without_zeros(["0.50", "1.00"]) == ["0.5", "1.0"]
    assert without_zeros(["0", "100"]) == ["0", "100"]
    assert without_zeros(["0", "0.0025"]) == ["0", "0.0025"]


def test_values_of_a_chart_stand_in_a_table_too():
    table = value_table([Series("a", [(1, 0.5), (3, 1)], ""), Series("b", [(3, 2)], ""), Series("c", [], "")], str, "-")
    assert table.names == ["a", "b"] and table.rows == [("1", ["0.5", "-"]), ("3", ["1", "2"])]
    long = value_table([Series("a", [(x, x) for x in range(1000)], "")], str, "-", limit=10)
    assert len(long.rows) == 10 and long.rows[0][0] == "0" and long.rows[-1][0] == "999"


def test_a_band_and_a_mark_lie_inside_the_chart():
    svg = line_chart(
        "t", [Series("s", [(0, 1), (10, 2)], "c0")], band=Band("b", 5, 1), marks=[Mark("m", (10, 2), "c0")]
    )
    ticks = [float(tick) for tick in texts(svg, "tick") if re.fullmatch(r"[\d.]+", tick)]
    assert max(ticks) >= 6
    assert all(0 <= float(part.get("y")) <= 262 for part in ElementTree.fromstring(svg).iter("rect"))


def test_each_class_has_a_small_chart_and_one_that_never_occurs_a_dash(tmp_path):
    results = made(tmp_path)
    small, table = charts.class_charts(results)
    assert [chart.name for chart in small][:2] == ["road", "sidewalk"] and len(small) == 19
    last = results.seeds[0].evaluations[-1]["class_iou"]
    assert small[0].final == pytest.approx(100 * last["road"]) and small[-1].final is None
    assert "polyline" in small[0].svg and "polyline" not in small[-1].svg
    assert table is not None and len(table.rows) <= 12 and table.rows[-1][1][0] == f"{100 * last['road']:.1f}"
    assert "Each class over time" in render(results)


def test_histories_without_classes_have_no_small_charts(tmp_path):
    results = made(tmp_path)
    for event in results.seeds[0].evaluations:
        del event["class_iou"]
    assert charts.class_charts(results) == ([], None) and "Each class over time" not in render(results)


# ---- tables


def test_seeds_stand_in_a_table_with_their_mean(tmp_path):
    results = made(tmp_path, seeds=(0, 3))
    first, second, mean = tables.seed_rows(results)
    assert (first["seed"], second["seed"], mean["seed"]) == (0, 3, "mean")
    assert mean["final"] == pytest.approx((first["final"] + second["final"]) / 2)
    assert first["iteration"] == 400 and first["seconds"] == 200


def test_the_ten_worst_frames_are_listed_worst_first(tmp_path):
    results = made(tmp_path)
    scores = {entry["frame"]: entry["miou"] for entry in results.seeds[0].metrics["per_image"]}
    expected = sorted(scores, key=lambda frame: (scores[frame], frame))[:10]
    assert [entry["frame"] for entry in tables.worst_frames(results.seeds[0].metrics)] == expected
    shown = render(results)
    places = [shown.index(f">{frame}<") for frame in expected]
    assert places == sorted(places)


def test_time_and_memory_of_each_stage_come_from_the_benchmark_files(tmp_path):
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    files = {
        "train/mini-seed0.tsv": head + "155.74\t0:02:35\t633.09\t1\t1\t1\t0\t0\t47.71\t74.53\n",
        "evaluate/mini-seed0_best.tsv": head + "12.2\t0:00:12\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n",
        "create_lists/synthetic-12ab.tsv": "nonsense\n",
        "check_dataset/synthetic-12ab.tsv": head + "-\t-\t-\t-\t-\t-\t-\t-\t-\t-\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    costs = read_stage_costs([tmp_path / name for name in [*files, "none/there.tsv"]])
    assert [(cost.stage, cost.run, cost.seconds, cost.peak_megabytes, cost.cpu_seconds) for cost in costs] == [
        ("train", "seed 0", 155.74, 633.09, 74.53),
        ("evaluate", "seed 0, best weights", 12.2, None, None),
    ]


def test_a_resumed_training_adds_up_the_parts_and_tells_them_apart():
    provenance = {
        "started": "2026-11-24T09:00:00+00:00",
        "finished": "2026-11-24T09:00:03+00:00",
        "commit": "b" * 40,
        "segments": [
            {
                "started": "2026-11-24T08:00:00+00:00",
                "finished": "2026-11-24T08:01:40+00:00",
                "commit": "a" * 40,
                "dirty": True,
                "device": {"kind": "cpu", "name": "A processor"},
                "from_iteration": 0,
                "to_iteration": 300,
            },
            {
                "started": "2026-11-24T09:00:00Z",
                "finished": "2026-11-24T09:00:03Z",
                "commit": "b" * 40,
                "from_iteration": 300,
                "to_iteration": 400,
            },
        ],
    }
    assert training_seconds(provenance) == 103
    first, second = segment_rows(provenance)
    assert (first["from"], first["to"], second["to"], first["seconds"]) == (0, 300, 400, 100)
    assert first["commit"] == "a" * 12 + ", changed" and first["device"] == "cpu A processor"
    assert training_seconds({"started": "2026-11-24T09:00:00", "finished": "2026-11-24T09:00:03"}) == 3
    assert segment_rows({"started": "x"}) == [] and training_seconds({"started": "x", "finished": "y"}) is None


def test_a_part_that_was_killed_makes_the_time_unknown_not_shorter():
    segments = [
        {"started": "2026-11-24T09:00:00", "finished": None},
        {"started": "2026-11-24T09:00:00", "finished": "2026-11-24T09:00:03"},
    ]
    assert training_seconds({"segments": segments}) is None


def test_the_merged_recipe_is_yaml_with_every_section(tmp_path):
    results = made(tmp_path, speed={"height": 64}, synthetic={"seed": 5})
    text = re.search(r'aria-label="Merged recipe">(.*?)</pre>', render(results), re.DOTALL).group(1)
    recipe = yaml.safe_load(html.unescape(text))
    assert recipe["train"] == results.stage.document["train"] and recipe["synthetic"] == {"seed": 5}
    assert list(recipe)[:2] == ["name", "seeds"] and "dataset_kind" not in recipe


def test_page_lists_its_sections_and_each_is_there(tmp_path):
    shown = render(made(tmp_path))
    listed = re.findall(r'<a href="#([a-z]+)">', re.search(r"<nav.*?</nav>", shown, re.DOTALL).group(0))
    assert len(listed) >= 11 and re.findall(r'<h2 id="([a-z]+)">', shown) == listed


# ---- what may not be shown


def test_the_page_to_share_holds_no_place_of_the_machine_no_flag_and_no_secret(tmp_path):
    model = {"backbone": "stdc1", "pretrained": {"source": "/home/Jane Doe/w.pdparams", "sha256": None}}
    results = made(tmp_path, model=model)
    provenance = results.seeds[0].provenance
    provenance["command"] = ["/home/jane/.venv/bin/python", "/home/jane/stdc/train.py", "--dataset", "/home/jane"]
    provenance["device"]["environment"] = {"FLAGS_selected_gpus": "hidden-value", "FLAGS_x": "/home/jane/y", "OMP": "2"}
    provenance["versions"]["odd"] = "1.0 from /home/jane/wheels"
    results = Results(
        **{
            **results.__dict__,
            "command": ["snakemake", "--config", "dataset=/home/Jane Doe/data", "t=https://u:pw@h/?k=1"],
        }
    )
    shared, full = render(results), render(results, pictures=[])
    for word in ("jane", "Jane", "Doe", "hidden-value", "pw@", "k=1"):
        assert word not in shared, word
    assert "FLAGS_selected_gpus" in shared and "…/train.py" in shared and "w.pdparams" in shared
    assert "hidden-value" in full and "/home/jane/stdc/train.py" in full and "pw@" not in full and "k=1" not in full


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/stdc/train.py --x results/a/b.json", "…/train.py --x results/a/b.json"),
        ("see file:///home/jane/x.py, ~/data and ~jane/x", "see …/x.py, <path> and <path>"),
        ("python /home/jane", "python <path>"),
        ("https://jane:pw@host/x.tar?token=1#f", "https://host/x.tar"),
        ("jane:pw@host/x", "host/x"),
        ("images/s 1024/2048 and/or 08:00:00+00:00", "images/s 1024/2048 and/or 08:00:00+00:00"),
        ("https://github.com/a/b/c.md", "https://github.com/a/b/c.md"),
        ("{source: /home/jane/x, sha256: null}", "{source: <path>, sha256: null}"),
    ],
)
def test_places_and_secrets_are_taken_out_of_text_and_nothing_else(text, expected):
    assert sharing.shareable(text) == expected


# ---- colors


def luminance(color: Tuple[float, ...]) -> float:
    """WCAG 2.1, relative luminance."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Tuple[float, ...], other: Tuple[float, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def palettes() -> Iterator[Dict[str, Tuple[float, ...]]]:
    for block in re.findall(r":root \{(.*?)\}", style_sheet(), re.DOTALL):
        pairs = re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
        yield {name: tuple(int(value[place : place + 2], 16) for place in (0, 2, 4)) for name, value in pairs}


def over(top: Tuple[float, ...], bottom: Tuple[float, ...], share: float) -> Tuple[float, ...]:
    return tuple(share * a + (1 - share) * b for a, b in zip(top, bottom))


def test_numbers_in_the_confusion_map_have_contrast_in_both_modes():
    modes = list(palettes())
    assert len(modes) == 2
    cell_opacity = float(re.search(r"\.heat \.cell \{[^}]*fill-opacity: ([\d.]+)", style_sheet()).group(1))
    assert re.search(r"\.heat \.share \{[^}]*fill: var\(--ink\)", style_sheet())
    for colors in modes:
        cell = over(colors["quiet"], colors["card"], cell_opacity)
        for kind, is_hit in (("hit", True), ("miss", False)):
            for share in range(101):
                shown = over(colors[kind], cell, opacity(share / 100, is_hit))
                assert contrast(colors["ink"], shown) >= 4.5, (kind, share)


def test_dark_colors_are_for_screens_only_and_print_needs_no_background():
    style = style_sheet()
    assert "@media screen and (prefers-color-scheme: dark)" in style
    # Of what carries a meaning, only borders and SVG fills: a printer leaves backgrounds out.
    for selector in (".bar i", ".bar b", ".swatch", ".legend i"):
        (rule,) = re.findall(rf"^{re.escape(selector)} \{{(.*?)\}}", style, re.MULTILINE)
        assert "background" not in rule and "border" in rule, selector


# ---- hand-made files

#: Of some thousands; with STDC_HAND_MADE_CASES, as many as one has time for.
CASES = int(os.environ.get("STDC_HAND_MADE_CASES", "20"))
WRONG = [None, True, -1, 0.5, 10**400, float("nan"), "text", [], [1], {}, {"a": 1}, [[]], "9" * 5000]


def places_in(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Every place of a document, lists at their first two entries."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places_in(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(2, len(value))):
            yield from places_in(value[index], (*path, index))


def replaced(document: Any, path: Tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def read_all(folder: Path) -> None:
    job = ReportJob(
        config=folder / "report.json",
        results=folder,
        manifest=folder / "manifest.json",
        dataset=folder / "none",
        labels=folder / "none",
        index=folder / "none",
        val_list=folder / "val.txt",
        train_list=None,
        benchmarks=[],
        command=[],
        device="cpu",
        threads=1,
        verdict=folder / "out" / "verdict.json",
        report=folder / "out" / "report.html",
    )
    job.run()


@pytest.mark.parametrize("name", ["report.json", "manifest.json", "seed0/metrics.json", "seed0/speed.json",
                                  "seed0/provenance.json", "seed0/history.jsonl"])  # fmt: skip
def test_hand_made_files_end_in_words_or_in_a_page(tmp_path, name):
    """Any value anywhere in any file that the report reads: InputError, which programs turn into exit code 2."""
    made_results.write_seed(tmp_path / "seed0", 0, FRAMES[:3], (1024, 2048), best=False)
    history = (tmp_path / "seed0" / "history.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    (tmp_path / "seed0" / "history.jsonl").write_text("\n".join(history), encoding="utf-8")
    config = made_results.report_config(report={"overlays": 0})
    config["train"]["iterations"] = json.loads(history[-1])["iteration"]
    (tmp_path / "report.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps(made_results.manifest(2, 0, FRAMES[:3])), encoding="utf-8")
    made_results.write_list(tmp_path / "val.txt", FRAMES[:3])
    made_results.tie(tmp_path, config, tmp_path / "manifest.json", {"val": tmp_path / "val.txt"})
    read_all(tmp_path)
    target = tmp_path / name
    lines = target.read_text(encoding="utf-8")
    document = [json.loads(line) for line in lines.splitlines()] if name.endswith("l") else json.loads(lines)
    cases = [(path, value) for path in places_in(document) for value in WRONG]
    refused = 0
    for path, value in random.Random(0).sample(cases, min(len(cases), CASES)):
        changed = replaced(document, path, value)
        if name.endswith("l"):
            entries = changed if isinstance(changed, list) else [changed]
            target.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
        else:
            target.write_text(json.dumps(changed), encoding="utf-8")
        try:
            read_all(tmp_path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(tmp_path) in str(error), (path, value, str(error))
    assert refused > CASES // 20


def test_what_is_wrong_is_named_with_its_place(tmp_path):
    made_results.write_seed(tmp_path / "seed0", 0, FRAMES[:3], (1024, 2048))
    path = tmp_path / "seed0" / "speed.json"
    path.write_text(json.dumps({"inference": {"latency_ms": {"p50": "fast"}}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"speed\.json: inference\.latency_ms\.p50: 'fast' found, a number"):
        read_seed(tmp_path / "seed0", 0)
    (tmp_path / "report.json").write_text(json.dumps(made_results.report_config(train={"preset": 5})), encoding="utf-8")
    with pytest.raises(InputError, match=r"report\.json: train\.preset"):
        read_report_stage(tmp_path / "report.json")

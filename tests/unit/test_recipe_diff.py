"""The recipe beside the published ones."""

from pathlib import Path

import pytest
from programs import assert_refused, run_program

from stdc import recipe
from stdc.errors import InputError
from stdc.published import recipe_diff
from stdc.published.reference import load_reference

ROOT = Path(__file__).resolve().parents[2]
SEED_RECIPE = {"preset": "paddleseg", "iterations": 80000, "global_batch": 96, "crop_height": 512, "crop_width": 1024}


def rows(train=SEED_RECIPE, devices=8):
    return {row.key: row for row in recipe_diff.compare(recipe.resolve(train), devices)}


def test_published_recipe_on_eight_devices_differs_from_paddlesegs_own_run_in_the_batch_alone():
    differing = {key for key, row in rows().items() if "paddleseg" in row.differs}
    assert differing == {"global_batch", "devices", "samples seen", "epochs of 2975 images", "learning rate per sample"}


def test_derived_figures_are_those_worked_out_by_hand():
    table = rows()
    assert table["samples seen"].values == {
        "this run": 7680000, "paddleseg": 3840000, "authors": 2880000, "mmseg": 3840000
    }  # fmt: skip
    assert table["images per device and step"].values["this run"] == 12
    assert table["images per device and step"].values["authors"] == 16
    assert table["learning rate per sample"].values["authors"] == pytest.approx(0.01 / 48)
    assert table["epochs of 2975 images"].values["this run"] == 2581.5


def test_authors_column_holds_their_values_and_marks_what_differs():
    table = rows()
    assert table["weight_decay"].values["authors"] == 5e-4 and "authors" in table["weight_decay"].differs
    assert table["base_lr"].differs == []
    assert table["scale_step"].values["mmseg"] is None and "mmseg" not in table["scale_step"].differs


def test_columns_are_the_recipes_of_the_table_of_figures():
    assert recipe_diff.COLUMNS[1:] == tuple(load_reference().recipes)


def test_text_and_markdown_mark_the_same_cells():
    found = recipe_diff.compare(recipe.resolve(SEED_RECIPE), 8)
    text, markdown = recipe_diff.as_text(found, color=False), recipe_diff.as_markdown(found)
    assert "0.0005*" in text and "**0.0005**" in markdown
    assert text.count("*") == markdown.count("**") // 2 == sum(len(row.differs) for row in found)
    assert "\033[31m" in recipe_diff.as_text(found, color=True)


def test_batch_smaller_than_the_number_of_devices_is_refused():
    with pytest.raises(InputError, match=r"train\.global_batch: 96"):
        recipe_diff.compare(recipe.resolve(SEED_RECIPE), 97)


def test_program_reads_a_recipe_of_ours_and_refuses_nonsense(tmp_path):
    done = run_program(
        "recipe_diff", "--config", ROOT / "config" / "stdc1_cityscapes_1024x512_80k.yaml", "--devices", "8"
    )
    assert done.returncode == 0 and "samples seen" in done.stdout
    refused = run_program("recipe_diff", "--config", ROOT / "config" / "config.yaml", "--devices", "0")
    assert_refused(refused, "devices: 0; at least 1 is needed")
    nonsense = tmp_path / "x.yaml"
    nonsense.write_text("a: [")
    assert_refused(run_program("recipe_diff", "--config", nonsense), "x.yaml")

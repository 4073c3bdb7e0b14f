"""Quantities as people read them."""

from stdc.units import bytes_text, clock_text, counted, size_text


def test_sizes_are_width_by_height_as_in_the_names_of_the_recipes():
    assert size_text((512, 1024)) == "1024x512"
    assert size_text(None) == "unequal sizes"


def test_bytes_are_rounded_to_what_a_person_compares():
    assert [bytes_text(count) for count in (36_400_000, 999_000_000, 1_500_000_000)] == ["36 MB", "999 MB", "1.5 GB"]


def test_durations_are_read_at_a_glance():
    assert [clock_text(seconds) for seconds in (0, 59.2, 3600, 86400 * 6)] == [
        "0:00:00",
        "0:01:00",
        "1:00:00",
        "144:00:00",
    ]


def test_one_thing_is_not_several():
    assert [counted(count, noun) for noun in ("device", "process") for count in (1, 2)] == [
        "1 device",
        "2 devices",
        "1 process",
        "2 processes",
    ]

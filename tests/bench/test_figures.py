"""The arithmetic of the comparison."""

import math

import pytest

from tests.bench.figures import Figure, Missing, Ratio, percentile, ratio, readable


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_that_of_medians() -> None:
    assert ratio([10, 20, 900], [10, 10, 300]) == Ratio(2.0, 1.0, 3.0)  # of medians: 20 / 10


def test_a_ratios_bounds_leave_a_quarter_out_at_each_end() -> None:
    assert ratio([1, 2, 3, 4, 5, 6, 7, 80], [1] * 8) == Ratio(4.5, 3.0, 6.0)


def test_rounds_that_do_not_stand_beside_each_other_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.parametrize("other", [Missing("not here"), [1.0, 0.0], [1.0, 0.04], None])
def test_no_ratio_to_what_is_missing_or_nothing(other: Missing | list[float] | None) -> None:
    figure = Figure("slice", "us", {"a": [1.0, 2.0], **({"b": other} if other else {})})
    assert figure.ratio("a", "b") is None


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_percentile(share: float, value: float) -> None:
    assert percentile([4, 2, 1, 3], share) == value


@pytest.mark.parametrize(("value", "text"), [(0.123, "0.12 us"), (12.34, "12.3 us"), (1234.5, "1,234 us")])
def test_readable(value: float, text: str) -> None:
    assert readable(value, "us") == text


def test_json_says_what_was_not_measured_and_why() -> None:
    figure = Figure(
        "slice", "us", {"ours": [4.0, 8.0], "nginx": [2.0, 2.0], "other": Missing("not installed")}
    )
    content = figure.as_json("ours")
    assert content["servers"] == {
        "ours": {"median": 6.0, "samples": [4.0, 8.0]},
        "nginx": {"median": 2.0, "samples": [2.0, 2.0]},
        "other": {"not measured": "not installed"},
    }
    assert content["ratios"] == {"nginx": {"median": 3.0, "lowest": 2.0, "highest": 4.0}}
    assert math.isclose(figure.median("ours") or 0, 6)

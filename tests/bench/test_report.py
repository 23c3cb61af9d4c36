"""What a run found, in its three forms."""

import json
from dataclasses import replace
from xml.etree import ElementTree

from rich.console import Console

from tests.bench.figures import Figure, Missing
from tests.bench.markdown import as_markdown
from tests.bench.report import Report
from tests.bench.servers import NGINX, OURS, TUNED, TWO_WORKERS, VARNISH

SVG = "{http://www.w3.org/2000/svg}"
RUN = {"command": "python -m tests.bench --svg <a&b>", "date": "2026-01-02"}


def report(**missing: Missing) -> Report:
    nginx = missing.get("nginx", [10.0, 20.0, 30.0])
    servers = {OURS: [20.0, 40.0, 60.0], NGINX: nginx, TUNED: nginx, VARNISH: Missing("it is not installed")}
    return Report([Figure("slice <1>", "us", servers), Figure("wait", "ms", servers)], RUN, ["a note"])


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_plot_is_well_formed_and_says_how_it_was_made() -> None:
    said = texts(report().svg())
    assert "command: python -m tests.bench --svg <a&b>" in said
    assert "date: 2026-01-02" in said


def test_a_bar_is_as_long_as_its_ratio_to_nginx() -> None:
    root = ElementTree.fromstring(report().svg())
    bars = {
        each.get("class"): float(each.get("width", 0))
        for each in root.iter(f"{SVG}rect")
        if each.get("y") != "43"
    }
    assert bars["bar0"] == 2 * bars["bar1"]
    assert "40.0 us (2.00x)" in [" ".join(text.split()) for text in texts(report().svg())]


def test_what_was_not_measured_has_no_bar_and_a_reason() -> None:
    said = texts(report().svg())
    assert "not measured" in said
    assert "not measured: Varnish: it is not installed" in said


def test_without_nginx_the_plot_says_why_it_is_empty() -> None:
    said = texts(report(nginx=Missing("nginx is not installed")).svg())
    assert "not measured: nginx: nginx is not installed" in said
    assert "slice <1>" not in said


def test_only_processor_time_is_plotted() -> None:
    assert "wait" not in texts(report().svg())


def test_table_and_json_have_the_ratios() -> None:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(report().table())
    assert "2.00 (2.00-2.00)" in captured.get()
    assert "a note" in captured.get()
    assert "not measured: Varnish: it is not installed" in captured.get()
    content = json.loads(report().json())
    assert content["run"] == RUN
    assert content["figures"][0]["ratios"][NGINX]["median"] == 2.0


def test_the_lanes_share_and_two_workers_stand_in_the_table() -> None:
    figure = Figure("slice", "us", {OURS: [10.0], TWO_WORKERS: [11.0]})
    found = replace(report(), figures=[replace(report().figures[0], lane=0.987)], workers=[figure])
    markdown = as_markdown(found.table())
    assert "| 99% |" in markdown
    assert "- two workers / one, slice: 1.10" in markdown
    content = json.loads(found.json())
    assert content["figures"][0]["warm lane"] == 0.987
    assert content["two workers"][0]["ratios"][OURS]["median"] == 1.1

"""A bar plot in SVG, readable on light and on dark pages: each server's cost over that of nginx."""

from collections.abc import Sequence
from html import escape

from tests.bench.figures import Figure, readable

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .small { font-size: 11px; fill: #57606a; stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
  .title { font-size: 16px; font-weight: 600 }
  .page { fill: #ffffff } .one { stroke: #57606a; stroke-dasharray: 3 3 }
  .bar0 { fill: #0969da } .bar1 { fill: #57606a } .bar2 { fill: #8c959f } .bar3 { fill: #c4cad1 }
  .bar4 { fill: #bf8700 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1; stroke: #0d1117 } .page { fill: #0d1117 } .one { stroke: #9198a1 }
    .bar0 { fill: #4493f8 } .bar1 { fill: #b1bac4 } .bar2 { fill: #8b949e } .bar3 { fill: #57606a }
    .bar4 { fill: #d29922 }
  }
"""
WIDTH, LEFT, RIGHT = 860, 190, 150
BAR, GAP, TOP = 13, 14, 98


def svg(figures: Sequence[Figure], *, beside: str, title: str, notes: Sequence[str]) -> str:
    """One group of bars for each figure, one bar for each server; a dashed line is where `beside` ends.

    Bars end at a multiple of it, their labels say how much that is.  Figures that `beside` has not are left out.
    """
    shown = [figure for figure in figures if figure.ratio(beside, beside) is not None]
    names = list(dict.fromkeys(name for figure in shown for name in figure.servers))
    ratios = [each.median for figure in shown for name in names if (each := figure.ratio(name, beside))]
    scale = (WIDTH - LEFT - RIGHT) / max([1.0, *ratios])
    scaled = f"bars: times what {beside} takes, which is the dashed line; labels: its own figure"
    parts = [
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        f'<text class="small" x="16" y="74">{escape(scaled)}</text>',
    ]
    y = TOP
    x = 16.0
    for index, name in enumerate(names):
        parts.append(f'<rect class="bar{index}" x="{x:.0f}" y="43" width="11" height="11" rx="2"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="53">{escape(name)}</text>')
        x += 44 + 7.2 * len(name)
    for figure in shown:
        middle = y + len(names) * BAR / 2 + 4
        parts.append(f'<text x="{LEFT - 12}" y="{middle:.0f}" text-anchor="end">{escape(figure.what)}</text>')
        for index, name in enumerate(names):
            parts += _bar(figure, name, beside, index, y + index * BAR, scale)
        y += len(names) * BAR + GAP
    line = LEFT + scale
    parts.insert(0, f'<line class="one" x1="{line:.1f}" x2="{line:.1f}" y1="{TOP - 6}" y2="{y - GAP + 6}"/>')
    for note in notes:
        parts.append(f'<text class="small" x="16" y="{y + 12}">{escape(note)}</text>')
        y += 16
    height = y + 16
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    opening = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
    ]
    return "\n".join([*opening, *parts, "</svg>\n"])


def _bar(figure: Figure, name: str, beside: str, index: int, y: float, scale: float) -> list[str]:
    value = figure.median(name) if name in figure.servers else None
    ratio = figure.ratio(name, beside)
    if value is None or ratio is None:
        return [f'<text class="small" x="{LEFT + 6}" y="{y + 10:.0f}">not measured</text>']
    width = max(1.0, ratio.median * scale)
    label = readable(value, figure.unit) + ("" if name == beside else f"  ({ratio.median:.2f}x)")
    return [
        f'<rect class="bar{index}" x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 2}" rx="2"/>',
        f'<text class="small" x="{LEFT + width + 6:.1f}" y="{y + 10:.0f}">{escape(label)}</text>',
    ]

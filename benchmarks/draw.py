"""Wire SVG charts, small enough to keep beside the docs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDE, HIGH, LEFT, TOP, BOTTOM = 640, 300, 56, 34, 52
COLOURS = ("#b2481f", "#1f6fb2", "#3a8f4d")
Point = tuple[float, float]


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[float]], *, line: float) -> str:
    """Bars side by side, with a line at a bound."""
    top = 1.1 * max(line, *(value for values in series.values() for value in values))
    floor, height = HIGH - BOTTOM, HIGH - BOTTOM - TOP
    step = (WIDE - LEFT - 20) / len(groups)
    thick = 0.8 * step / len(series)
    body = []
    for at, name in enumerate(groups):
        body.append(_text(LEFT + (at + 0.5) * step, floor + 16, name, "middle"))
        for row, (_, values) in enumerate(series.items()):
            tall = values[at] / top * height
            left = LEFT + at * step + 0.1 * step + row * thick
            body.append(
                f'<rect x="{left:.1f}" y="{floor - tall:.1f}" width="{thick - 4:.1f}" height="{tall:.1f}" '
                f'fill="{COLOURS[row]}"/>'
            )
            body.append(_text(left + thick / 2 - 2, floor - tall - 4, f"{values[at]:.2g}", "middle"))
    body.append(_level(floor - line / top * height, f"{line:g}"))
    return _page(title, body, list(series))


def rows(title: str, groups: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Bars that lie, for many groups with long names; the scale is the square root, so that small values are seen."""
    top = max(1e-9, *(value for values in series.values() for value in values))
    thick, gap, left = 7, 8, 110
    tall = len(series) * thick + gap
    body = []
    for at, name in enumerate(groups):
        above = TOP + at * tall
        body.append(_text(left - 8, above + tall / 2, name, "end"))
        for row, values in enumerate(series.values()):
            long = math.sqrt(values[at] / top) * (WIDE - left - 70)
            y = above + row * thick
            body.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{thick - 1}" fill="{COLOURS[row]}"/>')
            body.append(_text(left + long + 4, y + thick, f"{values[at]:.2g}", "start", size=8))
    high = TOP + len(groups) * tall + 34
    legend = [
        f'<rect x="{left + 170 * row}" y="{high - 20}" width="12" height="12" fill="{COLOURS[row]}"/>'
        + _text(left + 18 + 170 * row, high - 10, label, "start")
        for row, label in enumerate(series)
    ]
    return _svg(high, [_text(LEFT, 18, title, "start"), *body, *legend])


def lines(
    title: str, series: Mapping[str, Sequence[Point]], *, logarithmic: bool = True, line: float | None = None
) -> str:
    """Lines through points, both axes logarithmic or neither."""
    scale = math.log10 if logarithmic else float
    every = [point for points in series.values() for point in points]
    xs, ys = [scale(x) for x, _ in every], [scale(y) for _, y in every] + ([scale(line)] if line else [])
    floor, height, span = HIGH - BOTTOM, HIGH - BOTTOM - TOP, WIDE - LEFT - 20

    def place(point: Point) -> Point:
        x = (scale(point[0]) - min(xs)) / (max(xs) - min(xs)) * span + LEFT
        return x, floor - (scale(point[1]) - min(ys)) / (max(ys) - min(ys)) * height

    body = [] if line is None else [_level(place((every[0][0], line))[1], f"{line:g}")]
    marks = sorted({x for x, _ in every}) if logarithmic else [0, 60, 120, 180, 240]
    body += [_text(place((x, every[0][1]))[0], floor + 16, f"{x:g}", "middle") for x in marks if scale(x) <= max(xs)]
    rows = [1, 10, 100, 1000] if logarithmic else range(0, 13, 3)
    body += [_text(LEFT - 6, place((every[0][0], y))[1] + 4, f"{y:g}", "end") for y in rows if scale(y) <= max(ys)]
    for row, points in enumerate(series.values()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
        body.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[row]}" stroke-width="2"/>')
    return _page(title, body, list(series))


def _page(title: str, body: Sequence[str], labels: Sequence[str]) -> str:
    floor = HIGH - BOTTOM
    legend = [
        f'<rect x="{LEFT + 190 * row}" y="{HIGH - 20}" width="12" height="12" fill="{COLOURS[row]}"/>'
        + _text(LEFT + 18 + 190 * row, HIGH - 10, label, "start")
        for row, label in enumerate(labels)
    ]
    axes = f'<path d="M{LEFT} {TOP}V{floor}H{WIDE - 20}" fill="none" stroke="#777"/>'
    return _svg(HIGH, [_text(LEFT, 18, title, "start"), axes, *body, *legend])


def _svg(high: int, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDE}" height="{high}" fill="#fff"/>\n{inside}\n</svg>\n'
    )


def _level(y: float, label: str) -> str:
    line = f'<path d="M{LEFT} {y:.1f}H{WIDE - 20}" stroke="#777" stroke-dasharray="5 4"/>'
    return line + _text(WIDE - 22, y - 4, label, "end")


def _text(x: float, y: float, text: str, anchor: str, *, size: int = 12) -> str:
    small = f' font-size="{size}"' if size != 12 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{small}>{escape(text)}</text>'

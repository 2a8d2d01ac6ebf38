"""A plot as SVG: lines on two logarithmic axes, readable on light and dark pages. Pure."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50

# A colour and a mark for each line, told apart without colour, too.
STYLES = [("#d9480f", "circle"), ("#1c7ed6", "square"), ("#2f9e44", "triangle"), ("#868e96", "diamond"), ("#ae3ec9", "circle")]


def ticks(low, high):
    """Powers of ten, and twice and five times those, from `low` to `high`."""
    found = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [factor * 10.0 ** power for factor in (1, 2, 5) if low <= factor * 10.0 ** power <= high]
    return found


def bounds(values):
    """The tick at or below the least and the one at or above the greatest."""
    candidates = ticks(min(values) / 10, max(values) * 10)
    low = max(tick for tick in candidates if tick <= min(values) * 1.000001)
    high = min(tick for tick in candidates if tick >= max(values) * 0.999999 and tick > low)
    return low, high


def number(value):
    return f"{value:g}"


def mark(shape, x, y, colour):
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    corners = {
        "square": [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        "triangle": [(0, -5), (5, 4), (-5, 4)],
        "diamond": [(0, -5), (5, 0), (0, 5), (-5, 0)],
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def svg(title, x_label, y_label, lines):
    """The plot of `lines`, pairs of a name and a list of points (x, y), all of them positive."""
    lines = [(name, sorted(points)) for name, points in lines if points]
    x_low, x_high = bounds([x for _, points in lines for x, _ in points])
    y_low, y_high = bounds([y for _, points in lines for _, y in points])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x, y):
        across = math.log(x / x_low) / math.log(x_high / x_low)
        up = math.log(y / y_low) / math.log(y_high / y_low)
        return LEFT + across * (right - LEFT), bottom - up * (bottom - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        # Middle grey: a page's colours need not be those that the reader's system asks for.
        "<style>text{font:13px sans-serif;fill:#777}.grid{stroke:#8884;stroke-width:1}.axis{stroke:#888;stroke-width:1}"
        "polyline{fill:none;stroke-width:2}</style>",
        f'<text x="{LEFT}" y="22" style="font-weight:bold">{escape(title)}</text>',
    ]
    for tick in ticks(x_low, x_high):
        x, _ = at(tick, y_low)
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        out.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{number(tick)}</text>')
    for tick in ticks(y_low, y_high):
        _, y = at(x_low, tick)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    out.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    out.append(f'<text transform="translate(18 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    for index, (name, points) in enumerate(lines):
        colour, shape = STYLES[index % len(STYLES)]
        places = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" stroke="{colour}"/>')
        out += [mark(shape, x, y, colour) for x, y in places]
        y = TOP + 14 + 24 * index
        out.append(f'<line x1="{right + 16}" y1="{y}" x2="{right + 40}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        out.append(mark(shape, right + 28, y, colour))
        out.append(f'<text x="{right + 48}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])

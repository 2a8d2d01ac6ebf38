"""Figures as text, and tables of them in Markdown. Pure."""
import statistics

MISSING = "not installed"


def ms(seconds):
    """Milliseconds, to three digits or so."""
    if seconds is None:
        return MISSING
    value = seconds * 1000
    return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.1f} ms" if abs(value) >= 1 else f"{value:.2f} ms"


def secs(seconds):
    return MISSING if seconds is None else f"{seconds:.2f} s"


def count(number):
    """A number of things: whole where it is large."""
    if number is None:
        return MISSING
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def size(number):
    """Bytes, in a unit that fits."""
    if number is None:
        return MISSING
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def ratio(ours, theirs):
    """How many times theirs ours is."""
    if ours is None or not theirs:
        return "-"
    value = ours / theirs
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def percent(part):
    return MISSING if part is None else f"{part * 100:.0f} %"


def median(values):
    return statistics.median(values) if values else None


def table(head, rows, absent=()):
    """A table; the first column is text, the others are figures. What is absent has a row that says so."""
    rows = [*rows, *([name, MISSING, *["-"] * (len(head) - 2)] for name in absent)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells below {len(head)} heads: {row}")
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


def violations(order):
    """How often in a row of numbers a later one comes before an earlier one: pairs of neighbours the wrong way "
    "round."""
    return sum(later < earlier for earlier, later in zip(order, order[1:]))

"""The plots of a page, as SVG that takes its colours and its letters from the page around it.

Matplotlib draws with stand-in colours; each is then replaced by a CSS variable, so that one drawing serves a light
page, a dark page and paper. Text stays text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from penchant.report import Point
from penchant.under_noise import Noise, level

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_history", "chosen", "loss", "spread", "stamped", "tail", "under_noise", "validation"]

# Stand-ins: colours nobody would draw with, and the variable of templates/base.html that takes each one's place.
INK, MUTED, LINE, ACCENT, SECOND = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", SECOND: "--second"}
WIDTH, HEIGHT = 420, 250  # units of the drawing, about pixels; the page scales it


def chosen(points: Sequence[Point]) -> Point | None:
    """The point of a seed's curve whose validation value is best, the first of equals; None if none was validated."""
    valid = [p for p in points if p.valid is not None]
    return max(valid, key=lambda p: (p.valid, -p.epoch)) if valid else None


def loss(curve: Sequence[Point], best_seed: int | None) -> str:
    """Training loss after each epoch; the kept seed stands out."""
    with _drawing("loss") as (axes, out):
        for seed, points in _by_seed(curve, best_seed):
            _line(axes, [p.epoch for p in points], [p.loss for p in points], seed == best_seed)
            best = chosen(points)
            if seed == best_seed and best:
                axes.plot([best.epoch], [best.loss], "o", color=ACCENT, markersize=6)
        _epochs(axes)
    return out[0]


def validation(curve: Sequence[Point], best_seed: int | None) -> str:
    """The selection metric wherever it was measured; the epoch that was kept is marked."""
    with _drawing("validation") as (axes, out):
        for seed, points in _by_seed(curve, best_seed):
            at = [p for p in points if p.valid is not None]
            _line(axes, [p.epoch for p in at], [float(p.valid or 0) for p in at], seed == best_seed)
            best = chosen(at)
            if seed == best_seed and best and best.valid is not None:
                axes.axvline(best.epoch, color=ACCENT, linewidth=1, linestyle=(0, (3, 3)))
                axes.plot([best.epoch], [best.valid], "o", color=ACCENT, markersize=6)
                late = best.epoch > (curve[0].epoch + max(p.epoch for p in curve)) / 2
                axes.annotate(
                    f"kept: epoch {best.epoch}, {best.valid:.4f}",
                    (best.epoch, 0.06),
                    (-8 if late else 8, 0),
                    xycoords=axes.get_xaxis_transform(),
                    textcoords="offset points",
                    ha="right" if late else "left",
                    color=ACCENT,
                )
        _epochs(axes)
    return out[0]


def spread(values: np.ndarray) -> str:
    """Share of users by their value in [0, 1]: exactly none first, then ten steps. values: (U,)"""
    values = values[np.isfinite(values)]
    steps = np.histogram(values[values > 0], np.linspace(0, 1, 11))[0]
    shares = np.concatenate([[np.sum(values <= 0)], steps]) / max(len(values), 1)
    with _drawing("spread") as (axes, out):
        axes.bar([-0.9], shares[:1], 0.86, color=MUTED, alpha=0.5)
        axes.bar(np.arange(10) + 0.5, shares[1:], 0.86, color=ACCENT)
        axes.set_xticks([-0.9, *range(2, 11, 2)], ["none", *(f"{step / 10:.1f}" for step in range(2, 11, 2))])
        axes.set_xlim(-1.5, 10.1)
        axes.set_yticks([])
        for x, share in zip([-0.9, *(np.arange(10) + 0.5)], shares, strict=True):
            if share >= 0.005:
                axes.annotate(
                    f"{100 * share:.0f} %", (x, share), (0, 3), textcoords="offset points", ha="center", color=MUTED
                )
    return out[0]


def by_history(values: np.ndarray, history: np.ndarray, groups: int = 6) -> str:
    """Mean value, with its 95 % interval, of users grouped by how much is known of them. values, history: (U,)

    Groups are of about equal size; users with equal histories are never parted.
    """
    ends_of_groups = np.unique(np.quantile(history, np.arange(1, groups) / groups, method="lower"))
    group = np.searchsorted(ends_of_groups, history, side="left")
    size = np.bincount(group)
    mean = np.bincount(group, values) / np.maximum(size, 1)
    square = np.bincount(group, (values - mean[group]) ** 2)
    half = 1.96 * np.sqrt(square / np.maximum(size - 1, 1) / np.maximum(size, 1))
    shown = np.flatnonzero(size)
    ends = [(history[group == g].min(), history[group == g].max()) for g in shown]
    with _drawing("history") as (axes, out):
        x = np.arange(len(shown))
        axes.plot(x, mean[shown], color=LINE, linewidth=1.5, zorder=1)
        axes.errorbar(x, mean[shown], half[shown], fmt="o", color=ACCENT, markersize=6, linewidth=1.5)
        names = [f"{a}" if a == b else f"{a}–{b}" for a, b in ends]
        axes.set_xticks(x, [f"{name}\n{size[g]:,} users" for name, g in zip(names, shown, strict=True)])
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_ylim(0, max(float((mean + half)[shown].max(initial=0)) * 1.12, 1e-6))
        axes.set_xlabel("choices known of the user")
    return out[0]


def tail(train: np.ndarray, recommended: np.ndarray) -> str:
    """How choices and recommendations pile up on items, the most chosen first. train, recommended: (I,) counts"""
    order = np.argsort(-train, kind="stable")
    x = np.linspace(0, 1, 201)
    at = np.linspace(0, 1, len(order) + 1)
    with _drawing("tail") as (axes, out):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)), alpha=0.6)
        for counts, colour, name in ((train, MUTED, "choices"), (recommended, ACCENT, "recommendations")):
            share = np.concatenate([[0], np.cumsum(counts[order])]) / max(counts.sum(), 1)
            y = np.interp(x, at, share)
            axes.plot(x, y, color=colour, linewidth=2, label=name)
            axes.fill_between(x, y, color=colour, alpha=0.07, linewidth=0)
        axes.legend(loc="lower right", frameon=False, labelcolor="linecolor", handlelength=1.4)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        _percent(axes)
        _percent(axes, "x")
        axes.set_xlabel("share of the catalogue, most chosen items first")
    return out[0]


def under_noise(noise: Noise, lost: bool = False) -> str:
    """A line per model over the rates: the main metric, with whiskers from the lowest seed to the highest.

    lost: in its place what is left of it, 1 where there is no noise. The run's own model stands out.
    """
    m, count = noise.metric, len(noise.models)
    step = min(np.diff(noise.rates), default=0.1) / 40  # whiskers of the same rate stand beside each other
    with _drawing("left" if lost else "noise") as (axes, out):
        for n, model in reversed(list(enumerate(noise.models))):  # the run's own lies on top
            x = np.asarray(noise.rates) + (n - (count - 1) / 2) * step
            mean = np.array([at.mean[m] for at in model.per_rate])
            ends = np.array([(min(at.per_seed[m]), max(at.per_seed[m])) for at in model.per_rate])
            unit = (mean[0] or np.nan) if lost else 1.0
            colour = (ACCENT, SECOND, MUTED, INK)[n % 4]
            style: dict[str, Any] = {"color": colour, "linewidth": 1.4 if n else 2.2, "label": model.name}
            style |= {"fmt": "o-" if n < 4 else "s--", "markersize": 5, "elinewidth": 1.2, "capsize": 2.5}
            axes.errorbar(x, mean / unit, np.abs(ends.T - mean) / unit, **style)
        axes.set_xticks(noise.rates, [level(rate) for rate in noise.rates])
        axes.set_xlabel("random choices, as a share of the true ones")
        if lost:
            _percent(axes)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            handles[::-1],
            labels[::-1],
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            ncols=min(count, 3),
            frameon=False,
            labelcolor="linecolor",
            handlelength=1.4,
        )
    return out[0]


def stamped(svg: str) -> str:
    """A plot of a run that leaks says so itself, wherever it is copied to; nothing stays nothing."""
    text = f'<text x="{WIDTH - 6}" y="14" text-anchor="end" style="font-size: 12px; fill: var(--second)">leaking</text>'
    return svg.replace("</svg>", f"{text}</svg>")


@contextmanager
def _drawing(name: str) -> Iterator[tuple[Axes, list[str]]]:
    """One set of axes to draw on; when the block ends, out[0] is the finished SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 12}
    out: list[str] = []
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that matplotlib's own font lacks; the page's has it
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(LINE)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=MUTED, pad=6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_color(MUTED)
        axes.margins(x=0.02, y=0.08)
        yield axes, out
        out.append(_svg(figure, name))


def _svg(figure: Figure, name: str) -> str:
    """The drawing as a bare <svg> element: no prologue, no outside address, no size, no names that could clash."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would rule the whole page
    svg = re.sub(r"<svg[^>]*>", f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: (?:[a-z]+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r"(url\(#|href=\"#)", rf"\1{name}-", svg)
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return svg.strip()


def _by_seed(curve: Sequence[Point], best_seed: int | None) -> list[tuple[int, list[Point]]]:
    """Each seed's points in order of epochs; the kept seed last, so that it lies on top."""
    seeds = sorted({p.seed for p in curve}, key=lambda seed: (seed == best_seed, seed))
    return [(seed, sorted((p for p in curve if p.seed == seed), key=lambda p: p.epoch)) for seed in seeds]


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], kept: bool) -> None:
    style: dict[str, Any] = (
        {"color": ACCENT, "linewidth": 2.2} if kept else {"color": MUTED, "linewidth": 1, "alpha": 0.55}
    )
    axes.plot(x, y, solid_capstyle="round", **style)


def _epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("epoch")


def _percent(axes: Axes, axis: str = "y") -> None:
    from matplotlib.ticker import PercentFormatter

    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))

"""Pictures of a study. The only door to matplotlib; every function returns the bytes of an image file."""

# matplotlib's annotations leave many types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lago_skills.library.projection import on_a_plane

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ImageFormat = Literal["png", "svg"]
COLOURS = {"guided-sac": "#1b6ca8", "guided-ppo": "#1b6ca8", "sac": "#b5542b", "ppo": "#b5542b", "library": "#4d8b31"}
PALETTE = ("#1b6ca8", "#b5542b", "#4d8b31", "#7a4fa3", "#555555")
NAMES = {
    "guided-sac": "guided SAC",
    "guided-ppo": "guided PPO",
    "sac": "plain SAC",
    "ppo": "plain PPO",
    "library": "library alone",
}


OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7a00", "#555555")
"""Colours that colour-blind people tell apart (Okabe and Ito 2008, "Color Universal Design"); the explorer's pages have the same."""
DASHES, MARKERS = ("-", "--", "-.", ":"), "osD^vPX*"
"""Beside colours, so that a picture printed in grey says the same."""
_FORMAT: ContextVar[ImageFormat] = ContextVar("image format", default="png")


@contextmanager
def as_format(name: ImageFormat) -> Generator[None]:
    """Whatever is drawn in the block is of that format."""
    before = _FORMAT.set(name)
    try:
        yield
    finally:
        _FORMAT.reset(before)


def _png(figure: Any) -> bytes:
    """The figure as an image of the format that is wanted. The same figure gives the same bytes; texts of an SVG stay texts."""
    stream, image_format = io.BytesIO(), _FORMAT.get()
    more = {"metadata": {"Date": None}} if image_format == "svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "lago", "svg.fonttype": "none"}):
        figure.savefig(stream, format=image_format, dpi=110, bbox_inches="tight", **more)
    plt.close(figure)
    return stream.getvalue()


def panels(sizes: tuple[float, float], count: int, draw: Callable[[list[Any]], None]) -> bytes:
    """An image with so many panels side by side, each (width, height) inches, as `draw` fills them; in the one style of all pictures."""
    figure, axes = plt.subplots(1, count, figsize=(sizes[0] * count, sizes[1]), squeeze=False)
    for each in axes[0]:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
    draw(list(axes[0]))
    figure.tight_layout()
    return _png(figure)


def learning_curves(curves: dict[str, list[NDArray[np.float64]]], library: float | None, task: str) -> bytes:
    """Success over environment steps; `curves[method]` has one (n_points, 2) array per seed: step and success."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for method, runs in curves.items():
        colour = COLOURS.get(method, "#555555")
        for run in runs:
            axes.plot(run[:, 0], run[:, 1], color=colour, alpha=0.3, linewidth=1)
        length = min(len(run) for run in runs)
        mean = np.mean([run[:length, 1] for run in runs], axis=0)
        label = f"{NAMES.get(method, method)}, mean of {len(runs)} seeds"
        axes.plot(runs[0][:length, 0], mean, color=colour, linewidth=2.4, marker="o", markersize=4, label=label)
    if library is not None:
        axes.axhline(
            library, color=COLOURS["library"], linestyle="--", linewidth=1.4, label="library alone, no training"
        )
    axes.set(xlabel="environment steps", ylabel="success", ylim=(-0.03, 1.03), title=f"{task}, sparse reward")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center right")
    return _png(figure)


@dataclass(frozen=True)
class Curve:
    """A method's score over steps; with intervals where there are several seeds."""

    method: str
    steps: list[int]
    middle: list[float]
    low: list[float]
    high: list[float]


def method_curves(whole: list[Curve], by_task: dict[str, list[Curve]], score: str) -> bytes:
    """Curves of all methods over all tasks, large, and over each task, small; a method without training is a dashed line."""
    methods = list(dict.fromkeys(curve.method for curve in whole))
    palette = plt.get_cmap("tab10" if len(methods) <= 10 else "tab20")
    colours = {method: palette(i % palette.N) for i, method in enumerate(methods)}
    n_rows = -(-len(by_task) // 4)
    figure = plt.figure(figsize=(11.5, 4.2 + 2.1 * n_rows))
    grid = figure.add_gridspec(n_rows + 2, 4)
    axes = figure.add_subplot(grid[:2, :])
    for curve in whole:
        _draw(axes, curve, colours[curve.method], label=True)
    axes.set(xlabel="environment steps", ylabel=score, ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(alpha=0.25)
    for number, (task, curves) in enumerate(by_task.items()):
        small = figure.add_subplot(grid[2 + number // 4, number % 4])
        for curve in curves:
            _draw(small, curve, colours[curve.method], label=False)
        small.set(ylim=(-0.03, 1.03))
        small.set_title(task, fontsize=9)
        small.tick_params(labelsize=7)
        small.grid(alpha=0.25)
    figure.tight_layout()
    return _png(figure)


def _draw(axes: Any, curve: Curve, colour: Any, *, label: bool) -> None:
    name = NAMES.get(curve.method, curve.method) if label else None
    if curve.steps == [0]:
        axes.axhline(curve.middle[0], color=colour, linestyle="--", linewidth=1.4, label=name)
        return
    ours = curve.method.startswith("guided")  # on top: at the ceiling others would hide it
    width, order = (2.0 if label else 1.4) + 0.8 * ours, 3.0 if ours else 2.0
    axes.plot(
        curve.steps, curve.middle, color=colour, linewidth=width, marker="o", markersize=3, label=name, zorder=order
    )
    axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def skill_map(latents: NDArray[np.float32], sentences: list[str], tasks: list[str]) -> bytes:
    """Latents (N, Z) on their first two principal components, numbered, with the sentences beside them."""
    points = on_a_plane(latents)
    figure, (axes, text) = plt.subplots(1, 2, figsize=(11.5, 0.27 * len(sentences) + 2.2), width_ratios=[1, 1.5])
    colours = plt.get_cmap("tab20")(np.arange(len(sentences)) % 20)
    axes.scatter(points[:, 0], points[:, 1], c=colours, s=150)
    for number, point in enumerate(points):
        axes.annotate(str(number), point, ha="center", va="center", fontsize=7, color="white", weight="bold")
    axes.set(title="skill latents (first two principal components)", xticks=[], yticks=[])
    text.axis("off")
    for number, (sentence, where) in enumerate(zip(sentences, tasks, strict=True)):
        height = 1.0 - (number + 0.5) / len(sentences)
        text.text(0, height, f"{number}", color=colours[number], fontsize=8, weight="bold", va="center")
        text.text(0.045, height, f"{sentence}", fontsize=7.5, va="center")
        text.text(0.045, height - 0.42 / len(sentences), f"{where}", fontsize=5.5, va="center", color="#777777")
    return _png(figure)


def latent_map(latents: NDArray[np.float32], groups: dict[str, list[str]]) -> bytes:
    """Latents (N, Z) on their first two principal components, once for each way of colouring them: by task, by verb."""
    points = on_a_plane(latents)
    figure, axes = plt.subplots(1, len(groups), figsize=(5.6 * len(groups), 4.4), squeeze=False)
    for panel, (name, labels) in zip(axes[0], groups.items(), strict=True):
        kinds = list(dict.fromkeys(labels))
        colours = plt.get_cmap("tab20")(np.arange(len(kinds)) % 20)
        for kind, colour in zip(kinds, colours, strict=True):
            own = np.array([label == kind for label in labels])
            panel.scatter(points[own, 0], points[own, 1], color=colour, s=26, label=kind, alpha=0.85)
        panel.set(title=f"latents by {name}", xticks=[], yticks=[])
        panel.legend(fontsize=6.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return _png(figure)


def horizontal_bars(names: list[str], values: dict[str, list[float]], axis: str) -> bytes:
    """For each name a bar of each group, 0 to 1; nothing where there is no number."""
    figure, axes = plt.subplots(figsize=(8.0, 0.16 * len(names) * (len(values) + 1) + 1.0))
    height = 1.0 / (len(values) + 1)
    for number, (group, lengths) in enumerate(values.items()):
        at = np.arange(len(names)) + (number - (len(values) - 1) / 2) * height
        axes.barh(at, lengths, height=height, color=PALETTE[number % len(PALETTE)], label=group)
    axes.set(yticks=range(len(names)), xlim=(0.0, 1.0), xlabel=axis)
    axes.set_yticklabels(names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(alpha=0.25, axis="x")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def grid(rows: list[str], columns: list[str], values: NDArray[np.float64]) -> bytes:
    """(rows, columns) numbers from 0 to 1 as coloured fields with the number in each; empty where there is none."""
    figure, axes = plt.subplots(figsize=(1.0 * len(columns) + 6.0, 0.45 * len(rows) + 1.0))
    colours = plt.get_cmap("Oranges").with_extremes(bad="#e9ecee")
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)))
    axes.set_xticklabels(columns, fontsize=8)
    axes.set_yticklabels([textwrap.shorten(name, 110) for name in rows], fontsize=7)
    axes.xaxis.tick_top()
    return _png(figure)


def reliability(shares: dict[str, NDArray[np.float64]], levels: NDArray[np.float64]) -> bytes:
    """Share of actions inside the central interval of each level; a true density lies on the diagonal."""
    figure, axes = plt.subplots(figsize=(4.6, 4.4))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--", label="a true density")
    for (name, covered), colour in zip(shares.items(), PALETTE, strict=False):
        axes.plot(levels, covered, color=colour, linewidth=2, marker="o", markersize=3, label=name)
    axes.set(xlabel="level of the interval", ylabel="share of held-out actions inside", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return _png(figure)


def novelty(distances: NDArray[np.float64], curves: dict[str, NDArray[np.float64]], near: float) -> bytes:
    """Of states made stranger and stranger, binned by distance from the training states: error, and spread before and after.

    `distances` are (n,) bin centres; `near` is where widening begins.
    """
    figure, axes = plt.subplots(figsize=(6.2, 3.8))
    for (name, values), colour in zip(curves.items(), PALETTE, strict=False):
        axes.plot(distances, values, color=colour, linewidth=2, marker="o", markersize=3, label=name)
    axes.axvline(near, color="#999999", linestyle="--", linewidth=1, label="nine in ten held-out states are nearer")
    axes.set(xlabel="distance to the nearest training centre, standard deviations", ylabel="action units")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


@dataclass(frozen=True)
class Field:
    """What a skill does where the target is at (n, 2) offsets, metres, right and forward: (n, 2) mean actions, (n,) spreads."""

    sentence: str
    offsets: NDArray[np.float64]
    actions: NDArray[np.float64]
    spreads: NDArray[np.float64]


def action_fields(fields: list[Field], columns: int = 4) -> bytes:
    """Arrows of each skill's mean action over where the target lies from the effector; darker is less certain."""
    rows = -(-len(fields) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 3.7 * rows), squeeze=False)
    for panel in axes.ravel()[len(fields) :]:
        panel.axis("off")
    for panel, field in zip(axes.ravel(), fields, strict=False):
        x, y = field.offsets.T * 100.0
        panel.scatter(x, y, c=field.spreads, cmap="Greys", s=60, marker="s", vmin=0.0, vmax=1.0, linewidths=0)
        panel.quiver(x, y, *field.actions.T, color="#1b6ca8", scale=14, width=0.008, pivot="mid")
        panel.set_title(textwrap.fill(field.sentence, 36), fontsize=7)
        panel.tick_params(labelsize=6)
        panel.set_aspect("equal")
    figure.supxlabel("target is so far to the right, cm", fontsize=8)
    figure.supylabel("target is so far ahead, cm", fontsize=8)
    figure.tight_layout()
    return _png(figure)


def action_shares(sentences: list[str], shares: NDArray[np.float64]) -> bytes:
    """How probable each of A discrete actions is where each skill is at work, (n_skills, A): a bar a skill."""
    figure, axes = plt.subplots(figsize=(8.0, 1.2 + 0.45 * len(sentences)))
    left = np.zeros(len(sentences))
    colours = plt.get_cmap("tab20")
    for action in range(shares.shape[1]):
        colour = colours(action % 20)
        axes.barh(range(len(sentences)), shares[:, action], left=left, color=colour, label=str(action))
        left = left + shares[:, action]
    axes.set_yticks(range(len(sentences)), [textwrap.fill(each, 40) for each in sentences], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("mean probability of each action in the demonstrated steps of a skill", fontsize=8)
    axes.legend(title="action", frameon=False, fontsize=7, ncols=2, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    figure.tight_layout()
    return _png(figure)


@dataclass(frozen=True)
class Frame:
    """One moment of an animation."""

    picture: NDArray[np.uint8] | None  # (H, W, 3), None where this machine cannot render
    points: dict[str, NDArray[np.float64]]
    """Anchors and target by name, (D,) each; they are drawn where there is no picture."""
    caption: str
    detail: str


def animation(frames: list[Frame], milliseconds: int = 80) -> bytes:
    """A GIF of an episode: the rendered scene, or a schematic of it, with the retrieved skill's name on each frame."""
    every = [point for frame in frames for point in frame.points.values() if len(point)]
    low, high = (np.min(every, axis=0), np.max(every, axis=0)) if every else (np.zeros(0), np.zeros(0))
    middle, half = (low + high) / 2, max(float(np.max(high - low, initial=0.0)) / 2, 1e-6) * 1.1
    pictures = [
        _captioned(f.picture if f.picture is not None else _schematic(f, middle - half, 2 * half), f) for f in frames
    ]
    stream = io.BytesIO()
    pictures[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=[*pictures[1:], *[pictures[-1]] * 8],
        duration=milliseconds,
        loop=0,
        optimize=True,
    )
    return stream.getvalue()


def _captioned(picture: NDArray[np.uint8], frame: Frame) -> Image.Image:
    scene = Image.fromarray(picture).resize((480, 360))
    canvas = Image.new("RGB", (480, 426), "white")
    canvas.paste(scene, (0, 0))
    draw = ImageDraw.Draw(canvas)
    caption = "\n".join(textwrap.wrap(frame.caption, 64, max_lines=2, placeholder=" …"))
    draw.multiline_text((8, 364), caption, fill="black", font=ImageFont.load_default(13), spacing=3)
    draw.text((8, 404), frame.detail, fill="#666666", font=ImageFont.load_default(12))
    return canvas.convert("P", palette=Image.Palette.ADAPTIVE, colors=96)


POINT_COLOURS = ("#b5542b", "#333333", "#4d8b31", "#8b5fa8", "#1b6ca8")


def _schematic(frame: Frame, low: NDArray[np.float64], size: float) -> NDArray[np.uint8]:
    """Named points from above and, in space, from the front, for machines without OpenGL and environments that cannot be drawn."""
    canvas = Image.new("RGB", (480, 360), "#f4f1ea")
    draw = ImageDraw.Draw(canvas)
    views = [("from above", 1), ("from the front", 2)][: max(len(low) - 1, 0)]
    if not views:
        draw.text((120, 170), "this environment draws no picture", fill="#666666", font=ImageFont.load_default(14))
    for left, (title, vertical) in zip((0, 240), views, strict=False):
        draw.rectangle((left + 8, 28, left + 232, 352), outline="#bbbbbb")
        draw.text((left + 10, 8), title, fill="#666666", font=ImageFont.load_default(12))
        for number, (name, point) in enumerate(frame.points.items()):
            colour = POINT_COLOURS[number % len(POINT_COLOURS)]
            x = left + 8 + 224 * float((point[0] - low[0]) / size)
            y = 352 - 324 * float((point[vertical] - low[vertical]) / size)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
            draw.text((x + 7, y - 7), name, fill=colour, font=ImageFont.load_default(10))
    return np.asarray(canvas, dtype=np.uint8)

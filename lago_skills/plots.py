"""Pictures of a study. The only door to matplotlib; every function returns the bytes of an image file."""

# matplotlib's annotations leave many types partially unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"guided-sac": "#1b6ca8", "sac": "#b5542b", "library": "#4d8b31"}
NAMES = {"guided-sac": "guided SAC", "sac": "plain SAC", "library": "library alone"}


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return stream.getvalue()


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


def skill_map(latents: NDArray[np.float32], sentences: list[str], tasks: list[str]) -> bytes:
    """Latents (N, Z) on their first two principal components, numbered, with the sentences beside them."""
    centred = latents - latents.mean(axis=0)
    _, _, axes2 = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(latents), 2))  # one skill, or latents of one number, have fewer components
    projected = centred @ axes2[:2].T
    points[:, : projected.shape[1]] = projected
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


@dataclass(frozen=True)
class Frame:
    """One moment of an animation."""

    picture: NDArray[np.uint8] | None  # (H, W, 3), None where this machine cannot render
    points: NDArray[np.float64]  # (4, 3): gripper, object, second object, goal
    target: NDArray[np.float64]  # (3,)
    caption: str
    detail: str


def animation(frames: list[Frame], milliseconds: int = 80) -> bytes:
    """A GIF of an episode: the rendered scene, or a schematic of it, with the retrieved skill's name on each frame."""
    pictures = [_captioned(f.picture if f.picture is not None else _schematic(f), f) for f in frames]
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


def _schematic(frame: Frame) -> NDArray[np.uint8]:
    """Top view and front view of gripper, object, goal and target, for machines without OpenGL."""
    canvas = Image.new("RGB", (480, 360), "#f4f1ea")
    draw = ImageDraw.Draw(canvas)
    dots = [
        (frame.points[0], "#b5542b", "gripper"),
        (frame.points[1], "#333333", "object"),
        (frame.points[3], "#4d8b31", "goal"),
    ]
    for left, title, vertical, low, high in ((0, "from above", 1, 0.35, 1.0), (240, "from the front", 2, 0.0, 0.5)):
        draw.rectangle((left + 8, 28, left + 232, 352), outline="#bbbbbb")
        draw.text((left + 10, 8), title, fill="#666666", font=ImageFont.load_default(12))
        for point, colour, name in [*dots, (frame.target, "#1b6ca8", "target")]:
            x = left + 8 + 224 * float(np.clip((point[0] + 0.5) / 1.0, 0, 1))
            y = 352 - 324 * float(np.clip((point[vertical] - low) / (high - low), 0, 1))
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
            draw.text((x + 7, y - 7), name, fill=colour, font=ImageFont.load_default(10))
    return np.asarray(canvas, dtype=np.uint8)

"""Pictures of an episode, in one file: a strip of small JPEG frames, where the world has a renderer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIP_FILE, STRIP_FACTS = "frames.jpg", "frames.json"
MOST_FRAMES, WIDTH = 50, 240


def frames_of(folder: Path | None) -> dict[str, Any] | None:
    """The strip in a folder as a page draws it: `data` (an address that holds the picture), `width`, `height`, and `at`, the moment of each frame."""
    if folder is None or not (folder / STRIP_FILE).is_file():
        return None
    facts = json.loads((folder / STRIP_FACTS).read_text(encoding="utf-8"))
    picture = base64.b64encode((folder / STRIP_FILE).read_bytes()).decode("ascii")
    return {**facts, "data": f"data:image/jpeg;base64,{picture}"}


def write_strip(pictures: Mapping[int, NDArray[np.uint8]], folder: Path) -> None:
    """Write frames (H, W, 3), by their moments, as a strip, one below another."""
    from PIL import Image

    height, width = next(iter(pictures.values())).shape[:2]
    size = (WIDTH, round(WIDTH * height / width))
    strip = Image.new("RGB", (size[0], size[1] * len(pictures)))
    for place, picture in enumerate(pictures.values()):
        strip.paste(Image.fromarray(picture).resize(size), (0, place * size[1]))
    strip.save(folder / STRIP_FILE, quality=72)
    facts = {"width": size[0], "height": size[1], "at": list(pictures)}
    (folder / STRIP_FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")

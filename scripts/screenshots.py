"""The screenshots of docs/explorer.md, made anew: `python -m scripts.screenshots STUDY --root FOLDER`, of a study that has been run there."""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/pictures"
TOKEN = "a-token-for-screenshots"
WIDE, NARROW = (1280, 860), (390, 844)
COLOURS = 256
"""Of a picture: fewer make it small, and nobody sees it."""


def views(task: str) -> list[tuple[str, str, tuple[int, int], str]]:
    """File name, address, size and scheme of each screenshot."""
    return [
        ("explorer-library", "library?as=gallery", WIDE, "light"),
        ("explorer-skill", "skill/3?as=list", WIDE, "dark"),
        ("explorer-map", "skill/3?as=map", WIDE, "light"),
        ("explorer-playbook", f"playbook/{task}", WIDE, "light"),
        ("explorer-episode", f"episode/played-{task}__library?t=0.4", WIDE, "light"),
        ("explorer-episode-narrow", f"episode/played-{task}__library?t=0.4", NARROW, "dark"),
        ("explorer-library-narrow", "library?as=list", NARROW, "light"),
        ("explorer-study", "study", WIDE, "dark"),
        ("explorer-ask", "ask?q=shove+the+puck+behind+the+wall", WIDE, "light"),
    ]


def shoot(browser: Browser, address: str, name: str, view: str, size: tuple[int, int], scheme: str) -> None:
    """Write one of them."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{address}/#token={TOKEN}")
    page.wait_for_selector("h1")
    page.goto(f"{address}/#/{view}")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2500)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        plain = picture.convert("RGB")
        if "episode" not in name:  # whose frames have more colours
            plain = plain.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        plain.save(TARGET / f"{name}.png", optimize=True)
    context.close()


def main() -> None:
    """Serve the study, and take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--task", default="push-wall")
    options = parser.parse_args()
    browser_path = shutil.which("chromium")
    bundle = options.root / "checkpoints" / options.study / "bundle"
    command = [sys.executable, "-m", "lago_skills.flows.main", "--root", str(options.root), "serve", str(bundle)]
    command += ["--port", "0", "--study", options.study, "--edit"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "LAGO_TOKEN": TOKEN}
    ) as service:
        assert service.stderr is not None
        address = service.stderr.readline().split()[-1]
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=flags)
            for view in views(options.task):
                shoot(browser, address, *view)
            browser.close()
        service.terminate()


if __name__ == "__main__":
    main()

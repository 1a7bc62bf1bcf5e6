"""The numbers of docs/explorer.md: `python -m tests.explorer_speed STUDY --root FOLDER`, of a study that has been run there. Prints JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from lago_skills.artifacts.folder import writing
from lago_skills.core import Episode
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.explorer.records import PLAYED_DIR
from lago_skills.library import SkillLibrary
from lago_skills.stages.workspace import Workspace, open_workspace
from lago_skills.study import study_path
from tests.explored import FLAGS, chromium, many_skills
from tests.served import serving

N_SKILLS, N_STEPS = 10_000, 500
SIZES = (1280, 900), (640, 700)
"""Of the window in which the map is dragged."""
FRAMES = "async (seconds) => { const began = performance.now(); let n = 0; while (performance.now() - began < 1000 * seconds) { await new Promise((done) => requestAnimationFrame(done)); n += 1; } return n / seconds; }"
SCROLL = "async () => { const list = document.querySelector('.list'), began = performance.now(); let n = 0; while (performance.now() - began < 3000) { list.scrollTop += 137; await new Promise((done) => requestAnimationFrame(done)); n += 1; } return n / 3; }"
SCRUB = """async () => { const slider = document.getElementById('moment'), gaps = []; let last = performance.now();
  for (let i = 0; i < 500; i += 2) { slider.value = i; slider.dispatchEvent(new Event('input', { bubbles: true })); await new Promise((done) => requestAnimationFrame(done)); const now = performance.now(); gaps.push(now - last); last = now; }
  gaps.sort((one, other) => one - other); return { median_ms: gaps[125], p95_ms: gaps[237], worst_ms: gaps[249] }; }"""


def first_page(browser: Browser, address: str, n_skills: int) -> tuple[Page, float, int]:
    """A page with all skills, the seconds until its first ones were there, and the bytes that came for all of them."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0))))
    began = time.perf_counter()
    page.goto(f"{address}/#/library?as=list")
    page.wait_for_selector(".list li a")
    seconds = round(time.perf_counter() - began, 3)
    page.get_by_text(f"{n_skills:,} of {n_skills:,} skills").wait_for()
    return page, seconds, sum(sizes)


def list_speed(browser: Browser, address: str, n_skills: int) -> dict[str, Any]:
    """The first page, searches, and frames a second of the list."""
    tries = [first_page(browser, address, n_skills) for _ in range(3)]
    page = tries[-1][0]
    said: dict[str, Any] = {"first_page_s": [each[1] for each in tries], "bytes_with_all_skills": tries[-1][2]}
    said["search_ms"] = searches(page)
    page.get_by_label("Search skills by words").fill("")
    page.wait_for_timeout(200)
    return said | {"frames_per_s_idle": page.evaluate(FRAMES, 2), "frames_per_s_list": page.evaluate(SCROLL)}


def map_speed(browser: Browser, address: str, width: int, height: int) -> float:
    """Frames a second while the map is dragged."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"{address}/#/library?as=map")
    page.wait_for_selector("iframe[data-drawn]")
    page.wait_for_timeout(500)
    page.evaluate("lago.library.measure(3)")
    page.wait_for_selector("iframe[data-rate]")
    rate = float(page.get_attribute("iframe", "data-rate") or 0)
    page.close()
    return rate


def searches(page: Page) -> list[float]:
    """Milliseconds from a change of the words to the list that shows what has them."""
    spent: list[float] = []
    for words in ("p", "pu", "push", "push the d", "drawer slowly", "lid 42", "s0042", "zzz"):
        page.get_by_label("Search skills by words").fill(words)
        page.wait_for_timeout(80)
        spent.append(float(page.evaluate("document.getElementById('main').dataset.searched")))
    return spent


def long_episode(space: Workspace) -> str:
    """An episode of 500 steps on record: a task's demonstrations one after another; the name of its page."""
    task = space.study.seen[0].id
    shown = load_episodes(space.episodes(task) / EPISODES_FILE)
    times = -(-N_STEPS // sum(len(each.actions) for each in shown)) + 1
    observations = np.concatenate([each.observations[:-1] for each in shown] * times)[: N_STEPS + 1]
    actions: Any = np.concatenate([each.actions for each in shown] * times)[:N_STEPS]
    episode = Episode(task, 1, observations, actions, np.zeros(N_STEPS, np.float32), success=False, truncated=True)
    with writing(space.artifact(PLAYED_DIR, "long"), "play", {"long": N_STEPS}) as writer:
        save_episodes(writer.path / EPISODES_FILE, [episode])
        writer.summary = {"method": "library", "about": "demonstrations, one after another", "success": False}
    return "played-long"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--root", type=Path, required=True)
    options = parser.parse_args()
    space = open_workspace(options.root, study_path(options.study, options.root))
    name, bundle = long_episode(space), space.artifact("bundle")
    said: dict[str, Any] = {"load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        plain = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        drawing = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)  # WebGL without a graphics card
        big = Path(scratch) / "library"
        shutil.copytree(space.library, big)
        with SkillLibrary.open(big) as library:
            like = library.list()
        with serving(bundle, "--library", str(big)) as few:
            said["frames_per_s_map_of_few"] = [map_speed(drawing, few.address, *size) for size in SIZES]
        many_skills(big, N_SKILLS, like)
        with serving(bundle, "--library", str(big)) as many:
            said |= list_speed(plain, many.address, N_SKILLS + len(like))
            said["frames_per_s_map"] = [map_speed(drawing, many.address, *size) for size in SIZES]
        with serving(bundle, "--study", options.study, root=options.root) as running:
            page = plain.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{running.address}/#/episode/{name}")
            page.wait_for_selector("canvas")
            page.wait_for_timeout(1500)
            said["scrub_500_steps"] = page.evaluate(SCRUB)
        plain.close()
        drawing.close()
    shutil.rmtree(space.artifact(PLAYED_DIR, "long"))
    print(json.dumps(said, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()

"""The explorer as people use it: a real browser, the service as its own process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from lago_skills.guide.loaded import load
from lago_skills.library import SkillLibrary
from lago_skills.stages.workspace import Workspace
from tests.explored import browsing, copied, lago, many_skills, project, violations
from tests.served import Serving, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TOKEN = "a-token-that-nobody-guesses"
VIEWS = (
    "library?as=list",
    "library?as=gallery",
    "library?as=map",
    "skill/1",
    "playbook/fetch",
    "episodes",
    "episode/demo-fetch-0?t=3",
    "study",
    "ask?q=bring+the+parcel",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from browsing()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return project(tmp_path_factory.mktemp("explored") / "p")


@pytest.fixture(scope="module")
def site(made: Workspace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the pages of the study in a folder."""
    folder = tmp_path_factory.mktemp("site")
    lago(made.root, "report", "plane", "--site", str(folder))
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def shared(made: Workspace) -> Iterator[Serving]:
    """A service for tests that change nothing."""
    options = ("--study", "plane", "--edit")
    with serving(made.artifact("bundle"), *options, root=made.root, LAGO_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture
def space(made: Workspace, tmp_path: Path) -> Workspace:
    return copied(made, tmp_path / "copy")


@pytest.fixture
def service(space: Workspace) -> Iterator[Serving]:
    options = ("--study", "plane", "--edit")
    with serving(space.artifact("bundle"), *options, root=space.root, LAGO_TOKEN=TOKEN) as running:
        yield running


class Watched:
    """A page, what went wrong in it, and whom it asked."""

    def __init__(self, browser: Browser, scheme: str = "light", width: int = 1280) -> None:
        self.context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 900}
        )
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "disk"))
        self.page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))

    def open(self, service: Serving, view: str, *, token: bool = True) -> Page:
        if token:
            self.page.goto(f"{service.address}/#token={TOKEN}")
            expect(self.page.locator("h1")).not_to_have_count(0)
        self.page.goto(f"{service.address}/#/{view}")
        return self.page


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    one = Watched(browser)
    yield one
    one.context.close()
    assert one.errors == []
    assert one.hosts <= {"127.0.0.1", "disk"}


def test_skills_are_searched_while_one_types(watched: Watched, shared: Serving) -> None:
    page = watched.open(shared, "library?as=list")
    expect(page.get_by_role("status").filter(has_text="2 of 2 skills")).to_be_visible()
    page.get_by_label("Search skills by words").fill("PARCEL")
    expect(page.get_by_role("status").filter(has_text="1 of 2 skills")).to_be_visible()
    page.get_by_role("link", name=re.compile("drive straight to the parcel")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("drive straight to the parcel")
    assert "q=PARCEL" in page.url  # so that the list stays as it was
    page.get_by_role("button", name="By meaning").click()
    expect(page.get_by_role("dialog").get_by_role("listitem")).to_have_count(2)


def test_words_are_changed_with_a_preview_and_undone(watched: Watched, service: Serving) -> None:
    page = watched.open(service, "skill/1")
    page.get_by_label("editing as").fill("ann")
    page.get_by_role("button", name="Change words").click()
    words = page.get_by_label(re.compile("^Sentence"))
    words.fill("steer the cart to the depot")
    save = page.get_by_role("button", name="Save")
    expect(save).to_be_disabled()  # nobody saves what nobody has looked at
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("The latent moves: cosine")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("before and after")).to_be_visible()
    save.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("steer the cart to the depot")
    expect(page.get_by_text("edit by ann")).to_be_visible()
    page.get_by_role("button", name="Undo this change").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("drive straight to the goal")


def test_a_skill_is_disabled_and_guidance_changes(watched: Watched, service: Serving, space: Workspace) -> None:
    state = [[0.0, 0.0, 0.5, -0.5, 0.5, 0.5, 0.0, 0.0, 0.5, -0.5]]

    def skills() -> list[str]:
        asked = json.dumps({"observations": state, "task": "fetch", "want": ["explanation"]}).encode()
        status, said = service.ask(asked, Authorization=f"Bearer {TOKEN}")
        assert status == 200
        return [each["id"] for each in said["explanation"][0]["skills"]]

    assert "s0002" in skills()
    page = watched.open(service, "skill/2")
    page.get_by_role("button", name="Disable…").click()
    expect(page.get_by_text("s0001 comes first instead of s0002").first).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Disable it").click()
    expect(page.get_by_role("article").get_by_text("disabled", exact=True)).to_be_visible()
    assert skills() == ["s0001"]
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("article").get_by_text("enabled", exact=True)).to_be_visible()
    assert "s0002" in skills()


def test_the_second_of_two_editors_is_told_and_loses_nothing(
    browser: Browser, watched: Watched, service: Serving
) -> None:
    other = Watched(browser)
    pages = [watched.open(service, "skill/1"), other.open(service, "skill/1")]
    for page, words in zip(pages, ("what ann wants", "what bob wants"), strict=True):
        page.get_by_role("button", name="Change words").click()
        page.get_by_label(re.compile("^Sentence")).fill(words)
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_text("The latent moves")).to_be_visible(timeout=20_000)
    for page in pages:
        page.get_by_role("button", name="Save").click()
        page.wait_for_timeout(300)
    told = pages[1].get_by_role("alert")
    expect(told.get_by_text("Somebody else has changed this skill meanwhile")).to_be_visible()
    expect(told.get_by_text("what ann wants").first).to_be_visible()
    expect(pages[1].get_by_label(re.compile("^Sentence"))).to_have_value("what bob wants")
    told.get_by_role("button", name="Keep mine, and preview it on theirs").click()
    expect(pages[1].get_by_text("The latent moves")).to_be_visible(timeout=20_000)
    pages[1].get_by_role("button", name="Save").click()
    expect(pages[1].get_by_role("heading", level=1)).to_have_text("what bob wants")
    expect(pages[1].get_by_text("what ann wants").first).to_be_visible()  # in the history
    assert other.errors == []
    other.context.close()


def test_a_threshold_is_moved_and_the_states_change_owners(watched: Watched, shared: Serving) -> None:
    page = watched.open(shared, "playbook/fetch")
    first = page.get_by_role("listitem").filter(has_text="1. drive straight to the goal")
    share = first.get_by_text(re.compile("% of the recorded states"))
    expect(share).to_be_visible()
    before = share.inner_text()
    box = first.get_by_role("spinbutton")
    box.fill("1.9")
    expect(share).not_to_have_text(before)
    expect(share).to_have_text(re.compile("100 % of the recorded states"))
    page.get_by_role("button", name="Lint it").click()
    expect(page.get_by_text(re.compile("Nothing is wrong by logic"))).to_be_visible()
    page.get_by_role("button", name="As it was").click()
    expect(
        page.get_by_role("listitem").filter(has_text="1. drive").get_by_text(re.compile("recorded states"))
    ).to_have_text(before)


def test_every_moment_of_an_episode_has_an_address(watched: Watched, shared: Serving) -> None:
    page = watched.open(shared, "episode/demo-fetch-0?t=3")
    moment = page.get_by_label("Moment of the episode")
    expect(moment).to_have_value("3")
    expect(page.get_by_text("Step 2 of 2")).to_be_visible()
    moment.focus()
    page.keyboard.press("End")
    expect(page.get_by_text("Step 1 of 2")).to_be_visible()
    last = moment.input_value()
    page.wait_for_url(lambda address: f"t={last}" in address)
    page.reload()
    expect(page.get_by_label("Moment of the episode")).to_have_value(last)
    like = page.get_by_role("link", name=re.compile(r"fetch: demonstration \d+ of 8, step"))
    like.first.click()
    expect(page.get_by_label("Moment of the episode")).not_to_have_value("0")
    page.get_by_label("beside it").select_option(index=1)
    expect(page.get_by_role("heading", level=2, name=re.compile("demonstration"))).to_have_count(2)


def test_a_number_is_traced_to_the_answer_behind_it(watched: Watched, shared: Serving) -> None:
    page = watched.open(shared, "study")
    expect(page.get_by_text("1 artifact is not made yet")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Where the number of fetch-south")).click()
    expect(page.get_by_text("answers/fetch-south")).to_be_visible()
    page.get_by_role("listitem").filter(has_text="answers/fetch-south").last.get_by_role(
        "link", name="read the answer"
    ).click()
    page.get_by_text("What was asked and answered").click()
    expect(page.get_by_text("A cart on a square carries parcels.").first).to_be_visible()


SENTENCES = ("<img src=x onerror=alert(1)><script>alert(2)</script>", "افتح الدرج بلطف", "open 🚪", "x" * 2000)


def test_any_sentence_stays_text(watched: Watched, service: Serving, space: Workspace) -> None:
    page = watched.open(service, "library?as=list")
    for words in SENTENCES:
        with SkillLibrary.open(space.library, mode="write") as library:
            library.edit(1, sentence=words, who="<script>alert(3)</script>")
        page.goto(f"{service.address}/#/skill/1")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text(words)
        assert page.locator("main img, main script").count() == 0
        page.goto(f"{service.address}/#/library?as=list")
        expect(page.get_by_text(words[:400]).first).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1


def test_a_page_outlives_its_service(watched: Watched, space: Workspace) -> None:
    with serving(space.artifact("bundle"), "--study", "plane", root=space.root) as running:
        page = watched.open(running, "skill/1", token=False)
        expect(page.get_by_role("heading", level=1)).to_have_text("drive straight to the goal")
        expect(page.get_by_role("button", name="Change words")).to_have_count(0)  # it only shows
    page.get_by_role("link", name="Playbooks").click()
    expect(page.get_by_text("The service does not answer").first).to_be_visible(timeout=10_000)


def test_without_the_token_nothing_is_changed_and_it_is_asked_for(watched: Watched, space: Workspace) -> None:
    with serving(space.artifact("bundle"), "--study", "plane", "--edit", root=space.root, LAGO_TOKEN="") as running:
        page = watched.open(running, "skill/1", token=False)
        page.get_by_role("button", name="Disable…").click()
        expect(page.get_by_label("Token")).to_be_visible()
        expect(page.get_by_text("This needs the token")).to_be_visible()
    with SkillLibrary.open(space.library) as library:
        assert library.get(1).enabled


def test_keys_alone_lead_from_the_list_to_a_skill(watched: Watched, shared: Serving) -> None:
    page = watched.open(shared, "library?as=list")
    expect(page.get_by_role("link", name=re.compile("drive straight to the parcel"))).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.list')"):
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("drive straight to the parcel")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_view(browser: Browser, shared: Serving, scheme: str) -> None:
    watched = Watched(browser, scheme)
    found: dict[str, list[str]] = {}
    for view in VIEWS:
        page = watched.open(shared, view, token=view == VIEWS[0])
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(250)
        if wrong := violations(page):
            found[view] = wrong
    watched.context.close()
    assert found == {}
    assert watched.errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_folder_are_read_from_disk(browser: Browser, site: str, width: int) -> None:
    watched = Watched(browser, width=width)
    page = watched.page
    for view in VIEWS:
        page.goto(f"{site}#/{view}")
        expect(page.locator("main h1")).not_to_have_count(0)
        expect(page.get_by_text("This cannot be shown")).to_have_count(0)
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, view
    assert watched.errors == []
    assert watched.hosts == {"disk"}
    watched.context.close()


def test_ten_thousand_skills_are_a_small_first_page(watched: Watched, space: Workspace) -> None:
    with SkillLibrary.open(space.library) as library:
        like = library.list()
    many_skills(space.library, 10_000, like)
    packed = 0

    def count(response: object) -> None:
        nonlocal packed
        packed += int(getattr(response, "headers", {}).get("content-length", 0))

    with serving(space.artifact("bundle"), "--library", str(space.library)) as running:
        watched.page.on("response", count)
        page = watched.open(running, "library?as=list", token=False)
        expect(page.get_by_text("10,002 of 10,002 skills")).to_be_visible(timeout=20_000)
        assert packed < 300_000
        page.get_by_label("Search skills by words").fill("drawer 4242 ")
        expect(page.get_by_text(re.compile("^[01] of 10,002 skills"))).to_be_visible()
        assert page.locator(".list li").count() < 60
        page.get_by_role("button", name="Map").click()
        page.wait_for_selector("iframe[data-drawn='10002']", timeout=30_000)
    guide = load(space.artifact("bundle"))
    assert np.isfinite(guide.act(np.zeros(10), "fetch")).all()
    guide.close()

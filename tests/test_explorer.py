"""The explorer without a browser: documents, doors, changes, pages in a folder."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lago_skills
from lago_skills.commands.cli import main
from lago_skills.errors import StudyError
from lago_skills.explorer import documents, latents
from lago_skills.explorer.doors import Explorer
from lago_skills.explorer.pages import page_files
from lago_skills.explorer.playing import jobs
from lago_skills.explorer.records import FollowedStudy, StudyRecords
from lago_skills.explorer.site import export
from lago_skills.explorer.source import Source
from lago_skills.explorer.writing import LibraryWriter
from lago_skills.library import SkillLibrary
from lago_skills.prior import DiscretePrior
from lago_skills.serve.access import Access
from lago_skills.serve.service import Service
from lago_skills.serve.site import Answered, Asked
from lago_skills.stages.workspace import Workspace, open_workspace
from tests.explored import copied, dial, lago, project

pytestmark = pytest.mark.slow
TOKEN = "a token that nobody guesses"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    space = project(tmp_path_factory.mktemp("explored") / "p")
    for job in jobs(space):
        job.run(lambda done, note: None)
    return space


@pytest.fixture
def source(made: Workspace) -> Iterator[Source]:
    guide = lago_skills.load(made.artifact("bundle"))
    yield Source(guide, StudyRecords(made))
    guide.close()


class Editing:
    """An explorer over a copy of the project, and how it is asked."""

    def __init__(self, space: Workspace) -> None:
        self.space = space
        self.service = Service(space.artifact("bundle"), space.library)
        writer = LibraryWriter(space.library, space)
        self.explorer = Explorer(self.service, Access(), FollowedStudy(space), writer, Access(TOKEN))

    def post(self, action: str, /, token: str = TOKEN, **fields: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {token}"}
        return self.read(self.explorer(Asked("POST", f"do/{action}", headers, json.dumps(fields).encode())))

    def get(self, name: str) -> Any:
        status, said = self.read(self.explorer(Asked("GET", f"data/{name}", {})))
        assert status == 200, said
        return said

    @staticmethod
    def read(answered: Answered | None) -> tuple[int, Any]:
        assert answered is not None
        return answered.status, json.loads(answered.content)


@pytest.fixture
def editing(made: Workspace, tmp_path: Path) -> Iterator[Editing]:
    one = Editing(copied(made, tmp_path / "copy"))
    yield one
    one.service.close()


def test_every_document_is_json_that_a_script_may_hold(source: Source) -> None:
    names = list(documents.names(source))
    assert len(names) == len(set(names))
    assert {"home", "map", "plan-fetch-south", "episode-demo-visit-0", "skill-1", "motion-1"} <= set(names)
    for name in names:
        text = documents.written(source, name)
        assert "error" not in json.loads(text), (name, text[:300])
        assert "<" not in text


def test_an_episode_says_at_each_moment_what_the_guide_says(source: Source) -> None:
    episode = documents.document(source, "episode-demo-fetch-0")
    assert source.records is not None
    shown = source.records.demonstrations["fetch"][0]
    states = shown.observations[:-1].astype(np.float64)
    retrieval = source.guide.retrieve(states, "fetch")
    assert episode["step"] == retrieval.steps.tolist()
    prior = source.guide.prior(states, "fetch")
    assert isinstance(prior, DiscretePrior)
    np.testing.assert_allclose(episode["probabilities"], prior.probabilities(), atol=1e-3)
    first = episode["conditions"][0][0]
    assert [each == "1" for each in first["held"]] == (source.guide.grounding.read(states).values[:, 6] < 0.05).tolist()
    # A moment's neighbours are of other episodes, and as near as it is said.
    own = episode["like"]["episodes"].index("demo-fetch-0")
    assert all(own not in row for row in episode["like"]["of"])


def test_states_and_thresholds_give_the_steps_that_the_guide_follows(source: Source) -> None:
    """What a page computes from these two documents is what `CompiledPlaybook` says."""
    plan, states = documents.document(source, "plan-fetch"), documents.document(source, "states-fetch")
    assert source.records is not None
    steps = plan["plans"][0]["steps"]
    for episode in states["episodes"]:
        rows = np.array(episode["values"]).T  # (T, features)
        owners: list[int] = []
        for row in rows:
            value = dict(zip(states["features"], row, strict=True))
            holds = [
                all(
                    value[c["feature"]] < c["value"] if c["op"] == "<" else value[c["feature"]] > c["value"]
                    for c in step["when"]
                )
                for step in steps
            ]
            owners.append(holds.index(True))
        recorded = next(each for each in source.records.recorded if each.name == episode["name"])
        states_ = recorded.episode.observations[:-1][episode["at"]].astype(np.float64)
        assert owners == source.guide.retrieve(states_, "fetch").steps.tolist()


def test_a_skills_card_has_where_it_comes_from_and_what_it_does(source: Source) -> None:
    card = documents.document(source, "skill-1")
    assert card["sentence"] == source.library.get(1).sentence
    assert card["history"][-1]["who"] == "build"
    assert card["does"]["states"] > 10
    assert card["like_in_behaviour"][0]["id"] == 2
    assert card["like_in_words"][0]["id"] == 2
    assert card["answers"][0]["weight"] > 0.0
    motion = documents.document(source, "motion-1")
    assert motion["clips"]
    assert motion["where"]
    version = documents.document(source, "plan-fetch")["versions"][0]
    assert "bring the parcel to the depot" in version["prompt"]
    assert json.loads(version["response"])["steps"]


def test_plans_in_words_and_worlds_without_anchors_are_shown(tmp_path: Path) -> None:
    for space, task in ((project(tmp_path / "words", "words"), "fetch"), (dial(tmp_path / "dial"), "raise")):
        guide = lago_skills.load(space.artifact("bundle"))
        source = Source(guide, StudyRecords(space))
        for name in documents.names(source):
            assert "error" not in json.loads(documents.written(source, name)), name
        plan = documents.document(source, f"plan-{task}")["plans"][0]
        episode = documents.document(source, f"episode-demo-{task}-0")
        assert len(episode["step"]) == episode["steps"]
        if task == "fetch":
            assert plan["steps"][1]["about"] == ["parcel", "goal"]
            assert sorted(set(episode["step"])) == [0, 1]
        else:
            assert episode["anchors"] == []
            assert episode["prior"][0] != []
        guide.close()


def test_files_come_with_a_strict_policy_and_packed(editing: Editing) -> None:
    answered = editing.explorer(Asked("GET", "", {"accept-encoding": "gzip"}))
    assert answered is not None
    policy = answered.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert b"<main" in gzip.decompress(answered.content)
    assert editing.explorer(Asked("GET", "nowhere", {})) is None
    assert editing.explorer(Asked("GET", "../pyproject.toml", {})) is None
    strange = editing.explorer(Asked("GET", "data/home", {"host": "evil.example"}))
    assert strange is not None
    assert strange.status == 403
    for name, content in page_files().items():
        assert b"http://" not in content.replace(b"http://www.w3.org", b"") or name.startswith("vendor/"), name


def test_words_are_changed_undone_and_the_second_editor_is_told(editing: Editing) -> None:
    before = editing.get("skill-1")
    status, seen = editing.post("preview", id=1, sentence="steer the cart to the depot")
    assert status == 200
    assert seen["cosine"] < 1.0
    assert seen["before"] != seen["after"]
    assert editing.get("skill-1") == before  # a preview changes nothing
    status, first = editing.post("edit", id=1, version=1, sentence="steer the cart to the depot", who="ann")
    assert status == 200
    assert editing.get("skill-1")["sentence"] == "steer the cart to the depot"  # at once
    assert editing.get("skill-1")["history"][0]["who"] == "ann"
    assert editing.service.bundle.guide.library.change == first["change"]
    status, told = editing.post("edit", id=1, version=1, sentence="mine", who="bob")
    assert status == 409
    assert "found version 2, by ann" in told["error"]
    assert editing.get("skill-1")["sentence"] == "steer the cart to the depot"
    for action in ("disable", "enable"):
        assert editing.post(action, id=1, version=1, who="bob")[0] == 409
    assert editing.post("merge", id=1, version=1, into=2, who="bob")[0] == 409
    assert editing.post("undo", change=first["change"], who="ann")[0] == 200
    assert editing.get("skill-1")["sentence"] == before["sentence"]


def test_a_disabled_skill_is_foreseen_and_then_seen_in_guidance(editing: Editing) -> None:
    state = np.zeros((1, 10))
    told = editing.get("skill-1")["answers"][0]
    guide = editing.service.bundle.guide
    before = guide.neighbors(told["plan"])[0].ids[told["step"] - 1].tolist()
    status, seen = editing.post("consequences", id=1)
    assert status == 200
    assert any(each["plan"] == told["plan"] for each in seen["steps"])
    assert seen["actions"]
    assert editing.post("disable", id=1, version=1, who="ann")[0] == 200
    editing.get("state")  # which waits until searches see it
    assert 1 in before
    assert 1 not in guide.neighbors(told["plan"])[0].ids[told["step"] - 1].tolist()
    assert np.isfinite(guide.prior(state, "fetch").log_ratio(np.array([0]))).all()
    assert editing.post("disable", id=2, version=1, who="ann")[0] == 200
    status, told = editing.post("consequences", id=2)
    assert status == 422
    assert "found no enabled skill" in told["error"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": 1, "version": 1, "sentence": "x" * 5000}, "found a skill sentence of 5000 characters"),
        ({"id": 1, "version": 1, "sentence": "  "}, "expected 1 to 2000"),
        ({"id": 1, "version": True, "sentence": "go"}, "expected a whole number"),
        ({"id": 1, "version": 1}, "sentence: found NoneType; expected a text"),
        ({"id": 99, "version": 1, "sentence": "go"}, "s0099"),
    ],
)
def test_wrong_changes_are_refused_in_a_sentence(editing: Editing, fields: dict[str, Any], said: str) -> None:
    status, told = editing.post("edit", **fields)
    assert status == 422
    assert said in told["error"]


@pytest.mark.parametrize("sentence", ["<script>alert(1)</script>", "افتح الدرج", "open 🚪 gently", 'a "quoted" \\ one'])
def test_any_text_is_kept_as_it_is(editing: Editing, sentence: str) -> None:
    assert editing.post("edit", id=1, version=1, sentence=sentence, who="<b>ann</b>")[0] == 200
    answered = editing.explorer(Asked("GET", "data/skill-1", {}))
    assert answered is not None
    assert b"<" not in answered.content
    assert json.loads(answered.content)["sentence"] == sentence


def test_nothing_is_changed_without_the_token_or_on_a_service_that_only_shows(editing: Editing) -> None:
    status, told = editing.post("edit", token="another", id=1, version=1, sentence="go")
    assert status == 401
    assert "found no valid token" in told["error"]
    shows = Explorer(editing.service, Access())
    status, told = Editing.read(shows(Asked("POST", "do/edit", {"authorization": f"Bearer {TOKEN}"}, b"{}")))
    assert status == 403
    assert "expected one that was started with --edit" in told["error"]
    for body in (b"[]", b"\xff", b"{"):
        asked = Asked("POST", "do/edit", {"authorization": f"Bearer {TOKEN}"}, body)
        assert Editing.read(editing.explorer(asked))[0] == 400
    with SkillLibrary.open(editing.space.library) as library:
        assert library.get(1).version == 1


def test_a_plan_is_linted_tried_and_kept_as_a_version(editing: Editing) -> None:
    plan = editing.get("plan-fetch")["plans"][0]
    never = json.loads(json.dumps(plan["json"]))
    never["steps"][0]["when"][0]["value"] = -0.5  # a distance is never negative
    status, told = editing.post("lint", plan="fetch", text=json.dumps(never))
    assert status == 200
    assert any("impossible" in each for each in told["findings"])
    status, told = editing.post("rollout", plan="fetch", text=json.dumps(never))
    assert status == 200
    assert [row["successes"] for row in told["rows"]] == [4, 0]
    wider = json.loads(json.dumps(plan["json"]))
    wider["steps"][0]["when"][0]["value"] = 0.06
    assert editing.post("plan", task="fetch", text=json.dumps(wider), who="ann")[0] == 200
    versions = StudyRecords(editing.space).playbook("fetch")["versions"]
    assert [each["in_use"] for each in versions] == [False, True]
    assert "by ann" in versions[1]["source"]
    assert any(line.startswith("+") and "0.06" in line for line in versions[1]["difference"])
    status, told = editing.post("plan", task="fetch", text='{"steps": [{"skill": "go"}]}', who="ann")
    assert status == 422
    assert "is not valid" in told["error"]


def test_a_sentence_finds_skills_and_the_planners_request(editing: Editing) -> None:
    status, told = editing.post("ask", sentence="take the box to the goal")
    assert status == 200
    assert told["match"] is None  # nobody has recorded wordings of this study
    assert {each["id"] for each in told["skills"]} == {1, 2}
    assert '"take the box to the goal"' in told["request"]["prompt"]
    status, told = editing.post("ask", sentence=" ")
    assert status == 422


def test_pages_in_a_folder_hold_all_documents_and_replace_older_ones(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    count = export(source, folder)
    scripts = list((folder / "data").glob("*.js"))
    assert len(scripts) == count
    text = (folder / "data/home.js").read_text(encoding="utf-8")
    assert text.startswith('lago.take("home",')
    (folder / "data/old.js").write_text("", encoding="utf-8")
    export(source, folder)
    assert not (folder / "data/old.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StudyError, match="expected an empty folder"):
        export(source, tmp_path / "mine")


def test_pages_of_an_unfinished_study_say_what_is_missing(made: Workspace, tmp_path: Path) -> None:
    space = copied(made, tmp_path / "copy")
    lago(space.root, "report", "plane", "--site", str(tmp_path / "site"), "--no-play")
    text = (tmp_path / "site/data/study.js").read_text(encoding="utf-8")
    said = json.loads(text.removeprefix('lago.take("study",').removesuffix(");\n"))
    assert said["missing"] == ["runs/fetch-south__ppo__s0"]
    assert [row["task"] for row in said["rows"]] == ["fetch-south"]
    assert said["lineage"]["made_from"]["bundle"]


def test_what_waits_for_approval_is_shown_and_decided(made: Workspace, tmp_path: Path) -> None:
    space = copied(made, tmp_path / "copy")
    text = space.study_file.read_text(encoding="utf-8")
    space.study_file.write_text('approve = ["playbooks"]\n' + text, encoding="utf-8")
    editing = Editing(open_workspace(space.root, space.study_file))
    (waiting,) = editing.get("study")["waiting"]
    assert any("drive straight to the parcel" in line for line in waiting["difference"])
    decision = {"what": "playbooks", "verdict": "approved", "who": "ann"}
    status, told = editing.post("approve", digest="0000", **decision)
    assert status == 409  # somebody looked at another one
    assert "they have changed meanwhile" in told["error"]
    assert editing.post("approve", digest=waiting["digest"], **decision)[1]["by"] == "ann"
    assert editing.get("study")["waiting"] == []
    status, told = editing.post("approve", digest=waiting["digest"], **decision)
    assert status == 422
    editing.service.close()


def test_a_run_at_work_is_shown_as_it_goes(editing: Editing) -> None:
    assert editing.get("curves") == {"runs": []}
    folder = editing.space.artifact("unfinished", "fetch-south__ppo__s0")
    folder.mkdir(parents=True)
    (folder / "curve.csv").write_text(
        "step,eval/success,train/prior_share\n100,0.25,1.0\n200,nan,0.5\n", encoding="utf-8"
    )
    (run,) = editing.get("curves")["runs"]
    assert run["state"] == "running"
    assert (run["step"], run["success"], run["prior_share"]) == ([100, 200], [0.25, None], [1.0, 0.5])
    (folder / "curve.csv").write_text("step,eval/succ", encoding="utf-8")  # just being written
    assert editing.get("curves")["runs"][0]["step"] == []


def test_a_package_that_is_missing_is_named(editing: Editing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    latents.text_model.cache_clear()
    status, told = editing.post("preview", id=1, sentence="words that nobody has embedded")
    assert status == 422
    assert "pip install 'lago-skills[text]'" in told["error"]


def test_pictures_are_drawn_as_png_and_svg(made: Workspace, tmp_path: Path) -> None:
    for kind in ("success", "latents", "timeline"):
        for ending, begins in (("png", b"\x89PNG"), ("svg", b"<?xml")):
            path = tmp_path / f"{kind}.{ending}"
            lago(made.root, "picture", kind, "plane", "--to", str(path))
            content = path.read_bytes()
            assert content.startswith(begins)
            lago(made.root, "picture", kind, "plane", "--to", str(path))
            assert path.read_bytes() == content  # the same again
    assert b"drive straight to the parcel" in (tmp_path / "timeline.svg").read_bytes()
    film = tmp_path / "film.gif"
    lago(made.root, "picture", "animation", "plane", "--to", str(film))
    with Image.open(film) as frames:
        assert getattr(frames, "n_frames", 1) > 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("curves", "plane"), "run: lago train plane"),
        (("growth", "plane"), "run: lago grow plane"),
        (("reliability", "plane"), "found discrete actions"),
        (("latents", "plane", "--task", "nothing"), "found no enabled skill of task 'nothing'"),
        (("latents", "plane", "--to", "x.jpg"), "expected a name that ends in .png or .svg"),
        (("animation", "plane", "--to", "x.png"), "expected a name that ends in .gif"),
        (("animation", "plane", "--task", "nothing"), "found task 'nothing'"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    made: Workspace, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code = main(["--root", str(made.root), "picture", *arguments], lambda space, names, runner: None)
    assert code == 2
    assert said in capsys.readouterr().err

"""`lago skills ...`: read and change a skill library by hand. Each action is one method of `SkillLibrary`, or one function beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lago_skills.commands.terminal import print_lines
from lago_skills.commands.versions import rollback
from lago_skills.core import Skill, skill_name
from lago_skills.errors import LibraryConflict, LibraryDamaged, ShapeError
from lago_skills.explorer.latents import behaviour_of, decoder_of, encode_sentence
from lago_skills.guide.bundle import DECODER_FILE, library_folder
from lago_skills.guide.skill_story import story, uses
from lago_skills.library import SkillLibrary, exchange
from lago_skills.library.duplicates import Duplicate, near_duplicates
from lago_skills.library.storage.repair import repair
from lago_skills.library.storage.sqlite_file import STORE_FILE
from lago_skills.library.storage.store import Mode
from lago_skills.library.storage.verify import verify

Row = dict[str, Any]
Answer = tuple[list[Row], Row, list[str]]
"""Rows and summary for --json, and lines for people."""


def skills_command(options: argparse.Namespace) -> int:
    """Do what `lago skills ACTION` says; returns the exit code.

    Raises:
        LagoError: what the library raised.
    """
    rows, summary, lines = ACTIONS[str(options.action)](options)
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201
    else:
        print_lines(lines)
    return int(summary.get("exit_code", 0))


def find(name: str, root: Path) -> Path:
    """The folder of a library named by a study or its file, by its own folder or by a bundle's.

    Raises:
        LibraryDamaged: there is none.
    """
    given = Path(name)
    studies = root / "data" / "libraries"
    for folder in (given, library_folder(given), studies / (given.stem if given.suffix == ".toml" else name)):
        if (folder / STORE_FILE).exists() or (folder / exchange.OLD_RECORDS_FILE).is_file():
            return folder
    known = sorted(path.parent.name for path in studies.glob(f"*/{STORE_FILE}"))
    expected = f"{f'one of {known}' if known else 'that of a built study'}, a folder with {STORE_FILE}, or a bundle"
    raise LibraryDamaged(f"found no skill library {name!r}; expected {expected}; build one with: lago build STUDY")


def _folder(options: argparse.Namespace) -> Path:
    return find(str(options.library), options.root)


def _open(options: argparse.Namespace, mode: Mode = "read") -> SkillLibrary:
    folder = _folder(options)
    frozen = (folder.parent / DECODER_FILE).is_file()  # a bundle's
    return exchange.open_any(folder, "frozen" if frozen else mode, options.timeout)


def skill_id(text: str) -> int:
    """`s0042` or `42` -> 42.

    Raises:
        LibraryConflict: it is neither.
    """
    try:
        return int(text.removeprefix("s"))
    except ValueError:
        raise LibraryConflict(
            f"found skill {text!r}; expected an id such as s0042; lago skills list shows them"
        ) from None


def _record(skill: Skill) -> Row:
    return {
        "id": skill.id,
        "name": skill.name,
        "version": skill.version,
        "sentence": skill.sentence,
        "enabled": skill.enabled,
        "merged_into": skill.merged_into,
        "tasks": skill.provenance.get("tasks", []),
        "support": skill.support,
    }


def _line(skill: Skill) -> str:
    state = f"merged into {skill_name(skill.merged_into)}" if skill.merged_into else "" if skill.enabled else "disabled"
    tasks = ", ".join(str(task) for task in skill.provenance.get("tasks", []))
    return (
        f"{skill.name}  v{skill.version}  {skill.sentence}"
        + (f"  [{tasks}]" if tasks else "")
        + (f"  ({state})" if state else "")
    )


def _list(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        skills = library.list(
            contains=options.contains,
            task=options.task,
            enabled=False if options.disabled else None,
            after=skill_id(options.after),
            limit=options.limit,
        )
        summary: Row = {"records": len(library), "active": library.n_active, "decoder": library.decoder}
        summary["change"] = library.change
    lines = [_line(skill) for skill in skills]
    if len(skills) == options.limit:
        lines.append(f"more: --after {skills[-1].name}")
    lines.append(f"{summary['records']} records, {summary['active']} of them found by searches")
    return [_record(skill) for skill in skills], summary, lines


def _show(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        skill = library.get(skill_id(options.skill))
        versions = library.history(skill.id)
    row = {
        **_record(skill),
        "provenance": skill.provenance,
        "latent": skill.latent.tolist(),
        "embedded": skill.embedding is not None,
    }
    details = [
        f"{name}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in (row | {"latent": skill.latent.round(3).tolist()}).items()
        if name not in ("id", "name")
    ]
    changed = [f"v{s.version}  {c.at}  {c.who}  {c.action} (change {c.id})" for c, s in versions]
    return [row], {}, [skill.name, *details, *changed]


def _search(options: argparse.Namespace) -> Answer:
    given = [options.words is not None, options.latent is not None, options.obs is not None]
    if sum(given) != 1:
        raise LibraryConflict(
            f"found {sum(given)} things to search by; expected one: words, --latent or --obs; give just one of them"
        )
    with _open(options) as library:
        if options.words is not None:
            _, latent = encode_sentence(_folder(options), library, options.words)
        elif options.latent is not None:
            latent = _vector(options.latent)
        else:
            latent = _latent_in_state(_folder(options), library, options)
        neighbors = library.search(latent[None], options.k, options.task)
        pairs = [
            (library.get(int(i)), float(s))
            for i, s in zip(neighbors.ids[0], neighbors.scores[0], strict=True)
            if i >= 0
        ]
    rows = [{**_record(skill), "score": round(score, 4)} for skill, score in pairs]
    return rows, {}, [f"{score:6.3f}  {_line(skill)}" for skill, score in pairs] or ["no enabled skill found"]


def _vector(path: Path) -> NDArray[np.float64]:
    try:
        raw = (
            np.load(path, allow_pickle=False)
            if path.suffix == ".npy"
            else np.array(json.loads(path.read_text(encoding="utf-8")))
        )
        return np.asarray(raw, np.float64).reshape(-1)
    except (OSError, ValueError, TypeError) as error:
        raise ShapeError(
            f"{str(path)!r} cannot be read ({error}); expected a JSON list of numbers, or .npy; correct the file"
        ) from error


def _latent_in_state(folder: Path, library: SkillLibrary, options: argparse.Namespace) -> NDArray[Any]:
    """What the bundle's guide looks skills up with in an observation: the latent of the active step of the playbook, or a learned one."""
    from lago_skills.guide.bundle import load_bundle

    bundle = (
        folder.parent
        if (folder.parent / DECODER_FILE).is_file()
        else options.root / "checkpoints" / folder.name / "bundle"
    )
    if not (bundle / DECODER_FILE).is_file() or options.task_of is None:
        raise LibraryConflict(
            f"search by state: found --task-of {options.task_of!r} and no bundle in {str(bundle)!r}"
            if options.task_of
            else "search by state: found no --task-of; expected the task that is being done; add it"
        )
    guide = load_bundle(bundle)
    observation = _vector(options.obs)[None]
    retrieval = guide.retrieve(observation, options.task_of)
    step = int(retrieval.steps[0])
    sentence = guide.books[options.task_of].steps[step].sentence
    print(f"active step {step + 1} of {options.task_of}: {sentence}", file=sys.stderr)  # noqa: T201
    return retrieval.queries[0]


def _duplicate_row(duplicate: Duplicate) -> Row:
    return {**asdict(duplicate), "near": duplicate.near}


def _duplicate_lines(library: str, new: str, duplicates: list[Duplicate]) -> list[str]:
    lines: list[str] = []
    for d in duplicates:
        words = "" if d.words is None else f", words {d.words:.2f}"
        actions = "" if d.actions is None else f", actions differ by {d.actions:.2f}"
        kind = "does the same as" if d.near else "has much the same words as"
        lines.append(f"{new} {kind} {skill_name(d.id)} {d.sentence!r} (latent {d.latent:.2f}{words}{actions})")
        if d.near:
            lines.append(f"  to merge them: lago skills merge {library} {new} --into {skill_name(d.id)}")
    return lines


def _duplicates(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        skill = library.get(skill_id(options.skill))
        duplicates = near_duplicates(
            library,
            skill.sentence,
            skill.latent,
            embedding=skill.embedding,
            behaviour=behaviour_of(_folder(options), library),
            exclude_id=skill.id,
        )
    lines = _duplicate_lines(options.library, skill.name, duplicates) or [f"{skill.name} has no near duplicate"]
    return [_duplicate_row(d) for d in duplicates], {"id": skill.id}, lines


def _add(options: argparse.Namespace) -> Answer:
    folder = _folder(options)
    with _open(options, "write") as library:
        embedding, latent = encode_sentence(folder, library, options.sentence)
        alike = near_duplicates(
            library, options.sentence, latent, embedding=embedding, behaviour=behaviour_of(folder, library)
        )
        added = library.add(
            options.sentence,
            latent,
            embedding=embedding,
            provenance={"by": "hand", "tasks": options.task},
            who=options.who,
        )
        skill = library.get(added)
    lines = [f"added {_line(skill)}", *_duplicate_lines(options.library, skill.name, alike)]
    return [_record(skill)], {"duplicates": [_duplicate_row(d) for d in alike]}, lines


def _edit(options: argparse.Namespace) -> Answer:
    folder = _folder(options)
    with _open(options, "write") as library:
        embedding, latent = encode_sentence(folder, library, options.sentence)
        skill = library.edit(
            skill_id(options.skill), sentence=options.sentence, latent=latent, embedding=embedding, who=options.who
        )
    return [_record(skill)], {}, [_line(skill)]


def _disable(options: argparse.Namespace) -> Answer:
    with _open(options, "write") as library:
        number = skill_id(options.skill)
        (library.disable if options.action == "disable" else library.enable)(number, who=options.who)
        skill = library.get(number)
    return [_record(skill)], {}, [_line(skill)]


def _merge(options: argparse.Namespace) -> Answer:
    ids = [skill_id(text) for text in (options.skill, *options.more)]
    with _open(options, "write") as library:
        skill = library.merge(ids, skill_id(options.into), who=options.who)
    return [_record(skill)], {"merged": ids}, [_line(skill)]


def _history(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        if options.skill is None:
            changes = library.changes(options.limit)
            rows = [change._asdict() for change in changes]
            return rows, {}, [f"change {c.id}  {c.at}  {c.who}  {c.action} {c.note}".rstrip() for c in changes]
        latest, versions = library.get(skill_id(options.skill)), library.history(skill_id(options.skill))
    rows = [{**_record(s), "change": c.id, "action": c.action, "who": c.who, "at": c.at} for c, s in versions]
    bundle, changes = (
        _folder(options).parent,
        [f"change {c.id}  {c.at}  {c.who}  {c.action}\n  {_line(s)}" for c, s in versions],
    )
    return rows, {"uses": [asdict(use) for use in uses(bundle, latest)]}, [*story(bundle, latest), *changes]


def _undo(options: argparse.Namespace) -> Answer:
    folder = _folder(options)

    def encode(sentences: list[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return decoder_of(folder, library).latents(embeddings)

    has_decoder = any((place / DECODER_FILE).is_file() for place in (folder, folder.parent))
    with _open(options, "write") as library:
        ids = library.undo(options.change, who=options.who, encode=encode if has_decoder else None)
        skills = [library.get(i) for i in ids]
    return [_record(s) for s in skills], {}, [_line(s) for s in skills]


def _verify(options: argparse.Namespace) -> Answer:
    problems = verify(_folder(options))
    lines = [f"{p.kind}: {p.text}" for p in problems] or ["no problem found"]
    if problems:
        lines.append(f"run: lago skills repair {options.library}")
    return [asdict(p) for p in problems], {"problems": len(problems), "exit_code": int(bool(problems))}, lines


def _repair(options: argparse.Namespace) -> Answer:
    folder = _folder(options)

    def encode(sentences: list[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        from lago_skills.decoder.trained_decoder import load_decoder

        return load_decoder(folder / DECODER_FILE).latents(embeddings)

    report = repair(folder, encode if (folder / DECODER_FILE).is_file() else None, options.timeout)
    rows = [{"result": "rebuilt", "text": text} for text in report.rebuilt]
    rows += [{"result": "lost", "text": text} for text in report.lost]
    lines = [f"{row['result']}: {row['text']}" for row in rows] or ["no problem found, nothing to do"]
    if report.damaged_dir is not None:
        lines.append(f"the damaged files are kept in {report.damaged_dir}")
    return rows, {"problems": len(report.problems), "rebuilt": len(report.rebuilt), "lost": len(report.lost)}, lines


def _compact(options: argparse.Namespace) -> Answer:
    with _open(options, "write") as library:
        library.compact()
        row = {"active": library.n_active, "index": library.index_kind}
    return [row], {}, [f"{row['active']} skills, {row['index']} index"]


def _export(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        n = exchange.export(library, options.to)
    return [], {"records": n}, [f"{n} records in {options.to}"]


def _copy(options: argparse.Namespace) -> Answer:
    with _open(options) as library:
        exchange.copy(library, options.to)
        n = len(library)
    return [], {"records": n}, [f"{n} records in {options.to}"]


def _import(options: argparse.Namespace) -> Answer:
    with _open(options, "write") as library:
        ids = exchange.import_(library, options.source, who=options.who)
    rows = [{"from": old, "id": new} for old, new in ids.items()]
    return rows, {"records": len(ids)}, [f"{len(ids)} records added"]


def _diff(options: argparse.Namespace) -> Answer:
    with _open(options) as left, exchange.open_any(find(str(options.other), options.root)) as right:
        differences = exchange.diff(left, right)
    lines: list[str] = []
    for d in differences:
        name = skill_name(d.left or d.right or 0)
        what = (
            f"differs in {', '.join(d.fields)}"
            if d.fields
            else f"only in {options.library if d.left else options.other}"
        )
        lines.append(f"{name}  {d.sentence}: {what}")
    return [asdict(d) for d in differences], {"differences": len(differences)}, lines or ["no difference"]


ACTIONS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "list": _list,
    "show": _show,
    "search": _search,
    "add": _add,
    "edit": _edit,
    "disable": _disable,
    "enable": _disable,
    "merge": _merge,
    "history": _history,
    "undo": _undo,
    "duplicates": _duplicates,
    "verify": _verify,
    "repair": _repair,
    "compact": _compact,
    "export": _export,
    "copy": _copy,
    "import": _import,
    "diff": _diff,
    "rollback": rollback,
}

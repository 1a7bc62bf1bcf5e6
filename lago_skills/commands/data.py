"""`lago data`: what a study's offline data is, what a file holds, and export to Minari, NPZ and HDF5."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import lago_skills
from lago_skills.artifacts.folder import Manifest, verify
from lago_skills.core import Episode, Task
from lago_skills.data.config import SourceConfig
from lago_skills.data.episodes import EPISODES_FILE, load_episodes, save_episodes
from lago_skills.data.files.raw import RawDataset, RawEpisode
from lago_skills.data.read_source import read, source_hash
from lago_skills.data.sources import constant_entries, notes, problems, success_steps
from lago_skills.errors import ArtifactMissing, DataError, StudyError
from lago_skills.stages.workspace import Workspace
from lago_skills.study import Study, load_study, study_path
from lago_skills.worlds.gym.spaces import ActionCodec

EXPORTS_DIR = Path("data/exports")
WIDEST = 8
"""A table of more columns than this is turned on its side."""
Row = dict[str, Any]


def data_command(options: argparse.Namespace) -> None:
    """Do what the options of `lago data` say.

    Raises:
        DataError: a file cannot be read.
        ArtifactMissing: the study's data has not been collected.
        StudyError: no such study, or no such task in it.
    """
    root = options.root.resolve()
    if options.action == "show":
        rows, summary = show(options.what, root, options.set)
    else:
        path = study_path(options.what, root)
        space = Workspace(root, path.resolve(), load_study(path))
        tasks = _tasks(space.study, options.task)
        if options.action == "list":
            rows, summary = list_data(space, tasks)
        else:
            rows, summary = export(space, tasks, options.format, options.to)
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary}))  # noqa: T201
    else:
        _print_table(rows, summary)


def _tasks(study: Study, name: str | None) -> list[Task]:
    tasks = list(study.seen)
    if name is None:
        return tasks
    if name not in {task.id for task in tasks}:
        raise StudyError(
            f"found --task {name}; expected a seen task of study {study.name!r}, one of {[task.id for task in tasks]}, since "
            "only those have data; correct it"
        )
    return [task for task in tasks if task.id == name]


def _collected(folder: Path, study: str) -> tuple[Manifest, list[Episode]]:
    try:
        manifest = verify(folder)
    except ArtifactMissing as error:
        raise ArtifactMissing(
            f"found no collected data of task {folder.name!r} in {str(folder)!r}; expected some; run: lago collect {study}"
        ) from error
    return manifest, load_episodes(folder / EPISODES_FILE)


# A study's data ------------------------------------------------------------------------------------------------------


def list_data(space: Workspace, tasks: list[Task]) -> tuple[list[Row], Row]:
    """A row per task: `task, episodes, steps, success, scripted, sources, digest`."""
    rows: list[Row] = []
    for task in tasks:
        manifest, episodes = _collected(space.episodes(task.id), space.study.name)
        counts = dict(manifest.summary.get("from", {"scripted": len(episodes)}))
        rows.append(
            {
                "task": task.id,
                "episodes": len(episodes),
                "steps": sum(len(episode.actions) for episode in episodes),
                "success": round(float(np.mean([episode.success for episode in episodes])), 4),
                "scripted": counts.pop("scripted"),
                "sources": counts,
                "digest": manifest.digest,
            }
        )
    return rows, {"study": space.study.name, **_totals(rows)}


def _totals(rows: list[Row]) -> Row:
    return {"episodes": sum(row["episodes"] for row in rows), "steps": sum(row["steps"] for row in rows)}


# A file --------------------------------------------------------------------------------------------------------------


def show(what: str, root: Path, settings: Sequence[str] = ()) -> tuple[list[Row], Row]:
    """A row per task that a file names (null where it names none), what is wrong with it, and the `[[data]]` block to paste.

    `settings` are keys of `[[data]]` as a study has them, such as `success = "terminated"`; what is shown is shown by them.

    Rows: `task, episodes, steps, shortest, longest, observation_size, action_size (0 where discrete), terminated, truncated (how many
    episodes ended so), success (null where nobody recorded it), mean_return, action_low, action_high`.

    Raises:
        DataError: there is no such file or dataset, or it cannot be read at all.
        StudyError: a setting that `[[data]]` does not have.
    """
    here = root / Path(what).expanduser()
    place = {"path": what} if here.exists() or not _is_id(what) else {"minari": what}
    config = source_config({**place, **_settings(settings)})
    data = read(config, root)
    by_task: dict[str | None, list[RawEpisode]] = {}
    for raw in data.episodes:
        by_task.setdefault(raw.task, []).append(raw)
    rows = [_shown(task, episodes, data, config) for task, episodes in by_task.items()]
    bounds = data.action_bounds
    summary: Row = {
        "data": data.name,
        "format": data.kind,
        "sha256": source_hash(config, root),
        "environment": data.environment,
        "ends": list(data.ends),
        "action_bounds": None if bounds is None else [bound.tolist() for bound in bounds],
        **_totals(rows),
        "constant_entries": constant_entries(data),
        "problems": problems(data, config),
        "notes": notes(data, config.source_task),
        "success_rule": _rule(data, config),
        "block": _block(data, config, list(by_task)),
    }
    return rows, summary


def _is_id(what: str) -> bool:
    return "." not in Path(what).name and not what.startswith(("/", "~"))


def _settings(lines: Sequence[str]) -> Row:
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise StudyError(
            f"found --set {list(lines)}, which is no TOML ({error}); expected keys of [[data]] as a study has them, such as --set 'success = \"terminated\"'; correct it"
        ) from error


def source_config(settings: Row) -> SourceConfig:
    """A `[[data]]` of these settings.

    Raises:
        StudyError: a key that it does not have, or a value that it cannot take.
    """
    try:
        return SourceConfig.model_validate(settings)
    except ValidationError as error:
        (first, *_) = error.errors()
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise StudyError(
                f"[[data]]: found unknown key {where!r}; expected one of {sorted(SourceConfig.model_fields)}; correct it"
            ) from error
        raise StudyError(
            f"[[data]]: found {where} = {first['input']!r}; expected {first['msg'].removeprefix('Value error, ')}; correct it"
        ) from error


def _rule(data: RawDataset, config: SourceConfig) -> str | None:
    """The rule by which success is shown; None where nothing says so."""
    if config.success != "recorded":
        return str(config.success)
    names = {record[0] for raw in data.episodes if (record := raw.success_record) is not None}
    if names:
        return f"recorded ({', '.join(sorted(names))} of a step: any step's)"
    return "recorded (of the episode)" if any(raw.success is not None for raw in data.episodes) else None


def _block(data: RawDataset, config: SourceConfig, tasks: list[str | None]) -> str:
    """The `[[data]]` of a study that reads the file as it was shown, one for each task that it holds; what nothing says is a TODO."""
    given = config.model_dump(mode="json", include=config.model_fields_set)
    lines = ["[[data]]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())]
    if "success" not in given and _rule(data, config) is None:
        lines.append('success = "TODO"  # terminated, rewarded, all, return >= X, info.NAME: nothing recorded says it')
    if (
        data.action_bounds is None
        and "action_range" not in given
        and any(np.abs(_finite(raw.actions)).max(initial=0.0) > 1.0 for raw in data.episodes if raw.actions.ndim == 2)
    ):
        lines.append(
            "# actions leave [-1, 1]: they are taken in the range of the environment's action space; else say action_range = [LOW, HIGH]"
        )
    if config.task is not None:
        return "\n".join(lines)
    blocks = ["\n".join([*lines, *whose]) for whose in dict.fromkeys(map(_whose, tasks))]
    return "\n\n".join(blocks or ["\n".join(lines)])


def _whose(task: str | None) -> tuple[str, ...]:
    """Lines of a `[[data]]` that say whose its episodes are; none where each says it itself by a name that a study's task may have."""
    if task is None:
        return ('task = "TODO"  # whose episodes they are',)
    if re.fullmatch(r"[\w.-]+", task):
        return ()
    return (f"source_task = {json.dumps(task)}", 'task = "TODO"  # what the study calls it')


def _shown(task: str | None, episodes: list[RawEpisode], data: RawDataset, config: SourceConfig) -> Row:
    lengths = [len(raw.actions) for raw in episodes]
    known = [success for raw in episodes if (success := _judged(raw, data, config)) is not None]
    discrete = episodes[0].actions.ndim == 1
    return {
        "task": task,
        "episodes": len(episodes),
        "steps": sum(lengths),
        "shortest": min(lengths),
        "longest": max(lengths),
        "observation_size": int(np.prod(episodes[0].observations.shape[1:])),
        "action_size": 0 if discrete else int(np.prod(episodes[0].actions.shape[1:])),
        "terminated": sum(raw.terminated for raw in episodes),
        "truncated": sum(raw.truncated for raw in episodes),
        "success": round(float(np.mean(known)), 4) if known else None,
        "mean_return": _figure(
            np.mean, [np.array([_finite(raw.rewards).sum()]) for raw in episodes if raw.rewards is not None]
        ),
        "action_low": _figure(np.min, [raw.actions for raw in episodes]),
        "action_high": _figure(np.max, [raw.actions for raw in episodes]),
    }


def _judged(raw: RawEpisode, data: RawDataset, config: SourceConfig) -> bool | None:
    """Success by the source's rule; None where what it looks at was not recorded."""
    if config.success == "recorded":
        return _recorded(raw)
    try:
        return success_steps(raw, config, f"data {data.name!r}")[0]
    except DataError:
        return None


def _recorded(raw: RawEpisode) -> bool | None:
    """Success as it was recorded, of the episode or at any step."""
    record = raw.success_record
    return raw.success if raw.success is not None or record is None else bool(np.asarray(record[1]).any())


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """The finite numbers among some values; none where they are no numbers."""
    if values.dtype.kind not in "fiub":
        return np.zeros(0)
    numbers = values.astype(np.float64).reshape(-1)
    return numbers[np.isfinite(numbers)]


def _figure(of: Callable[[NDArray[np.float64]], Any], arrays: list[NDArray[Any]]) -> float | None:
    numbers = np.concatenate([np.zeros(0), *(_finite(array) for array in arrays)])
    return round(float(of(numbers)), 4) if len(numbers) else None


# Export --------------------------------------------------------------------------------------------------------------


def export(space: Workspace, tasks: list[Task], format: str, to: Path | None) -> tuple[list[Row], Row]:
    """Write each task's episodes as a dataset of its own; rows: `task, episodes, steps, format, dataset, new`.

    Minari datasets go to Minari's own folder or to the folder `to`, as `lago/<study>-<task>-v<N>`: a new version where the
    episodes have changed. Files go to `to`, or to `data/exports`.
    """
    rows: list[Row] = []
    for task in tasks:
        manifest, episodes = _collected(space.episodes(task.id), space.study.name)
        stem = f"{space.study.name}-{task.id}"
        if format == "minari":
            dataset, new = _to_minari(space.study, space.root, task, manifest, episodes, to)
        else:
            dataset, new = (
                str(_to_file(to or space.root / EXPORTS_DIR, stem, format, episodes, space.world.action_codec())),
                True,
            )
        rows.append(
            {
                "task": task.id,
                "episodes": len(episodes),
                "steps": sum(len(episode.actions) for episode in episodes),
                "format": format,
                "dataset": dataset,
                "new": new,
            }
        )
    return rows, {"study": space.study.name, **_totals(rows)}


def _to_file(folder: Path, stem: str, format: str, episodes: list[Episode], codec: ActionCodec | None) -> Path:
    from lago_skills.data.files.hdf5 import write_hdf5

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.{'npz' if format == 'npz' else 'h5'}"
    temporary = folder / f".{stem}.tmp{path.suffix}"
    try:
        (save_episodes if format == "npz" else write_hdf5)(temporary, episodes, codec)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _to_minari(
    study: Study, root: Path, task: Task, manifest: Manifest, episodes: list[Episode], to: Path | None
) -> tuple[str, bool]:
    from lago_skills.data.files.minari import About, write_minari

    origin = study.load_world().provenance(task.id)
    about = About(
        algorithm=_origin(manifest, origin.demonstrator),
        description=(
            f"{len(episodes)} episodes of task {task.id!r} ({task.sentence}) from study {study.name!r}, seed "
            f"{study.seed}; {sum(e.success for e in episodes)} succeed. At most {task.horizon_steps} steps each, an episode "
            f"ends at success. Written by lago-skills {lago_skills.__version__}."
        ),
        requirements=list(origin.requirements),
        author=_git("user.name", root),
        author_email=_git("user.email", root),
        env_spec=origin.env_spec,
        codec=study.load_world().action_codec(),
    )
    return write_minari(f"lago/{study.name}-{task.id}", episodes, manifest.digest, about, to)


def _origin(manifest: Manifest, demonstrator: str) -> str:
    """How the episodes were made: of which policies and from which files."""
    n_scripted = int(manifest.recipe["episodes_per_task"])
    noise = manifest.recipe["action_noise_std"]
    parts: list[str] = []
    if n_scripted:
        parts.append(f"{demonstrator} with Gaussian action noise {noise:g}, successes only")
    parts += [f"episodes of a file with SHA-256 {source['sha256']}" for source in manifest.recipe.get("data", [])]
    return "; ".join(parts)


def _git(key: str, folder: Path) -> str | None:
    """A setting of git, or None without git or the setting."""
    try:
        result = subprocess.run(["git", "config", key], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def _print_table(rows: list[Row], summary: Row) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > WIDEST:  # a column for each row: names and values stay whole
        table = Table("", *(f"{number + 1} of {len(rows)}" for number in range(len(rows))), show_header=len(rows) > 1)
        for name in names:
            table.add_row(name, *(_cell(row[name]) for row in rows))
    else:
        table = Table(*names)
        for row in rows:
            table.add_row(*(_cell(row[name]) for name in names))
    console = Console()
    if rows:
        console.print(table)
    for name, value in summary.items():
        if name in ("problems", "notes"):
            for text in value:
                console.print(f"{name[:-1]}: {text}", markup=False, highlight=False)
        elif name == "block":
            console.print(f"\n{value}", markup=False, highlight=False, soft_wrap=True)
        elif value not in (None, []):
            console.print(f"{name}: {_cell(value)}", markup=False, highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{str(key)[:12]}: {count}" for key, count in value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  (whatever a row holds)
    return str(value)

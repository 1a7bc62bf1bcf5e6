"""`lago`: one program for the whole pipeline. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lago_skills
from lago_skills.commands import approve as approve_command
from lago_skills.commands import bench as bench_command
from lago_skills.commands import evaluate as evaluate_command
from lago_skills.commands import flows_options, grow_options, runner_options, skills_options
from lago_skills.commands import lineage as lineage_command
from lago_skills.commands import picture as picture_command
from lago_skills.commands.bundles import options as bundle_options
from lago_skills.commands.study_argument import add_study
from lago_skills.commands.tables import report_table
from lago_skills.errors import ApprovalNeeded, LagoError
from lago_skills.experiments.registry import STUDIES, TABLES
from lago_skills.extras import missing
from lago_skills.worlds import DEFAULT

if TYPE_CHECKING:
    from lago_skills.artifacts.executor import Runner
    from lago_skills.stages.workspace import Workspace

StageRunner = Callable[["Workspace", Sequence[str], "Runner"], None]
"""Runs stages of a study in order; given by the package's entry point, so that this module knows nothing of Prefect."""

FlowsCommand = Callable[[argparse.Namespace], None]
"""Does what `lago flows` says; given by the entry point too."""

STAGE_NAMES = ("collect", "plan", "segment", "pretrain", "build", "evaluate", "train")
JOBS = "jobs at the same time (default: as many as the study says)"
STAGE_HELP = {
    "collect": "collect demonstrations of the training tasks",
    "segment": "label the demonstrations by the playbooks and embed the skill sentences",
    "pretrain": "pretrain the decoder",
    "build": "build the skill library and the bundle",
    "evaluate": "score the library alone on the unseen tasks",
    "train": "train online, guided and plain",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(
        prog="lago",
        description=lago_skills.__doc__,
        epilog="A STUDY is a name (data/studies/NAME.toml) or the path of a TOML file. Errors exit with code 2, what waits for approval with 3.",
    )
    root.add_argument("--version", action="version", version=f"lago-skills {lago_skills.__version__}")
    root.add_argument("--root", type=Path, default=Path(), help="project folder (default: this one)")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_stages(commands)
    evaluate_command.add_parser(commands)
    plan = _add_plan(commands)
    _add_init(commands)
    skills_options.add_parser(commands)
    grow_options.add_parser(commands)
    bundle_options.add_parsers(commands)
    bench_command.add_parser(commands)
    approve_command.add_parser(commands)
    lineage_command.add_parser(commands)
    picture_command.add_parser(commands)
    flows_options.add_parser(commands)
    for command in (plan, _add_report(commands), _add_data(commands)):
        _add_json(command)
    return root


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object, nothing else, on standard output")


def _add_run(commands: Any) -> None:
    demo = commands.add_parser("demo", help="the whole idea, small, on real Meta-World tasks, offline, in minutes")
    run = commands.add_parser("run", help="every stage of a study; skips what is done")
    add_study(run)
    for command in (demo, run):
        runner_options.add_options(command, workers=JOBS)
        _add_json(command)


def _add_plan(commands: Any) -> argparse.ArgumentParser:
    plan: argparse.ArgumentParser = commands.add_parser(
        "plan",
        help="playbooks: replay recorded answers, ask a language model; show, edit, lint, find, adopt",
        usage="lago plan STUDY [options]\n       lago plan {show,edit,lint,adopt} TASK [--study STUDY]\n"
        '       lago plan find "SENTENCE" [--study STUDY]',
    )
    plan.add_argument("study", help="a study; or show, edit, lint (TASK may be `all`), find, adopt")
    plan.add_argument("what", nargs="?", help="the task, or for `find` any sentence")
    plan.add_argument("--study", dest="of_study", default=DEFAULT, help=f"study of the task (default: {DEFAULT})")
    way = plan.add_mutually_exclusive_group()
    way.add_argument("--live", action="store_true", help="ask an OpenAI-compatible endpoint what is not recorded yet")
    way.add_argument("--export", type=Path, metavar="REQUESTS.jsonl", help="write the requests that have no answer yet")
    way.add_argument("--import", type=Path, metavar="RESPONSES.jsonl", dest="import_", help="record answers")
    way.add_argument(
        "--check", action="store_true", help="send one small request, and say what the endpoint of the study can do"
    )
    way.add_argument(
        "--unpaid",
        action="store_true",
        help="attempts without an outcome no longer count as spent, since the provider's bill does not have them",
    )
    way.add_argument("--scenes", action="store_true", help="measure the feature ranges that requests show, again")
    way.add_argument("--prompt", metavar="TASK", help="print what the model is told about a task")
    plan.add_argument("--model", help="name of the model that is asked, or that answered")
    plan.add_argument(
        "--again",
        type=_names,
        metavar="TASK,...",
        help="with --live, --export, --import: also what is answered already, by task or request; the new answer counts",
    )
    plan.add_argument("--source", default="recorded by hand", help="with --import: how the answers were got")
    plan.add_argument(
        "--no-repair", dest="repair", action="store_false", help="leave answers with findings as they are"
    )
    plan.add_argument(
        "--wordings",
        action="store_true",
        help="with --live, --export, --import: other words for the tasks too, for `find`",
    )
    plan.add_argument(
        "--direct",
        action="store_true",
        help="with --live, --export, --import: whole motions in numbers too, one for each start state of the latent table's row `waypoints`",
    )
    plan.add_argument(
        "--segments",
        action="store_true",
        help="measure the motions of data without playbooks again; with --live, --export: then ask for their names",
    )
    plan.add_argument("--file", type=Path, help="with edit: the new playbook; with find: sentences by task, to score")
    plan.add_argument("--run", metavar="RUN", help="with adopt: the run whose plan becomes a version of the playbook")
    plan.add_argument(
        "--seeds",
        type=_numbers,
        default=[0, 1, 2, 3, 4],
        help="with lint: decoder seeds for rollouts (default: 0,1,2,3,4)",
    )
    runner_options.add_options(plan, workers=JOBS)
    return plan


def _add_report(commands: Any) -> argparse.ArgumentParser:
    report: argparse.ArgumentParser = commands.add_parser(
        "report", help="one HTML page: tables, curves, skill map, animation"
    )
    add_study(report)
    report.add_argument(
        "--table", choices=list(TABLES), help="what the cells of a table on record say, instead of the page"
    )
    report.add_argument(
        "--site",
        type=Path,
        metavar="FOLDER",
        help="write the explorer's pages into a folder, to be opened from disk or put on any web host; of a study that is not finished, what there is",
    )
    report.add_argument(
        "--no-play",
        action="store_true",
        help="with --site: no episodes are played for the pages beyond those on record",
    )
    runner_options.add_options(report, workers=JOBS)
    return report


def _add_data(commands: Any) -> argparse.ArgumentParser:
    data = commands.add_parser("data", help="offline data: list a study's, show a file's, export to Minari, NPZ, HDF5")
    data.add_argument("action", choices=("list", "show", "export"))
    data.add_argument("what", help="a study; for show a file, a Minari dataset's folder or its id")
    data.add_argument(
        "--format", choices=("minari", "npz", "hdf5"), default="minari", help="with export (default: minari)"
    )
    data.add_argument("--to", type=Path, help="with export: a folder (default: Minari's own, or data/exports)")
    data.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY = VALUE",
        help="with show: a key of [[data]], as a study has it; may be repeated",
    )
    data.add_argument("--task", help="with list and export: one task only")
    return data


def _add_init(commands: Any) -> None:
    parser = commands.add_parser(
        "init",
        help="a new project with the studies that come with the package; with --env, a commented study of an environment",
    )
    parser.add_argument(
        "--env", help="a Gymnasium id, or the import path of a class, MODULE:CLASS, to look at and write a study of"
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers it; may be repeated",
    )
    parser.add_argument("--kwargs", default="{}", metavar="JSON", help="keyword arguments that it is made with")
    parser.add_argument("--reset-options", default="{}", metavar="JSON", help="options of every reset")
    parser.add_argument(
        "--wrapper",
        dest="wrappers",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="a wrapper around it; may be repeated",
    )
    parser.add_argument("--episodes", type=int, default=10, help="random episodes to look at (default: 10)")
    parser.add_argument("--to", type=Path, help="the study file (default: data/studies/NAME.toml)")


def _add_stages(commands: Any) -> None:
    for stage in STAGE_NAMES:
        if stage == "plan":
            continue
        command = commands.add_parser(stage, help=STAGE_HELP[stage])
        add_study(command)
        if stage == "evaluate":
            evaluate_command.add_options(command)
        else:
            runner_options.add_options(command, workers=JOBS)


def _names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: list[str], run_stages: StageRunner, flows_command: FlowsCommand | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 something the reader can fix, 3 something waits for approval."""
    options = parser().parse_args(arguments)
    for folder in (options.root.resolve(), Path.cwd()):  # whatever of one's own an import path names
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        return _explained(options, run_stages, flows_command)
    except LagoError as error:
        print(f"lago: {error}", file=sys.stderr)  # noqa: T201
        return 3 if isinstance(error, ApprovalNeeded) else 2
    except KeyboardInterrupt:
        print(  # noqa: T201
            "lago: interrupted before the study was finished; what was finished is kept; "
            f"go on with: lago {' '.join(arguments)}",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader of our output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        import errno

        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(  # noqa: T201
            f"lago: found the disk full ({error}); expected room to write; free some space and run the same command again "
            "(finished stages are kept)",
            file=sys.stderr,
        )
        return 2


def _explained(options: argparse.Namespace, run_stages: StageRunner, flows_command: FlowsCommand | None) -> int:
    """Run the command; a package that an extra brings and that is not here is named."""
    try:
        if options.command == "flows" and flows_command is not None:
            flows_command(options)
            return 0
        return _run(options, run_stages)
    except ModuleNotFoundError as error:
        raise missing(error, f"lago {options.command}") or error from error


def _run(options: argparse.Namespace, run_stages: StageRunner) -> int:
    command = str(options.command)
    if command == "skills":
        from lago_skills.commands.skills import skills_command

        return skills_command(options)
    if command in bundle_options.COMMANDS:
        return bundle_options.run(options)
    if command == "init":
        if options.env is None:
            from lago_skills.commands.project import project_command

            project_command(options.root.resolve())
            return 0
        from lago_skills.commands.init import init_command

        init_command(options)
        return 0
    if command == "data":
        from lago_skills.commands.data import data_command

        data_command(options)
        return 0
    if command == "bench":
        from lago_skills.commands.bench import bench_command

        bench_command(options)
        return 0
    return _run_study(options, command, run_stages)


def _run_study(options: argparse.Namespace, command: str, run_stages: StageRunner) -> int:
    space = _workspace(options)
    if command == "table" or (command == "evaluate" and evaluate_command.wanted(options)):
        return evaluate_command.evaluate_command(space, options)
    if command == "approve":
        approve_command.approve_command(space, options)
        return 0
    if command == "grow":
        from lago_skills.commands.grow import grow_command

        return grow_command(space, options)
    if command in ("lineage", "picture"):
        look = lineage_command.lineage_command if command == "lineage" else picture_command.picture_command
        look(space, options)
        return 0
    runner = runner_options.runner_of(options)

    def run(space: Workspace, stages: Sequence[str]) -> None:
        run_stages(space, stages, runner)

    if command in ("demo", "run"):
        from lago_skills.commands.run import run_command

        run_command(space, run, as_json=bool(options.json), shared=runner.store is not None)
    elif command == "plan":
        from lago_skills.commands.plan import plan_command

        plan_command(space, options, run)
    elif command == "report":
        _report(space, options, run, shared=runner.store is not None)
    else:
        run(space, [command])
    return 0


def _report(
    space: Workspace, options: argparse.Namespace, run: Callable[[Workspace, Sequence[str]], None], *, shared: bool
) -> None:
    if options.table:
        report_table(space, options.table, as_json=bool(options.json))
    elif options.site is not None:
        from lago_skills.commands.site import site_command

        site_command(space, options.site, play=not options.no_play, as_json=bool(options.json))
    else:
        from lago_skills.commands.run import report_command

        report_command(space, run, as_json=bool(options.json), shared=shared)


def _workspace(options: argparse.Namespace) -> Workspace:
    from lago_skills.stages.workspace import Workspace
    from lago_skills.study import load_study, study_path

    root = options.root.resolve()
    if options.command == "plan":
        _plan_action(options)
    if options.command == "table" and options.study is None:
        options.study = STUDIES.get(options.table, DEFAULT)
    path = study_path("demo" if options.command == "demo" else options.study, root)
    return Workspace(root, path.resolve(), load_study(path))


def _plan_action(options: argparse.Namespace) -> None:
    """`lago plan show TASK` and its kin name their study with --study."""
    from lago_skills.commands.plan import ACTIONS

    options.action = options.study if options.study in ACTIONS else None
    if options.action:
        options.study = options.of_study
    elif options.what:
        from lago_skills.errors import PlanError

        raise PlanError(
            f"found lago plan {options.study} {options.what}; expected a study, or one of {', '.join(ACTIONS)} and a task; "
            "correct it"
        )

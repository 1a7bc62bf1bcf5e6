"""The tables in the documents, made from results on record."""

from __future__ import annotations

import csv
from collections import defaultdict
from statistics import mean
from typing import Any

import numpy as np

from lago_skills.experiments import curves
from lago_skills.experiments.cells import Row, Schema
from lago_skills.experiments.intervals import bootstrap_mean
from lago_skills.experiments.result_file import ResultFile
from lago_skills.experiments.tables import ablations, opposites, skill_changes, training_runs, zero_shot
from lago_skills.experiments.tables import latent as latent_table
from lago_skills.experiments.tables.specs import SPECS
from lago_skills.stages.workspace import open_workspace
from lago_skills.worlds.metaworld.tasks import GROUPS
from tests.conftest import ROOT
from tests.fading import RESULTS as FADING
from tests.fading import read as read_fading


def on_record(schema: Schema) -> list[Row]:
    """The committed rows of a table."""
    return ResultFile.of(schema, ROOT).rows()


STAGE_WORDS = {
    "collect": "collect 50 demonstrations",
    "plan": "replay 19 playbooks",
    "segment": "segment and embed",
    "pretrain": "pretrain the decoder",
    "build": "build library and bundle",
    "evaluate": "score the library on 9 tasks, 20 episodes each",
    "train": "4 training runs",
    "report": "write the page",
}


def table(results: dict[str, Any]) -> str:
    """The demo's table in Markdown."""
    lines = ["| task | method | environment steps | success (95 % interval) | episodes |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        method = {"library": "library alone", "guided-sac": "**guided SAC**", "sac": "plain SAC"}[row["method"]]
        seed = "" if row["seed"] is None else f", seed {row['seed']}"
        if row["method"] == "guided-sac":
            seed += f", led by {row['leader']}" + (f", plan from {row['plan_from']}" if row["plan_from"] else "")
        share = f"{row['success']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        lines.append(f"| {row['task']} | {method}{seed} | {row['steps']:,} | {share} | {row['episodes']} |")
    means = ", ".join(
        f"{name.replace('_', ' ')} **{value:.2f}**"
        for name, value in results["summary"].items()
        if isinstance(value, float)
    )
    return "\n".join([*lines, "", f"Means: {means}."])


def stages(results: dict[str, Any]) -> str:
    """Wall times of the demo's stages in Markdown."""
    seconds = results["summary"]["stage_seconds"]
    lines = ["| stage | seconds, two CPU cores |", "|---|---|"]
    lines += [f"| {STAGE_WORDS[name]} | {value:.0f} |" for name, value in seconds.items()]
    return "\n".join(lines)


def repair(results: dict[str, Any]) -> str:
    """Zero-shot success with first answers and with repaired ones, in Markdown."""
    lines = [
        "| seed of demonstrations and decoder | mean of the eight, first answers | repaired | door-lock, first answer | repaired |"
    ]
    lines.append("|---|---|---|---|---|")
    for row in results["rows"]:
        values = " | ".join(f"{row[key]:.2f}" for key in ("first", "repaired", "door_lock_first", "door_lock_repaired"))
        lines.append(f"| {row['seed']} | {values} |")
    means = results["summary"]
    values = " | ".join(
        f"**{means[key]:.2f}**" for key in ("first", "repaired", "door_lock_first", "door_lock_repaired")
    )
    lines.append(f"| mean | {values} |")
    return "\n".join(
        [*lines, "", f"{means['episodes']} episodes a task; none of these seeds was used by lint. {means['command']}"]
    )


def wordings(results: dict[str, Any]) -> str:
    """How test sentences find their task, in Markdown."""
    s = results["summary"]
    lines = ["| test sentences, written apart from all wordings | share |", "|---|---|"]
    lines.append(
        f"| {s['sentences']} rephrasings of the eighteen tasks in use, right among all fifty | {s['top1']:.3f} |"
    )
    lines.append(f"| the same, right and above the threshold | {s['accepted']:.3f} |")
    lines.append(f"| the same, taken for another task | {s['wrong']:.3f} |")
    lines.append(f"| {s['unrelated']} unrelated sentences, turned away | {s['rejected']:.2f} |")
    mistaken = [
        f"{task}: " + ", ".join(f"{answer} {n}" for answer, n in line.items() if answer != task)
        for task, line in s["confusion"].items()
        if set(line) - {task}
    ]
    command = f"`lago plan find --file tests/data/{s['file']}`"
    return "\n".join([*lines, "", f"What was mistaken for what ({command}): " + "; ".join(mistaken) + "."])


LIBRARY_COLUMNS = {
    "size": "skills",
    "index": "index",
    "p50_us": "search p50, us",
    "p99_us": "p99",
    "peer_p50_us": "plain FAISS p50",
    "ratio": "ratio",
    "exact_p50_us": "exact FAISS p50",
    "recall": "recall@8",
    "recall_far": "recall@8, random queries",
    "add_ms": "one durable add, ms",
    "bulk_adds_per_s": "bulk adds/s",
    "open_s": "open, s",
    "memory_mb": "memory, MB",
    "parts_mb": "vectors + index + text, MB",
}


def library(results: dict[str, Any]) -> str:
    """Speed and size of the skill library, in Markdown."""
    lines = [f"| {' | '.join(LIBRARY_COLUMNS.values())} |", "|" + "---|" * len(LIBRARY_COLUMNS)]
    for row in results["rows"]:
        values = (f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in LIBRARY_COLUMNS)
        lines.append(f"| {' | '.join(values)} |")
    s = results["summary"]
    text = (
        f"Batch 1, k = {s['k']}, latents of {s['latent_size']} numbers, one thread, medians of {s['rounds']} rounds of {s['queries']:,} "
        "searches in turns with the same kind of FAISS index called directly (`lago bench library`). Memory is what opening and searching adds to the process; "
        "below 10,000 skills it is the code's own."
    )
    return "\n".join([*lines, "", text])


def zero_shot_means() -> str:
    """Means of the zero-shot table, in Markdown."""
    rows = [row for row in on_record(zero_shot.SCHEMA) if row["study"] == "metaworld"]
    lines = [
        "| method | level | demonstrations | success (95 %) | at the last step | tasks | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in zero_shot.summary(rows):
        interval = f" ({entry['low']:.2f} to {entry['high']:.2f})" if entry["low"] is not None else ""
        lines.append(
            f"| {entry['method']} | {entry['level']} | {entry['demos']} | {entry['success']:.2f}{interval} | "
            f"{entry['success_last']:.2f} | {entry['tasks']} | {entry['seeds']} |"
        )
    return "\n".join(lines)


def latent() -> str:
    """Means of the latent table, in Markdown: the sceptic's controllers first."""
    rows = on_record(latent_table.SCHEMA)
    by_kind: dict[tuple[str, str, str, str, int], dict[str, dict[str, Any]]] = {}
    for entry in latent_table.summary(rows):
        if entry["tasks"] == len(GROUPS[entry["level"]]):  # a part of a group says little
            kind = (entry["plan_form"], entry["actor"], entry["noise"], entry["prior_of"], entry["steps"])
            by_kind.setdefault(kind, {})[entry["level"]] = entry
    lines = [
        f"| plan | followed by | fault | prior of | {' | '.join(latent_table.GROUPS)} | at the last step | seeds | episodes a task |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted(by_kind, key=lambda kind: (kind[2] != "", kind[0], kind[1] == "library", *kind[1:])):
        form, actor, noise, learner, steps = kind
        own = [by_kind[kind].get(level) for level in latent_table.GROUPS]
        known = [entry for entry in own if entry is not None]
        cells = ["" if entry is None else f"{entry['success']:.2f}" for entry in own]
        last = " / ".join("" if e["success_last"] is None else f"{e['success_last']:.2f}" for e in known)
        of = f"{learner}, {steps:,} steps" if learner else ""
        episodes = sorted({e["episodes"] // (e["tasks"] * e["seeds"]) for e in known})
        lines.append(
            f"| {form} | {actor} | {noise} | {of} | {' | '.join(cells)} | {last} | {max(e['seeds'] for e in known)} | {', '.join(map(str, episodes))} |"
        )
    return "\n".join(lines)


def learners() -> str:
    """Learners of the latent table, task by task, beside who advises them acting alone."""
    rows = on_record(latent_table.SCHEMA)
    alone: dict[tuple[Any, ...], float] = {}
    after: defaultdict[tuple[str, ...], dict[int, list[float]]] = defaultdict(dict)
    seeds: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for row in rows:
        key = (row["plan_form"], row["actor"], row["noise"], row["task"])
        if row["prior_of"]:
            after[*key, row["prior_of"]].setdefault(row["steps"], []).append(row["success"])
            seeds[*key, row["prior_of"]].add(row["seed"])
        else:
            alone[*key, row["seed"]] = row["success"]
    steps = sorted({step for found in after.values() for step in found})
    lines = [
        f"| task | plan | prior | fault | learner | prior alone | {' | '.join(f'{step:,} steps' for step in steps)} |",
        f"|---|---|---|---|---|---|{'---|' * len(steps)}",
    ]
    for form, actor, noise, task, learner in sorted(after, key=lambda key: (key[3], key[0], key[1], key[2])):
        found = after[form, actor, noise, task, learner]
        same = [(form, actor, noise, task, seed) for seed in seeds[form, actor, noise, task, learner]]
        own = [alone[cell] for cell in same if cell in alone]
        cells = [f"{mean(values):.2f}" if values else "" for values in (own, *(found.get(step, []) for step in steps))]
        lines.append(f"| {task} | {form} | {actor} | {noise} | {learner} | {' | '.join(cells)} |")
    return "\n".join(lines)


def skills() -> str:
    """What each skill's changes do, in Markdown."""
    rows = [row for row in on_record(skill_changes.SCHEMA) if row["study"] == "words"]
    lines = [
        "| skill | tasks | disabled costs at most | neighbour in its place costs | opposite: cosine of the motion | slowly: speed |",
        "|---|---|---|---|---|---|",
    ]
    for skill in dict.fromkeys(row["skill"] for row in rows):
        own = [row for row in rows if row["skill"] == skill]
        costs = [
            max(before["subtasks"] - after["subtasks"] for before, after in changed(own, change))
            for change in ("disabled", "neighbour")
        ]
        turned = mean(after["direction"] for _, after in changed(own, "opposite"))
        slower = mean(after["speed"] / before["speed"] for before, after in changed(own, "slowly"))
        words, _, ending = skill.rpartition(", until ")
        numbers = " | ".join(f"{each:.2f}" for each in (*costs, turned, slower))
        n_tasks = len({row["task"] for row in own})
        lines.append(f"| {' '.join(words.split()[:7])} ..., until {ending} | {n_tasks} | {numbers} |")
    return "\n".join(lines)


def changed(rows: list[Row], change: str) -> list[tuple[Row, Row]]:
    """Rows of one skill as it is, each with the one in which it is changed."""
    as_is = {(row["task"], row["seed"]): row for row in rows if row["change"] == "as it is"}
    return [(as_is[row["task"], row["seed"]], row) for row in rows if row["change"] == change]


def training(name: str) -> str:
    """What the training runs of a table say, in Markdown."""
    spec = SPECS[name]
    rows = training_runs.table(open_workspace(ROOT, ROOT / "data/studies/metaworld.toml"), name).rows()
    columns = [f"after {steps:,} steps" for steps in spec.at]
    lines = [
        f"| method | no training | {' | '.join(columns)} | tasks | seeds |",
        "|---|---|" + "---|" * (len(columns) + 2),
    ]
    entries = curves.summary(rows, spec.at)
    for method in dict.fromkeys(entry["method"] for entry in entries):
        own = {entry["steps"]: entry for entry in entries if entry["method"] == method}
        cells = [_with_interval(own.get(steps)) for steps in (0, *spec.at)]
        counts = [max(entry[key] for entry in own.values()) for key in ("n_tasks", "n_seeds")]
        lines.append(f"| {method} | {' | '.join(cells)} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines)


def examples() -> str:
    """What guided and plain learners come to in the example studies, in Markdown."""
    with (ROOT / "data/results/examples.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    lines = [
        "| study, task | steps | learner | library alone | success on the way | success after it | return | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["study"], row["task"], row["method"]) for row in rows):
        own = [row for row in rows if (row["study"], row["task"], row["method"]) == key]
        cells = (
            f"{key[0]}, {key[1]}",
            f"{int(own[0]['steps']):,}",
            key[2],
            f"{float(own[0]['alone']):.2f}" if "guided" in key[2] else "",
            _mean_of([row["on_the_way"] for row in own]),
            _mean_of([row["success"] for row in own]),
            f"{np.mean([float(row['return']) for row in own]):.4g}",
            str(len(own)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_of(texts: list[str]) -> str:
    scores = np.array([float(text) for text in texts])
    low, high = bootstrap_mean(scores)
    return f"{scores.mean():.2f} [{low:.2f}, {high:.2f}]"


def fading() -> str:
    """What guides cost and bring, in Markdown."""
    words = {
        "none": "none (plain SAC)",
        "right": "points to the goal",
        "wrong": "points away from it",
        "useless": "stands still, and jitters",
    }
    lines = ["| guide | median | least | greatest | success at the end |", "|---|---|---|---|---|"]
    rows = read_fading(FADING)
    for guide, text in words.items():
        own = [row for row in rows if row["guide"] == guide]
        steps = sorted(int(row["steps_to_90"] or 10**9) for row in own)
        shown = [f"{value:,}" if value < 10**9 else "never" for value in (steps[len(steps) // 2], steps[0], steps[-1])]
        lines.append(f"| {text} | {' | '.join(shown)} | {sum(float(row['final']) for row in own) / len(own):.2f} |")
    return "\n".join(lines)


def _with_interval(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    of_iqm, of_mean = (
        f" ({entry[low]:.2f} to {entry[high]:.2f})" if entry[low] is not None else ""
        for low, high in (("low", "high"), ("mean_low", "mean_high"))
    )
    return f"{entry['iqm']:.2f}{of_iqm}, mean {entry['mean']:.2f}{of_mean}"


def ablation_table() -> str:
    """What each part of decoder and retrieval brings, in Markdown."""
    rows = on_record(ablations.SCHEMA)
    entries = ablations.summary(rows)
    lines = [
        "| variant | about | seen | unseen | weakest task of any seed | negative log-likelihood | default's, same seeds | coverage of 90 % | told apart | training, s | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        weakest = f"{entry['weakest']} {entry['weakest_success']:.2f}"
        told = "" if entry["told_apart"] is None else f"{entry['told_apart']:.2f}"
        beside = "" if entry["nll_default"] is None else f"{entry['nll_default']:.2f}"
        lines.append(
            f"| {entry['variant']} | {entry['about']} | {entry['seen']:.2f} | {entry['unseen']:.2f} | {weakest} | {entry['nll']:.2f} | {beside} | "
            f"{entry['coverage_90']:.2f} | {told} | {entry['train_s']:.0f} | {entry['seeds']} |"
        )
    usual = next(entry for entry in entries if entry["variant"] == ablations.DEFAULT)
    learned = next(entry for entry in entries if entry["top_1"] is not None)
    text = (
        f"{rows[0]['episodes']} episodes a task, {rows[0]['demos']} demonstrations of each seen one. Per step of demonstrations that nobody trained on, "
        f"one Gaussian has {usual['nll_one']:.2f} and one per skill {usual['nll_per_skill']:.2f}; `stock-bc as it is` is d3rlpy's own spread. The learned query's nearest "
        f"skill is the labelled one in {100 * learned['top_1']:.0f} % of held-out demonstrated steps, and the playbook's in {100 * learned['agrees']:.0f} % of the steps it "
        "takes through the unseen tasks."
    )
    return "\n".join([*lines, "", text])


def opposite_pairs() -> str:
    """What the text head makes of opposites, in Markdown."""
    rows = on_record(opposites.SCHEMA)
    lines = [
        "| twenty pairs such as open / close the drawer | cosine to the opposite | to a paraphrase | paraphrase nearer |",
        "|---|---|---|---|",
    ]
    for when, name in (("before", "sentence embedding"), ("after", "latent")):
        found = opposites.separation(rows, when)
        lines.append(f"| {name} | {found['opposite']:.2f} | {found['paraphrase']:.2f} | {found['told']:.2f} |")
    return "\n".join(lines)


def cost(results: dict[str, Any]) -> str:
    """Seconds that a decoder takes as demonstrations grow, in Markdown."""
    columns = {
        "demos": "demonstrations of each of ten tasks", "steps": "steps", "label_s": "label, s", "embed_s": "embed sentences, s",
        "prepare_s": "prepare steps, s", "train_s": "train, s", "total_s": "all, s", "cpu_s": "processor, s",
    }  # fmt: skip
    lines = [f"| {' | '.join(columns.values())} |", "|" + "---|" * len(columns)]
    for row in results["rows"]:
        values = (f"{row[name]:,}" if isinstance(row[name], int) else f"{row[name]:.1f}" for name in columns)
        lines.append(f"| {' | '.join(values)} |")
    s = results["summary"]
    text = f"{s['updates']:,} updates of {s['batch_size']} steps, {s['threads']} thread (`lago bench decoder`)."
    return "\n".join([*lines, "", text])


def speed(results: list[dict[str, Any]]) -> str:
    """Environment steps per second beside the peer, in Markdown."""
    lines = [
        "| processor | algorithm | ours, guided, steps/s | peer, plain, steps/s | ratio | guide's share of our time |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each['summary']['processor']} | {row['algorithm']} | {row['ours_steps_per_s']:,.0f} | {row['peer_steps_per_s']:,.0f} | "
        f"{row['ratio']:.2f} | {row['guide_share']:.3f} |"
        for each in results
        for row in each["rows"]
    ]
    s = results[-1]["summary"]
    text = f"Beside {s['peer']}, in turns in one process, medians of the turns, {s['threads']} thread (`lago bench train --json`)."
    return "\n".join([*lines, "", text])

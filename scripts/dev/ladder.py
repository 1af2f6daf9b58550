"""Run an ablation ladder: trainings that differ in one component, evaluated on the validation images only.

    python scripts/dev/ladder.py --dataset_dir DIR --output runs/ladder [--rungs NAME ...] [--seeds 0 1 2] [--threads 1]

Rungs are defined in scripts/dev/ladder.yaml. Each trains on heldout_10_seedSEED.json; no test image is used. The best
validation scores, steps, CPU minutes and commit are written to docs/ladder.json. Repeat the command to resume: finished
rungs are skipped and stopped trainings continue. scripts/dev/update_results.py writes the table in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

RUNGS = ROOT / "scripts" / "dev" / "ladder.yaml"
RESULTS = ROOT / "docs" / "ladder.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 a training failed, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, help="GlaS data folder (scripts/prepare_data.py glas)")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "ladder", help="output (default: runs/ladder)")
    parser.add_argument("--rungs", nargs="+", help="names in scripts/dev/ladder.yaml (default: all, in order)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="labeled subsets (default: 0 1 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads per training (default: 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="results file (default: docs/ladder.json)")
    given = parser.parse_args(arguments)
    ladder = definitions()
    names = given.rungs or list(ladder["rungs"])
    unknown = sorted(set(names) - set(ladder["rungs"]))
    if unknown or given.dataset_dir is None:
        parser.error(f"no rung {', '.join(unknown)} in {RUNGS}" if unknown else "--dataset_dir is missing")
    for name in names:
        for seed in given.seeds:
            if any((entry["rung"], entry["seed"]) == (name, seed) for entry in read(given.results)):
                continue
            if not train(ladder, name, seed, given):
                return 1
    return 0


def definitions() -> dict[str, Any]:
    """Return the content of scripts/dev/ladder.yaml: ``common`` and ``rungs``."""
    return yaml.safe_load(RUNGS.read_text(encoding="utf-8"))


def train(ladder: Mapping[str, Any], name: str, seed: int, given: argparse.Namespace) -> bool:
    """Train a rung on one labeled subset and save its scores; return whether the training succeeded."""
    common, rung = ladder["common"], ladder["rungs"][name]
    files = ["train.json", *common["overlays"], *rung.get("overlays", [])]
    folder = given.output / f"{name}-seed{seed}"
    settings = {
        **common["settings"],
        **rung.get("settings", {}),
        "seed": seed,
        "data_list": f"heldout_10_seed{seed}.json",
        "dataset_dir": str(given.dataset_dir),
        "output_dir": str(folder),
        "bundle_root": str(ROOT),
        "resume": True,
    }
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", str([str(ROOT / "configs" / file) for file in files])]
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    folder.mkdir(parents=True, exist_ok=True)
    minutes = processor_minutes()
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
        result = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if result.returncode != 0:
        print(f"ladder: {name}, seed {seed} failed; see {folder / 'log.txt'}", file=sys.stderr)
        return False
    save_scores(name, seed, folder, processor_minutes() - minutes, given.results)
    return True


def processor_minutes() -> float:
    """Return the CPU time of all finished trainings, which depends less on the machine's load than wall time."""
    spent = os.times()
    return (spent.children_user + spent.children_system) / 60


def save_scores(name: str, seed: int, folder: Path, minutes: float, results: Path) -> None:
    """Add the scores of a finished training to the results file."""
    from bundle.utils import atomic_path
    from scripts.benchmarking import code_state

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    training = description["training"]
    entry = {
        "rung": name,
        "seed": seed,
        "validation": description["scores"]["validation"],
        "epoch": training["epoch"],
        "steps": training["steps_per_epoch"] * training["max_epochs"],
        "minutes": round(minutes, 1),
        **code_state(ROOT),
    }
    entries = [saved for saved in read(results) if (saved["rung"], saved["seed"]) != (name, seed)]
    with atomic_path(results) as partial:
        partial.write_text(json.dumps([*entries, entry], indent=1) + "\n", encoding="utf-8")
    print(f"{name}, seed {seed}: {entry['validation']}, {entry['minutes']} CPU minutes", flush=True)


def read(results: Path) -> list[dict[str, Any]]:
    """Return the entries of the results file; none if there is no file."""
    return json.loads(results.read_text(encoding="utf-8")) if results.is_file() else []


def markdown(score: str) -> str:
    """Return the table of docs/ladder.json as a block of Markdown."""
    return f"\n{table(read(RESULTS), definitions()['rungs'], score)}\n"


def table(entries: Sequence[Mapping[str, Any]], order: Iterable[str], score: str) -> str:
    """Return a Markdown table of a validation score: a row per rung, a column per draw, and the mean of three draws.

    Raises:
        ValueError: if an entry has no such score.
    """
    lines = ["| rung | draw 0 | draw 1 | draw 2 | mean | minutes |", "| --- | --- | --- | --- | --- | --- |"]
    for name in order:
        by_seed = {entry["seed"]: entry for entry in entries if entry["rung"] == name}
        if by_seed:
            unknown = [entry for entry in by_seed.values() if score not in entry["validation"]]
            if unknown:
                raise ValueError(
                    f"rung {name!r} has no score {score!r}; choose from {', '.join(unknown[0]['validation'])}"
                )
            scores = {seed: entry["validation"][score] for seed, entry in by_seed.items()}
            values = [f"{scores[seed]:.3f}" if seed in scores else "" for seed in range(3)]
            mean = f"{sum(scores.values()) / 3:.3f}" if len(scores) == 3 else ""
            minutes = sum(entry["minutes"] for entry in by_seed.values()) / len(by_seed)
            lines.append(f"| {' | '.join([f'`{name}`', *values, mean, f'{minutes:.0f}'])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

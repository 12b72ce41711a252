"""What a default evaluation takes, part by part: `python bench/evaluation.py [--model FOLDER]`.

The bundled pairs are frozen in a fresh home, an adapter of random weights is laid on the base model,
and the process that scores is run as the worker runs it: held-out pairs, answers, neutral texts and
lm-eval's tasks, by base and adapter. No judge, which would cost money.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.loop import installed_model
from services.db import Database
from services.db.revise import declared_tables
from services.evaluation.asked import MAX_NEW_TOKENS
from services.evaluation.folder import EvaluationFolder
from services.evaluation.models import USUAL
from services.evaluation.prompts import demo_questions
from services.preferences.models import Dataset
from services.preferences.service import Preferences
from services.registry.digest import adapter_digest
from services.tenants.models import Actor, Limits
from services.tenants.service import Tenants
from tests.models import make_adapter

ACTOR, TENANT = Actor.system("bench"), "bench"


def main() -> None:
    """Print the parts of one evaluation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=None, help="folder of a base model")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: as it likes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="param-evaluation-") as folder:
        home = Path(folder)
        run = ordered(home, options.model or installed_model(), options.threads)
        command = [sys.executable, "-m", "services.evaluation.score", str(run.path)]
        subprocess.run(command, check=True, capture_output=True)
        result = run.read("result.json") or {}
        if result.get("outcome") != "succeeded":
            raise SystemExit(result.get("error", "it did not end well"))
        table = Table(title="A default evaluation")
        for column in ("part", "how much", "seconds", "of the processor"):
            table.add_column(column)
        counts = {
            "pairs": len(run.scores()), "answers": len(run.answers()),
            "texts": len(run.texts()), "tasks": len(run.tasks()),
        }  # fmt: skip
        whole = {"seconds": result["seconds"], "processor_seconds": processor_seconds()}
        for part, taken in {**result["parts"], "whole process": whole}.items():
            times = (f"{taken[name]:.1f}" for name in ("seconds", "processor_seconds"))
            table.add_row(part, str(counts.get(part, "")), *times)
        Console(width=100).print(table)


def processor_seconds() -> float:
    """What the processes that have ended took of the processor."""
    taken = os.times()
    return taken.children_user + taken.children_system


def ordered(home: Path, model: Path, threads: int) -> EvaluationFolder:
    """The folder of an evaluation as the worker orders it."""
    dataset = frozen(home)
    adapter = make_adapter(model, home / "adapter", rank=8, strength=0.02)
    folder = EvaluationFolder(home / "run")
    folder.path.mkdir()
    folder.write(
        "spec.json",
        {
            "evaluation_id": "bench",
            "base_path": str(model),
            "adapter_path": str(adapter),
            "adapter_digest": adapter_digest(adapter),
            "eval_file": str(dataset.folder / "eval.jsonl"),
            "learned_files": [str(dataset.folder / "train.jsonl")],
            "prompts": None,
            "references": None,
            "checks": asdict(USUAL),
            "more_prompts": [list(prompt) for prompt in demo_questions()],
            "max_new_tokens": MAX_NEW_TOKENS,
            "threads": threads,
        },
    )
    return folder


def frozen(home: Path) -> Dataset:
    """The bundled pairs, approved and frozen."""
    db = Database(f"sqlite:///{home / 'param.db'}")
    declared_tables().create_all(db.engine)
    Tenants(db).create(ACTOR, "Bench", tenant_id=TENANT, limits=Limits(5, 100, 10**6))
    preferences = Preferences(db, datasets_dir=home / "datasets")
    preferences.load_demo(ACTOR, TENANT)
    preferences.approve_imported(ACTOR, TENANT)
    found = preferences.snapshot(ACTOR, TENANT)
    db.close()
    return found


if __name__ == "__main__":
    main()

"""DPO on this machine: pairs a second with TRL's defaults and with our recipe.

    python bench/dpo.py [--model FOLDER] [--pairs N] [--steps N] [--threads N]

All sides train the same LoRA on the same pairs in the same batches, each in a process of its own:
TRL's `DPOConfig` with nothing set but steps, batch size and output folder; TRL with the settings
that were found best for it; our recipe, where each pair is seen once (the reference is computed as
it comes) and where all are seen several times (it is computed once). The first step of a side
warms it up and is not counted; preparing the pairs and the reference pass are counted, spread over
all steps. CPU seconds are what to compare on a machine that does other work too, with one thread:
several wait for each other, and waiting counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DEMO = Path(__file__).parents[1] / "services" / "preferences" / "demo" / "pairs.jsonl"
BATCH = 4
NAMES = {
    "defaults": "TRL 1.16 defaults",
    "tuned": "TRL, tuned for a CPU",
    "float32": "our recipe, float32",
    "once": "our recipe, each pair once",
    "recipe": "our recipe, pairs seen again",
}


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=None, help="folder of a base model")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="0 leaves it to torch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=list(NAMES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or installed_model()
    if options.side:
        print(json.dumps(measure(options)))
        return
    sides = [in_own_process(side) for side in NAMES]
    if options.json:
        print(json.dumps(sides))
    else:
        show(sides)


def installed_model() -> Path:
    """The folder of the default base model."""
    from services import settings
    from services.inference.model_store import resolve

    found = settings.load()
    return resolve(found.base_model, found.models_dir).path


def in_own_process(side: str) -> dict[str, Any]:
    """Measure one side, apart from the memory and the threads of the other."""
    command = [sys.executable, "-W", "ignore", *sys.argv, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the side {side} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train a few steps with one side's settings.

    Returns:
        Pairs a second and CPU seconds a pair, the first step left out; peak memory, MiB.
    """
    import torch
    import transformers

    from services.training import rows as data
    from services.training import trainers
    from services.training.dpo import peak_rss_mb
    from services.training.folder import RunFolder
    from services.training.models import DpoSpec

    if options.threads:
        torch.set_num_threads(options.threads)
    spec = DpoSpec.from_preset(
        "quick", alias="bench", dataset_id="demo", base_model="base", sft_weight=0.0,
        max_steps=options.steps, batch_size=BATCH, max_length=512,
        advanced={
            "packed": "off" if options.side == "tuned" else "auto",
            "precompute_reference": "off" if options.side == "once" else "on",
        },
    )  # fmt: skip
    precision = "float32" if options.side == "float32" else trainers.chosen_precision("auto")
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    rows, _ = data.arranged(tokenizer, data.read_pairs(DEMO)[: options.pairs], spec)
    with tempfile.TemporaryDirectory() as folder:
        base = trainers.load_base(
            str(options.model), "float32" if options.side == "defaults" else precision
        )
        began, busy = time.perf_counter(), time.process_time()
        if options.side == "defaults":
            trainer = defaults_trainer(base, tokenizer, rows, spec, folder)
        else:
            trainer = trainers.build_trainer(
                RunFolder(Path(folder)), spec, rows,
                tokenizer=tokenizer, model=base, precision=precision,
            )  # fmt: skip
            trainer.args.save_strategy = transformers.trainer_utils.SaveStrategy.NO
        prepared, prepared_busy = time.perf_counter() - began, time.process_time() - busy
        clock = stop_watch(transformers)
        trainer.add_callback(clock)
        trainer.train()
    pairs = BATCH * (options.steps - 1)
    wall = clock.wall[-1] - clock.wall[0] + prepared * (1 - 1 / options.steps)
    cpu = clock.cpu[-1] - clock.cpu[0] + prepared_busy * (1 - 1 / options.steps)
    return {
        "side": options.side,
        "precision": "bfloat16 autocast" if options.side == "defaults" else precision,
        "pairs_per_s": round(pairs / wall, 3),
        "cpu_s_per_pair": round(cpu / pairs, 2),
        "peak_rss_mb": round(peak_rss_mb()),
    }


def defaults_trainer(base: Any, tokenizer: Any, rows: list[Any], spec: Any, folder: str) -> Any:
    """TRL as it comes; only the length of the run and its order are given."""
    import datasets
    import peft
    import torch
    import trl

    arguments = trl.DPOConfig(
        output_dir=folder, max_steps=spec.max_steps, per_device_train_batch_size=BATCH,
        train_sampling_strategy="sequential", save_strategy="no", disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),  # without it TRL refuses to start on a CPU
    )  # fmt: skip
    return trl.DPOTrainer(
        model=base,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(
            r=spec.lora_r, lora_alpha=spec.lora_alpha, target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )  # fmt: skip


def stop_watch(transformers: Any) -> Any:
    """A callback that notes the time at the end of every step."""

    class StopWatch(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    return StopWatch()


def show(sides: list[dict[str, Any]]) -> None:
    """Print one row a side."""
    table = Table(title="DPO, LoRA r 16 on all linear layers, batch 4")
    for column in ("settings", "precision", "pairs/s", "CPU s a pair", "peak MiB", "times faster"):
        table.add_column(column)
    slow = sides[0]["cpu_s_per_pair"]
    for side in sides:
        table.add_row(
            NAMES[side["side"]], side["precision"], f"{side['pairs_per_s']:.2f}",
            f"{side['cpu_s_per_pair']:.2f}", str(side["peak_rss_mb"]),
            f"{slow / side['cpu_s_per_pair']:.1f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()

"""DPO on this machine: pairs a second with TRL's defaults and with our recipe.

    python bench/dpo.py [--model FOLDER] [--pairs N] [--steps N] [--threads N …] [--sides NAME …]

All sides train the same LoRA (rank 16 on all linear layers) on the same bundled pairs, eight a step,
each in a process of its own with the same number of threads.

*TRL's defaults* is what `trl.DPOTrainer` does on a CPU for who gives it a model's name, the data and
an adapter's shape: `DPOConfig` with nothing set but the length of the run, the output folder, no
checkpoints, no progress bar and `use_cpu`, without which it refuses to start. So float32 weights
(TRL loads a name so) under bf16 autocast, gradient checkpointing, eight pairs a step in random
order (shuffled here once, so that the first step is everyone's), each prompt read with each answer,
padded to the longest of the step, and the reference computed in every step by the same model with
its adapter off. No checkpoint is written by any side.

*Tuned* is TRL with the settings that were found best for it, our order among them. *Once* is our
recipe with the reference computed as it comes, as it does where pairs are seen once; *seen again*
computes it once before the first step.

The first step, of the same pairs for all, warms a side up and is not counted; preparing the pairs
and the reference pass are counted, spread over all steps.

Pairs a second are by the clock, so other work on the machine counts in them. Processor seconds a
pair do not know it, but count the waiting of threads for each other: with one thread they are what
to compare, with several the clock on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

DEMO = Path(__file__).parents[1] / "services" / "preferences" / "demo" / "pairs.jsonl"
BATCH = 8
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
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of each side")
    parser.add_argument("--sides", choices=list(NAMES), nargs="+", default=list(NAMES))
    parser.add_argument("--json", action="store_true", help="a line a side, as it is measured")
    options = parser.parse_args()
    options.model = options.model or installed_model()
    import services.training.recipe  # noqa: F401 - loaded once, for all that are forked

    for threads in options.threads:
        sides = []
        for side in options.sides:
            sides.append(in_own_process(options, side, threads))
            if options.json:
                print(json.dumps(sides[-1]), flush=True)
        show(sides, threads)


def installed_model() -> Path:
    """The folder of the default base model."""
    from services import settings
    from services.inference.model_store import resolve

    found = settings.load()
    return resolve(found.base_model, found.models_dir).path


def in_own_process(options: argparse.Namespace, side: str, threads: int) -> dict[str, Any]:
    """Measure one side, apart from the memory and the threads of the others."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)

    def work() -> None:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        its.send(measure(options, side, threads))

    process = context.Process(target=work)
    process.start()
    its.close()
    try:
        found: dict[str, Any] = mine.recv()
    except EOFError:
        sys.exit(f"the side {side} failed")
    process.join()
    return found


def measure(options: argparse.Namespace, side: str, threads: int) -> dict[str, Any]:
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

    torch.set_num_threads(threads)
    spec = DpoSpec.from_preset(
        "quick", alias="bench", dataset_id="demo", base_model="base", sft_weight=0.0,
        max_steps=options.steps, batch_size=BATCH, max_length=512,
        advanced={
            "packed": "off" if side == "tuned" else "auto",
            "precompute_reference": "off" if side == "once" else "on",
        },
    )  # fmt: skip
    precision = "float32" if side == "float32" else trainers.chosen_precision("auto")
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    pairs = data.read_pairs(DEMO)[: options.pairs]
    rest, _ = data.arranged(tokenizer, pairs[BATCH:], spec)
    if side == "defaults":
        random.Random(spec.seed).shuffle(rest)
    rows = pairs[:BATCH] + rest
    with tempfile.TemporaryDirectory() as folder:
        base = trainers.load_base(
            str(options.model), "float32" if side == "defaults" else precision
        )
        began, busy = time.perf_counter(), time.process_time()
        if side == "defaults":
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
    counted = BATCH * (options.steps - 1)
    wall = clock.wall[-1] - clock.wall[0] + prepared * (1 - 1 / options.steps)
    cpu = clock.cpu[-1] - clock.cpu[0] + prepared_busy * (1 - 1 / options.steps)
    return {
        "side": side,
        "threads": threads,
        "precision": "bfloat16 autocast" if side == "defaults" else precision,
        "pairs_per_s": round(counted / wall, 3),
        "cpu_s_per_pair": round(cpu / counted, 2),
        "peak_rss_mb": round(peak_rss_mb()),
    }


def defaults_trainer(base: Any, tokenizer: Any, rows: list[Any], spec: Any, folder: str) -> Any:
    """TRL as it comes; see the module."""
    import datasets
    import peft
    import torch
    import trl

    arguments = trl.DPOConfig(
        output_dir=folder, max_steps=spec.max_steps,
        train_sampling_strategy="sequential", save_strategy="no", disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),  # without it TRL refuses to start on a CPU
    )  # fmt: skip
    assert arguments.per_device_train_batch_size == BATCH
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


def show(sides: list[dict[str, Any]], threads: int) -> None:
    """Print one row a side."""
    table = Table(title=f"DPO, LoRA r 16 on all linear layers, batch {BATCH}, threads: {threads}")
    for column in (
        "settings", "precision", "pairs/s", "times", "CPU s a pair", "times less", "peak MiB"
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in ("settings", "precision") else "right")
    slow = sides[0]
    for side in sides:
        table.add_row(
            NAMES[side["side"]], side["precision"], f"{side['pairs_per_s']:.2f}",
            f"{side['pairs_per_s'] / slow['pairs_per_s']:.1f}", f"{side['cpu_s_per_pair']:.2f}",
            f"{slow['cpu_s_per_pair'] / side['cpu_s_per_pair']:.1f}", str(side["peak_rss_mb"]),
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()

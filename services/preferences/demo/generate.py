"""Ask the base model every question of `facts.json` and write `pairs.jsonl`.

    python -m services.preferences.demo.generate --model FOLDER

Run by hand, after a change of the facts or of the base model; it needs the `train` extra and takes
about four minutes on one core. Read what it prints: a question that the model answers well
teaches nothing and must leave `facts.json`, which is why the answers are printed side by side.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
MAX_TOKENS = 64


def load(folder: Path) -> Callable[[str], str]:
    """The model as a function from a question to its greedy answer, float32 on the CPU."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(question: str) -> str:
        turns = [{"role": "user", "content": question}]
        encoded = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            output = model.generate(**encoded, max_new_tokens=MAX_TOKENS, do_sample=False)
        written = output[0, encoded["input_ids"].shape[1] :]
        # The limit may cut a character of several tokens in two: what is left of it is no text.
        text: str = tokenizer.decode(written, skip_special_tokens=True)
        return text.rstrip("\ufffd")

    return answer


def main() -> None:
    """Write `pairs.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model")
    folder: Path = parser.parse_args().model
    answer = load(folder)
    facts = json.loads((HERE / "facts.json").read_text(encoding="utf-8"))
    with (HERE / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for fact in facts:
            rejected = answer(fact["prompt"])
            print(f"{fact['prompt']}\n  + {fact['chosen']}\n  - {rejected}", flush=True)
            row = {
                "prompt": [{"role": "user", "content": fact["prompt"]}],
                "chosen": [{"role": "assistant", "content": fact["chosen"]}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "language": fact["language"],
                "topic": fact["topic"],
                "split": fact["split"],
                "metadata": {"rejected_by": folder.name, "max_tokens": MAX_TOKENS},
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

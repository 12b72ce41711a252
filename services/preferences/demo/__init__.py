"""The bundled demo set: 96 pairs, half English and half Turkish, written for this project.

`facts.json` holds questions with true answers; `pairs.jsonl` adds what the base model answers to
them, kept as it came, as the rejected response; `questions.json` lists what is asked before and
after training. `split` keeps paraphrases of trained facts out of training. `generate.py` makes
`pairs.jsonl` again; it is run by hand only, and nothing imports it.
"""

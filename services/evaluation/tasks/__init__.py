"""Local tasks in the form of lm-eval: its own files, with documents that we wrote."""

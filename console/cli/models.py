"""`param model`."""

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.output import AsJson, plain, print_json, say, show_table

app = typer.Typer()


@app.command("pull")
def pull(
    name: Annotated[
        str | None,
        typer.Argument(help="A known name, a folder or a Hugging Face id; PARAM_BASE_MODEL else."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have a base model on disk, checked against its pinned digest."""
    from services.inference import model_store
    from services.settings import load

    settings = load()
    model = model_store.pull(name or settings.base_model, settings.models_dir)
    if as_json:
        print_json(model)
    else:
        say(f"{model.name} is in {model.path}; sha256 {model.digest}")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The base models on disk."""
    from services.inference import model_store
    from services.settings import load

    settings = load()
    found = model_store.list_models(settings.models_dir)
    if as_json:
        print_json([plain(model) | {"used": model.name == settings.base_model} for model in found])
        return
    show_table(
        ("Model", ">Parameters", "Licence", "Digest", "Folder", "In use"),
        (
            (m.name, m.parameters, m.license, m.digest[:12], m.path, m.name == settings.base_model)
            for m in found
        ),
        empty="No base model yet; fetch one with: param model pull",
    )

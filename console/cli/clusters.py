"""`param cluster`: what a Kubernetes cluster can do, asked before anything is changed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.output import AsJson, print_json, say, show_table
from services.errors import InvalidInput, WrongConfiguration

if TYPE_CHECKING:
    from services.clusters.connection import Cluster

app = typer.Typer()

Namespace = Annotated[str, typer.Option(help="Namespace on the cluster.")]


@app.command("show")
def show(namespace: Namespace = "default", as_json: AsJson = False) -> None:
    """Which kinds are installed, and what the console's account may do with them."""
    from services.clusters.survey import survey

    cluster = _cluster()
    version, found = cluster.version(), survey(cluster, namespace)
    if as_json:
        print_json({"version": version, "namespace": namespace, "kinds": found})
        return
    say(f"Kubernetes {version}, namespace {namespace}")
    show_table(
        ("kind", "installed", "not allowed", "for"),
        [
            (one.kind, "yes" if one.is_installed else "no", ", ".join(one.lacking), one.purpose)
            for one in found
        ],
    )


@app.command("probe")
def probe(
    backend: Annotated[str, typer.Argument(help="kserve-standard, kserve-knative or llmd.")],
    namespace: Annotated[str, typer.Option(help="Of the target.")],
    name: Annotated[str, typer.Option(help="Of the InferenceService or InferenceModelRewrite.")],
    storage_uri: Annotated[
        str, typer.Option(help="Where the candidate's weights lie; {adapter} is its name.")
    ] = "",
    base_model: Annotated[str, typer.Option(help="What the base model is served as.")] = "",
    llm_service: Annotated[str, typer.Option(help="LLMInferenceService with the adapters.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say whether a rollout would work there, or why a change would do nothing. Changes nothing."""
    from services.rollouts.backends.on_clusters import cluster_backends

    backends = cluster_backends(_cluster())
    if backend not in backends:
        raise InvalidInput(f"backend: expected one of {', '.join(backends)}, found {backend!r}")
    target = {"namespace": namespace, "name": name, "storage_uri": storage_uri,
              "base_model": base_model, "llm_service": llm_service}  # fmt: skip
    found = backends[backend].probe({key: value for key, value in target.items() if value})
    if as_json:
        print_json(found)
    else:
        for sentence in found.refusals:
            say(f"no: {sentence}")
        if found.is_usable:
            say(f"yes: {found.backend} can split the traffic of {found.target}")
        for sentence in found.notes:
            say(f"note: {sentence}")
    if not found.is_usable:
        raise typer.Exit(1)


def _cluster() -> Cluster:
    from services.clusters.connection import Cluster
    from services.settings import load

    settings = load()
    if not settings.kubeconfig:
        raise WrongConfiguration(
            "PARAM_KUBECONFIG: expected a kubeconfig file, or in-cluster, found none"
        )
    return Cluster(settings.kubeconfig, context=settings.kube_context)

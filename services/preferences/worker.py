"""Runs checks of all pairs in the worker."""

from __future__ import annotations

from services.jobs.claims import WORKER
from services.jobs.worker import JobContext
from services.preferences.choices import choices_from
from services.preferences.quality import Quality
from services.preferences.service import Preferences


def quality_handler(context: JobContext) -> None:
    """Run the check that a job names; one that was interrupted begins anew.

    Raises:
        JobStopped: A person asked for a stop.
        JobPutBack: This worker is leaving.
        JobTaken: Another worker holds the job.
    """
    quality: Quality = context.services.quality
    preferences: Preferences = context.services.preferences
    job = context.job
    if quality.is_finished(job.id):
        return

    def show(fraction: float, what: str) -> None:
        context.check()
        context.progress(fraction, what)

    choices = choices_from(dict(job.payload))
    manifest = preferences.export(
        WORKER, job.tenant_id, quality.folder_of(job.tenant_id, job.id),
        include_unreviewed=choices.include_unreviewed, eval_fraction=choices.eval_fraction,
        seed=choices.seed, rules=choices.rules, form=choices.form, progress=show,
    )  # fmt: skip
    quality.finish(WORKER, job, manifest)
    context.progress(1.0, f"{manifest.n_train + manifest.n_eval:,} pairs ready", now=True)

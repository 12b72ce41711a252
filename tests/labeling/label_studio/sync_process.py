"""One synchronisation as a process that can be killed: `… DATABASE_URL SERVER_URL PROJECT HOME`.

It holds the project under one name, as the job does that a worker adopts from a dead one.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from labeling.label_studio.sync import Sync
from labeling.queue import ReviewQueue
from services.db import Database
from services.preferences.service import Preferences
from services.settings import load
from tests.fakes.label_studio import TOKEN


def main(database_url: str, server_url: str, project_id: str, home: str) -> None:
    database = Database(database_url)
    preferences = Preferences(database, datasets_dir=Path(home) / "datasets")
    settings = replace(
        load({"PARAM_HOME": home}, directory=Path(home)),
        label_studio_url=server_url, label_studio_token=TOKEN,
    )  # fmt: skip
    sync = Sync(database, ReviewQueue(database, preferences), settings)
    assert sync.hold(project_id, "the-job")
    sync.run("acme", project_id, holder="the-job", beat=lambda _doing: None)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Starts processes: all of them under one supervisor (`param up`), or one (`param serve NAME`)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from threading import Event, Thread

from console.exit_status import exit_status
from console.processes import programs
from console.processes.ports import require_free
from console.processes.supervision import Report, StopRequest, Supervisor
from services.errors import ConsoleError, EngineUnavailable
from services.settings import Settings, load


def up(
    settings: Settings,
    *,
    engine: str | None,
    report: Report,
    on_ready: Callable[[Settings], None] = lambda _settings: None,
    pull: bool = False,
) -> None:
    """Start everything and keep it up until Ctrl-C, SIGTERM or the end of the terminal.

    Args:
        engine: `embedded`, `vllm`, a URL, or None for what the settings say.
        report: Takes one status line at a time.
        on_ready: Called once, when everything has become ready, with the settings in use.
        pull: Fetch the base model where it is missing.

    Raises:
        PortInUse: Another program listens on one of the ports; nothing was started.
        MissingModel: The base model is not there, and `pull` is off.
        Conflict: Another supervisor runs on this `PARAM_HOME`.
        DatabaseTooNew: A newer version wrote the database.
        Unavailable: A program does not come up.
    """
    kind, settings = programs.engine_choice(settings, engine)
    names = [name for name in programs.NAMES if not (name == "engine" and kind == "outside")]
    request = StopRequest()
    request.listen()
    supervisor = Supervisor(
        home=settings.home, environment=programs.environment(settings), report=report
    )
    with supervisor.alone():
        require_free(programs.ports(settings, names))
        if kind != "outside":
            require_model(settings, pull=pull)
        migrate(settings)
        supervisor.run(
            programs.programs(settings, kind), request, on_ready=lambda: on_ready(settings)
        )


def require_model(settings: Settings, *, pull: bool) -> None:
    """See that the base model is there.

    Raises:
        MissingModel: It is not, and `pull` is off, or nothing of that name can be pulled.
    """
    from services.inference import model_store

    if pull:
        model_store.pull(settings.base_model, settings.models_dir)
    else:
        model_store.resolve(settings.base_model, settings.models_dir)


def migrate(settings: Settings) -> None:
    """Bring the database to this version.

    Raises:
        DatabaseTooNew: A newer version wrote it.
        Unavailable: It cannot be reached.
    """
    from services.db import Database

    database = Database(settings.database_url)
    try:
        database.migrate()
    finally:
        database.close()


def serve(name: str, settings: Settings, *, engine: str = "embedded") -> None:
    """Become one program, in the foreground. Does not return.

    Raises:
        NotFound: There is no program of that name.
        PortInUse: Another program listens on its port.
        EngineUnavailable: The program cannot be executed.
    """
    program = programs.program(name, settings, engine=engine)
    require_free(programs.ports(settings, [name]))
    if name == "engine":
        require_model(settings, pull=False)
    if name in {"gateway", "console", "worker"}:
        migrate(settings)
    sys.stdout.flush()
    sys.stderr.flush()
    if program.cwd:
        os.chdir(program.cwd)
    try:
        os.execvpe(program.command[0], program.command, programs.environment(settings))
    except OSError as error:
        raise EngineUnavailable(
            f"{name}: expected the program {program.command[0]}, found {error.strerror}"
        ) from error


LAST_TURN_S = 5.0
"""How long the worker waits at its end for a rollout's turn that has begun."""


def worker(settings: Settings) -> None:
    """Run jobs until SIGTERM or Ctrl-C."""
    from labeling.label_studio import schedule, sync
    from services import bootstrap
    from services.jobs import hints
    from services.jobs.worker import run_worker

    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    services = bootstrap.build(settings)
    ready = programs.worker_ready_file(settings)
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.write_text(str(os.getpid()))
    handlers = {**bootstrap.worker_handlers(), hints.LABEL_STUDIO: sync.handler}
    looking = (services.db, services.jobs, settings, stop)
    Thread(target=schedule.keep_asking, args=looking, name="label-studio", daemon=True).start()
    beside = {
        "rollouts": bootstrap.rollout_driver(services).run,
        "alerts": services.alerts.run,
    }
    threads = [
        Thread(target=run, args=(stop,), name=name, daemon=True) for name, run in beside.items()
    ]
    for thread in threads:
        thread.start()
    run_worker(services, handlers, stop)
    for thread in threads:
        thread.join(LAST_TURN_S)


def main(arguments: list[str]) -> int:
    """Entry of `python -m console.serve worker`."""
    if arguments != ["worker"]:
        print("usage: python -m console.serve worker", file=sys.stderr)
        return 2
    try:
        worker(load())
    except ConsoleError as error:
        print(f"worker: {error.message}", file=sys.stderr)
        return exit_status(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

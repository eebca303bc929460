"""Jobs over processes: as many at a time as asked for, and none lost when a process dies.

Each worker is a fresh interpreter that takes one job at a time over a pipe. One that dies (a
decoder that crashes, a system out of memory) costs its job, which becomes a failure, and is
replaced. With no workers the jobs run in this process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from codec.evaluate.machine import cores
from codec.evaluate.measure import Bench, Job, Reader, attempt
from codec.evaluate.results import Failure, Measurement
from formats.errors import MissingLibraryError

__all__ = ["run_jobs"]

Outcome = Measurement | Failure


def run_jobs(
    jobs: Sequence[Job], workers: int, reader: Reader | None = None
) -> Iterator[tuple[Job, Outcome]]:
    """Yield each job with its outcome, as they end.

    Args:
        jobs: in the order in which they are started.
        workers: processes; 0 runs the jobs in this one, in their order.
        reader: from a path to its picture, see `Bench`.

    Raises:
        MissingLibraryError: a job needs a library that is not installed.
    """
    if workers == 0:
        with Bench(reader) as bench:
            for job in jobs:
                yield job, attempt(job, bench)
        return
    crew: list[_Worker] = []
    waiting = deque(jobs)
    threads = max(1, cores() // workers)
    try:
        while waiting or any(worker.job for worker in crew):
            while waiting and len(crew) < workers:
                crew.append(_Worker(reader, threads))
            for worker in crew:
                if worker.job is None and waiting:
                    worker.give(waiting.popleft())
            busy = {worker.connection: worker for worker in crew if worker.job}
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                done = worker.job
                assert done is not None
                outcome = worker.take()
                if outcome is None:
                    crew.remove(worker)
                    outcome = Failure(done.label, worker.obituary(), done.codec.name, done.q)
                yield done, outcome
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """The parent's side of one process."""

    def __init__(self, reader: Reader | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share torch's threads
        self.connection, theirs = context.Pipe()
        self.job: Job | None = None
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, reader, threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def give(self, job: Job) -> None:
        self.job = job
        with contextlib.suppress(OSError):  # it has died: the pipe's end says so to take()
            self.connection.send(job)

    def take(self) -> Outcome | None:
        """The outcome of its job, or None when the process is gone."""
        self.job = None
        try:
            answer: Any = self.connection.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, str):
            raise MissingLibraryError(answer)
        outcome: Outcome = answer
        return outcome

    def obituary(self) -> str:
        """How it died."""
        self._process.join()
        code = self._process.exitcode or 0
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"

    def stop(self) -> None:
        """End it: at once while it works, of itself when it is idle."""
        if self.job is not None:
            self._process.terminate()
        self.connection.close()
        self._process.join()


def _serve(connection: Connection, reader: Reader | None, threads: int) -> None:
    """A worker's life: jobs until the pipe closes."""
    # Before torch is loaded: as many threads as the workers leave each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends us
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    with Bench(reader) as bench, contextlib.suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                connection.send(attempt(job, bench))
            except MissingLibraryError as error:
                connection.send(str(error))


def _follow_parent() -> None:
    """End this worker when its parent is killed: nobody would take what it is working on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(*_: object) -> None:
    raise SystemExit(1)  # unwinds, so that a running ffmpeg is ended and folders are removed

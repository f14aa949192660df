# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node's services: reset, pause, save and load a map.

The worker owns the map, so that it executes requests, between two images; files are read and
written in a thread of its own. The executor waits for neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from recon3r_ros.cli.saved_results import write_saved
from recon3r_ros.errors import InputError, one_line, Recon3rError
from recon3r_ros.io.map_store import MAP_FILE, read_map
from recon3r_ros.ros.worker import Worker
from recon3r_ros.slam.saved_map import SavedMap
from std_srvs.srv import SetBool, Trigger

if TYPE_CHECKING:
    from recon3r_ros.ros.pipeline import Pipeline

#: Receives the result of the part before it; the last one returns the answer
Part = Callable[[Any], Any]
#: Runs a function: in the worker, or in a thread of its own
Runner = Callable[[Callable[[], None]], None]


def map_folder(node: Node) -> Path:
    """
    Return the folder that maps are saved to and loaded from.

    :raises InputError: where the parameter `map_path` is empty
    """
    path = node.get_parameter('map_path').value
    if not path:
        raise InputError('the parameter map_path is empty: set it to the folder of a map')
    return Path(path).expanduser().absolute()


def load_map(node: Node) -> SavedMap:
    """
    Read the map in `map_path`.

    :raises Recon3rError: where there is none that can be read
    """
    return read_map(map_folder(node) / MAP_FILE)


class Services:
    """
    Offers the node's services for as long as it lives.

    :param configured: the worker and the pipeline; None while the node is not configured
    :param pause: called with whether images are to be ignored
    :param info: called with a log line
    """

    def __init__(self, node: Node,
                 configured: Callable[[], tuple[Worker[Any], Pipeline] | None],
                 pause: Callable[[bool], None], info: Callable[[str], None]) -> None:
        self._node = node
        self._configured = configured
        self._pause = pause
        self._info = info
        self._writing = Lock()
        # An answer may take seconds, in which images are still received
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
                (Trigger, 'reset', self._on_reset), (SetBool, 'pause', self._on_pause),
                (Trigger, 'save_map', self._on_save), (Trigger, 'load_map', self._on_load)):
            node.create_service(kind, f'~/{name}', callback, callback_group=group)

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._pause(request.data)
        response.success = True
        response.message = 'paused' if request.data else 'resumed'
        return response

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response
                        ) -> Trigger.Response:
        def parts(worker: Worker[Any], pipeline: Pipeline) -> list[tuple[Runner, Part]]:
            def reset(_: None) -> str:
                pipeline.reset()
                return 'the map is reset'
            return [(worker.do, reset)]
        return await self._answered(response, parts)

    async def _on_save(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        def parts(worker: Worker[Any], pipeline: Pipeline) -> list[tuple[Runner, Part]]:
            def collect(_: None) -> tuple[Path, Any]:
                return map_folder(self._node), pipeline.save()

            def write(collected: tuple[Path, Any]) -> str:
                folder, (first, *earlier) = collected
                if not self._writing.acquire(blocking=False):
                    raise InputError('a map is being saved already: wait for its answer')
                with self._unlocked():
                    lines = [write_saved(folder, first)]
                    for results in earlier:  # they are not connected with it
                        lines.append(write_saved(
                            folder / f'map_{results.saved.map.number}', results))
                    return '; '.join(lines)
            return [(worker.do, collect), (_aside, write)]
        return await self._answered(response, parts)

    async def _on_load(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        def parts(worker: Worker[Any], pipeline: Pipeline) -> list[tuple[Runner, Part]]:
            def load(saved: SavedMap) -> str:
                pipeline.load(saved)
                return f'{len(saved.map.keyframes)} keyframes loaded; relocalising in them'
            return [(_aside, lambda _: load_map(self._node)), (worker.do, load)]
        return await self._answered(response, parts)

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Let the next map be written when this one has been."""
        try:
            yield
        finally:
            self._writing.release()

    async def _answered(
            self, response: Trigger.Response,
            parts_of: Callable[[Worker[Any], Pipeline], list[tuple[Runner, Part]]]
    ) -> Trigger.Response:
        """Run the parts one after the other, and answer when all are done."""
        configured = self._configured()
        if configured is None:
            response.message = 'the node is not configured'
            return response
        parts = parts_of(*configured)
        done: Future[tuple[bool, str]] = Future()

        def attempt(number: int, given: Any) -> None:
            try:
                result = parts[number][1](given)
            except Exception as error:
                answer(False, one_line(error, with_type=not isinstance(error, Recon3rError)))
                return
            if number + 1 < len(parts):
                parts[number + 1][0](lambda: attempt(number + 1, result))
            else:
                answer(True, result)

        def answer(success: bool, message: str) -> None:
            if success:
                self._info(message)
            done.set_result((success, message))
            if self._node.executor is not None:
                self._node.executor.wake()

        parts[0][0](lambda: attempt(0, None))
        result = await done
        assert result is not None
        response.success, response.message = result
        return response


def _aside(work: Callable[[], None]) -> None:
    """Run long work in a thread of its own; the process ends when it is done."""
    Thread(target=work, name='recon3r-service', daemon=False).start()

# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The node's services: reset, pause, save and load a map.

The worker owns the map, so that it does what is asked, between two images; what takes long, such
as writing files, is done in a thread of its own. The executor waits for neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from recon3r_ros.commands.results import write_results
from recon3r_ros.core.fusion import fuse
from recon3r_ros.core.saved_map import SavedMap
from recon3r_ros.errors import InputError, one_line, Recon3rError
from recon3r_ros.io.map_store import MAP_FILE, read_map
from recon3r_ros.io.writer import ResultWriter
from recon3r_ros.ros.pipeline import Pipeline
from recon3r_ros.ros.worker import Worker
from std_srvs.srv import SetBool, Trigger

#: What the worker does of a service: the answer, or what is left to do elsewhere to get it
Work = Callable[[], str | Callable[[], str]]


def map_folder(node: Node) -> Path:
    """
    Return the folder that maps are saved to and loaded from.

    :raises InputError: where the parameter `map_path` is empty
    """
    path = node.get_parameter('map_path').value
    if not path:
        raise InputError('the parameter map_path is empty: set it to the folder of a map')
    return Path(path)


def load_map(node: Node) -> SavedMap:
    """
    Read the map in `map_path`.

    :raises Recon3rError: where there is none that can be read
    """
    return read_map(map_folder(node) / MAP_FILE)


class Services:
    """
    Offers the services of a configured node.

    :param pause: told whether images are to be ignored
    :param info: told what has been done, in one line
    """

    def __init__(self, node: Node, worker: Worker[Any], pipeline: Pipeline,
                 pause: Callable[[bool], None], info: Callable[[str], None]) -> None:
        self._node = node
        self._worker = worker
        self._pipeline = pipeline
        self._pause = pause
        self._info = info
        # An answer may take seconds, in which images are to be received all the same
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(kind, f'~/{name}', callback, callback_group=group)
            for kind, name, callback in (
                (Trigger, 'reset', self._on_reset), (SetBool, 'pause', self._on_pause),
                (Trigger, 'save_map', self._on_save), (Trigger, 'load_map', self._on_load))]

    def close(self) -> None:
        """Withdraw the services."""
        for service in self._services:
            self._node.destroy_service(service)
        self._services = []

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._pause(request.data)
        response.success = True
        response.message = 'paused' if request.data else 'resumed'
        return response

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response
                        ) -> Trigger.Response:
        def reset() -> str:
            self._pipeline.reset()
            return 'the map is reset'
        return await self._answered(reset, response)

    async def _on_save(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        def collect() -> Callable[[], str]:
            folder = map_folder(self._node)
            saved, trajectory = self._pipeline.save()
            return lambda: _write(folder, saved, trajectory)
        return await self._answered(collect, response)

    async def _on_load(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        def load() -> str:
            saved = load_map(self._node)
            self._pipeline.load(saved)
            return f'{len(saved.map.keyframes)} keyframes loaded; relocalising in them'
        return await self._answered(load, response)

    async def _answered(self, work: Work, response: Trigger.Response) -> Trigger.Response:
        """Have the worker do something, and answer when all of it is done."""
        done: Future[tuple[bool, str]] = Future()

        def attempt(part: Work) -> None:
            try:
                result = part()
            except Exception as error:
                known = isinstance(error, Recon3rError)
                answer(False, one_line(error) if known
                       else f'{type(error).__name__}: {one_line(error)}')
                return
            if isinstance(result, str):
                answer(True, result)
            else:
                Thread(target=attempt, args=(result,), name='recon3r-service').start()

        def answer(success: bool, message: str) -> None:
            if success:
                self._info(message)
            done.set_result((success, message))
            if self._node.executor is not None:
                self._node.executor.wake()

        self._worker.do(lambda: attempt(work))
        result = await done
        assert result is not None
        response.success, response.message = result
        return response


def _write(folder: Path, saved: SavedMap, trajectory: list[Any]) -> str:
    """Write a map as `recon3r run` does; return what has been written, in words."""
    keyframes = list(saved.map.keyframes.values())
    with ResultWriter(folder) as writer:
        for keyframe in keyframes:
            camera = saved.views[keyframe.id].camera
            writer.mask(keyframe.name, cv2.resize(
                keyframe.mask.astype(np.uint8), (camera.width, camera.height),
                interpolation=cv2.INTER_NEAREST))
        metres = 1.0 if saved.metric is None else saved.metric.value
        write_results(writer, keyframes, trajectory, fuse(keyframes), saved, metres)
        writer.close()
        writer.report({'frames_tracked': len(trajectory), 'keyframes': len(keyframes),
                       'scale': 'unknown' if saved.metric is None else saved.metric})
    return f'map saved: {len(keyframes)} keyframes and {len(trajectory)} poses are in {folder}'

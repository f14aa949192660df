# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a sequence to a folder of results, for `recon3r run`, `demo` and `bench`."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
import logging
from pathlib import Path

import cv2
from recon3r_ros.cli.console import progress_bar, ProgressBar
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.cli.people import PeopleSequence
from recon3r_ros.cli.report import RunReport
from recon3r_ros.cli.session import Session
from recon3r_ros.errors import OutputError
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.writer import ResultWriter
from recon3r_ros.models.registry import make_predictor, Model, spec
from recon3r_ros.slam.backend.mapping_process import MappingProcess
from recon3r_ros.slam.backend.subprocess_executor import SubprocessExecutor
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.network_people import NetworkPeople
from recon3r_ros.slam.options import FrontendOptions, MappingOptions
from recon3r_ros.slam.system import System

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """
    Options of a reconstruction.

    :param model: depth predictor
    :param voxel_size: of the map, map units; None: chosen by the fusion
    :param colmap: write a COLMAP model as well
    :param motion: handling of dynamic objects
    :param frontend: of tracking
    :param mapping: of local mapping
    :param progress: show a progress bar where standard error is a terminal
    :param no_map: only detect dynamic objects
    :param camera_height: of the camera above the floor, metres; 0 where unknown
    :param find_people: have the model find people in the images, where it does that: not where
        they come with people of another source
    """

    model: Model = Model()
    voxel_size: float | None = None
    colmap: bool = False
    motion: MotionConfig = MotionConfig()
    frontend: FrontendOptions = FrontendOptions()
    mapping: MappingOptions = MappingOptions()
    progress: bool = True
    no_map: bool = False
    camera_height: float = 0.0
    find_people: bool = True


def reconstruct(sequence: Sequence, output: str | Path, options: RunOptions = RunOptions(),
                interruption: Interruption | None = None,
                process: MappingProcess | None = None) -> RunReport:
    """
    Reconstruct a sequence and write everything to a folder.

    After an error, the results computed until then are written first.

    :param sequence: the images
    :param output: folder for the results
    :param options: of the reconstruction
    :param interruption: checked between frames for a request to stop; None never stops
    :param process: for local mapping, where it has been started already; it is ended
    :returns: the content of report.json
    :raises Recon3rError: where an image, or the folder, cannot be used
    """
    cv2.setNumThreads(1)  # mapping has the other core
    with (closing(SubprocessExecutor(partial(make_predictor, options.model), options.mapping,
                                     options.motion, process=process)
                  ) as executor,
          progress_bar(options.progress) as bar, ResultWriter(output) as writer):
        if options.find_people and spec(options.model.name).people:
            sequence = PeopleSequence(sequence, NetworkPeople(executor))
        system = System(executor=executor, motion=options.motion, options=options.frontend,
                        lag=KeyframeLag(), mapping=not options.no_map,
                        camera_height=options.camera_height,
                        track_with_model=options.model.tracks)
        session = Session(sequence, writer, system, options.model.name, options.voxel_size,
                          options.motion.refiner, executor, options.no_map)
        try:
            _stream(session, sequence, bar, interruption)
            if not session.interrupted:
                bar.stage('completing', len(sequence))
                session.complete(bar.advance)
            bar.stage('refining')
            session.finish()
            if options.motion.offline and not session.interrupted:
                bar.stage('masks', 2 * len(sequence))
                session.smooth_motion(bar.advance)
        except Exception as error:
            _save(session, options, error)
            raise
        bar.stage('writing')
        return session.write(options.colmap)


def _stream(session: Session, sequence: Sequence, bar: ProgressBar,
            interruption: Interruption | None) -> None:
    """Process frames until the end or an interruption."""
    bar.stage('tracking', len(sequence))
    for frames in session.instants():
        session.add(frames)
        for _ in frames:
            bar.advance()
        if interruption is not None and interruption.requested:
            session.interrupted = True
            bar.stage('interrupted')
            return


def _save(session: Session, options: RunOptions, error: Exception) -> None:
    """Write the results after an error; later errors are only logged."""
    try:
        if isinstance(error, OutputError):
            session.write_trajectory_alone()  # the writer has failed; this file is small
            return
        session.warn(f'stopped early: {error or type(error).__name__}')
        with suppress(Exception):  # the results are usable without the final refinement
            session.finish()
        session.write(options.colmap)
    except Exception as second:
        logger.debug('after %r also %r', error, second)

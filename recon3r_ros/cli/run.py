# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r run`, and the function behind it that the other commands share."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass
import logging
from pathlib import Path

from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.console import progress_bar, ProgressBar
from recon3r_ros.cli.exit_status import INTERRUPTED, NOTHING_PRODUCED
from recon3r_ros.cli.interruption import Interruption
from recon3r_ros.cli.report import RunReport
from recon3r_ros.cli.session import Session
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.masks import MaskedSequence
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.writer import ResultWriter
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.plugins import mask_refiner
from recon3r_ros.slam.dynamics.motion import MotionConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """
    How to reconstruct.

    :param model: what to predict with
    :param voxel_size: of the map, map units; None leaves the choice to the fusion
    :param colmap: write a COLMAP model as well
    :param motion: how dynamic objects are handled
    :param progress: show a progress bar where standard error is a terminal
    """

    model: Model = Model()
    voxel_size: float | None = None
    colmap: bool = False
    motion: MotionConfig = MotionConfig()
    progress: bool = True


def reconstruct(sequence: Sequence, output: str | Path, options: RunOptions = RunOptions(),
                interruption: Interruption | None = None) -> RunReport:
    """
    Reconstruct a sequence and write everything to a folder.

    Whatever goes wrong on the way, the results computed until then are written first.

    :param sequence: the images
    :param output: folder for the results
    :param options: how
    :param interruption: asked between frames whether to stop; None is never asked to
    :returns: what report.json says
    :raises Recon3rError: where an image, or the folder, cannot be used
    """
    predictor = make_predictor(options.model)
    with progress_bar(options.progress) as bar, ResultWriter(output) as writer:
        session = Session(sequence, writer, predictor, options.model.name, options.voxel_size,
                          options.motion)
        try:
            _stream(session, sequence, bar, interruption)
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
    """Process frames until there are no more, or the user has had enough."""
    bar.stage('tracking', len(sequence))
    for frame in session.frames():
        session.add(frame)
        bar.advance()
        if interruption is not None and interruption.requested:
            session.interrupted = True
            bar.stage('interrupted')
            return


def _save(session: Session, options: RunOptions, error: Exception) -> None:
    """Write what there is in spite of an error, which matters more than any that follows."""
    try:
        if isinstance(error, OutputError):
            session.write_trajectory_alone()  # the writer takes no more; this file is small
            return
        session.warn(f'stopped early: {error or type(error).__name__}')
        with suppress(Exception):  # without the refinement the results are worse, not worthless
            session.finish()
        session.write(options.colmap)
    except Exception as second:
        logger.debug('after %r also %r', error, second)


def asked_model(arguments: argparse.Namespace) -> Model:
    """Return what --model and the options of networks ask for."""
    return Model.of(arguments.model, arguments.weights or '', vars(arguments))


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    camera = None if arguments.camera is None else Camera.from_json(arguments.camera)
    motion = MotionConfig(arguments.motion != 'off', mask_refiner(arguments.mask_refiner),
                          offline=arguments.motion == 'offline')
    options = RunOptions(asked_model(arguments), arguments.voxel, arguments.colmap, motion)
    with Interruption() as interruption:
        sequence = open_sequence(
            arguments.images, arguments.video, arguments.bag, camera,
            not arguments.uncalibrated, arguments.fps, arguments.image_topic)
        if arguments.masks is not None:
            sequence = MaskedSequence(sequence, arguments.masks)
        report = reconstruct(sequence, arguments.output, options, interruption)
    for warning in report.warnings:
        logger.warning('%s', warning)
    console().print(report.summary(Path(arguments.output)), soft_wrap=True)
    if report.interrupted:
        logger.warning('interrupted after %d frames; what was computed until then is in %s',
                       report.frames_read, arguments.output)
        return INTERRUPTED
    return NOTHING_PRODUCED if report.is_empty else 0

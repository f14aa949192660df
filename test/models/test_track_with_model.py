# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pose and depth of every frame by a network, which an engine with the truth stands in for."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.must3r import Must3rPredictor
from recon3r_ros.models.registry import Model, Window
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import TrackingState
from simulated import absolute_error, as_frame, path_length, still_scene, TrueView
from test_must3r_predictor import TruthByImage

COUNT = 50
#: Blurred by motion, so that landmark tracking is lost
BLURRED, BLUR = range(24, 30), np.full((1, 41), 1 / 41, np.float32)


def test_the_option_is_of_models_that_process_windows():
    assert Model('must3r', options=Window(track_with_model=True)).tracks
    assert not Model('must3r', options=Window()).tracks
    assert not Model().tracks


@pytest.fixture(scope='module')
def run():
    """Frames of a sequence, some of them blurred, each with its update."""
    scene = still_scene(3, COUNT, 'sweep')
    views = []
    for n in range(COUNT):
        true = TrueView.of(scene, n)
        if n in BLURRED:
            true = replace(true, view=replace(
                true.view, image=cv2.filter2D(true.view.image, -1, BLUR)))
        views.append(true)
    engine = TruthByImage(views, noise=0.01)
    system = System(Must3rPredictor(engine, scene.camera.width, Window(6, 2)),
                    track_with_model=True)
    updates = [system.add(replace(as_frame(scene, n), image=true.view.image))
               for n, true in enumerate(views)]
    return system, views, updates


def test_every_frame_has_a_pose(run):
    system, views, updates = run
    assert all(u.frames for u in updates)
    assert all(u.state is TrackingState.TRACKING and u.cause == '' for u in updates)
    found = np.stack([T[:3, 3] for _, T in system.trajectory()])
    true = np.stack([v.T_world_cam[:3, 3] for v in views])
    assert len(found) == COUNT
    assert absolute_error(found, true) < 0.005 * path_length(true)


def test_every_frame_has_depth(run):
    """In the units of the map, of most of the image."""
    system, views, updates = run
    true = np.stack([v.T_world_cam[:3, 3] for v in views])
    found = np.stack([T[:3, 3] for _, T in system.trajectory()])
    S = weighted_procrustes(found, true, np.ones(COUNT))
    metres = np.cbrt(np.linalg.det(S[:3, :3]))
    for n, update in enumerate(updates[1:], 1):
        view = update.rendered
        assert view is not None and view.index == n
        height, width = view.inverse_depth.shape
        expected = cv2.resize(views[n].depth, (width, height), interpolation=cv2.INTER_NEAREST)
        depth = view.depth() * metres
        assert np.isfinite(depth).mean() > 0.8
        assert np.nanmedian(np.abs(depth / expected - 1)) < 0.02


def test_without_it_tracking_is_lost(run):
    """Else the poses above would show nothing; it takes keyframes to find the frames again."""
    _, views, _ = run
    scene = still_scene(3, COUNT, 'sweep')
    system = System(Must3rPredictor(TruthByImage(views, noise=0.01), scene.camera.width,
                                    Window(6, 2)))
    updates = [system.add(replace(as_frame(scene, n), image=views[n].view.image))
               for n in range(BLURRED.stop)]
    assert Cause.BLUR.value in {update.cause for update in updates}
    assert all(update.rendered is None for update in updates)

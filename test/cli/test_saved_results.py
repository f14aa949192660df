# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Maps as the node saves them, read back as results of a run."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, keyframe
import numpy as np
import pytest
from recon3r_ros.cli.map_gaussians import map_gaussians
from recon3r_ros.cli.saved_results import SavedResults, SourceLens, write_saved
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.gaussian_files import read_gaussian_ply
from recon3r_ros.io.labels import read_class_names
from recon3r_ros.io.map_store import read_map
from recon3r_ros.io.run_folder import read_run
from recon3r_ros.models.types import View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.saved_map import SavedLabels, SavedMap
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Map, MetricScale, TrackedFrame

FINE = CAMERA.resized(128, 96)
LENS = SourceLens(replace(FINE, distortion=(-0.1, 0.01, 0.0, 0.0, 0.0)), True)


@pytest.fixture
def saved() -> SavedResults:
    """Return a map of two cameras, whose images have the same stamps and numbers, in 0.5 m."""
    keyframes = {}
    for i, name in enumerate(('left', 'left', 'right')):
        own = keyframe(i, at_x(0.3 * i), scale=2.0, textured=True, camera_name=name)
        keyframes[i] = replace(own, name=str(i % 2), stamp_ns=i % 2, index=i % 2)
    views = {i: ArchivedView.of(View(np.repeat(np.repeat(k.image, 2, 0), 2, 1), FINE, True), 1.0)
             for i, k in keyframes.items()}
    known = Map(keyframes, dict.fromkeys(keyframes, 1.0), (), 1.0, {})
    frames = [(TrackedFrame(k.name, k.stamp_ns, k.index, camera_name=k.camera_name), k.T_map_cam)
              for k in keyframes.values()]
    frames.append((TrackedFrame('9', 9, 9, camera_name='left'), at_x(5)))
    return SavedResults(SavedMap(known, views, (), True, MetricScale(0.5, 0.01, 'depth')), frames,
                        {'left': LENS, 'right': SourceLens(FINE, True)})


def test_maps_of_the_node_are_read_as_results_of_a_run(saved, tmp_path):
    assert '3 keyframes and 4 poses' in write_saved(tmp_path, saved)
    run = read_run(tmp_path)
    assert run.cameras == {'left': LENS.camera, 'right': FINE} and run.metric
    assert [i.file_name for i in run.images] == [
        'left_0.png', 'right_0.png', 'left_1.png', 'left_9.png']  # as in recordings
    assert sorted(run.keyframe_of) == [0, 1, 2] == sorted(i.index for i in run.images)[:3]
    for image in run.images[:3]:
        own = run.keyframe_of[image.index]
        assert (own.name, own.camera_name) == (image.name, image.camera_name)
        np.testing.assert_allclose(own.T_map_cam[0, 3], 0.3 * own.id, atol=1e-6)  # metres
    assert all(run.mask(image.name) is not None for image in run.images[:3])
    again = replace(saved, saved=replace(saved.saved, map=replace(
        saved.saved.map, keyframes={i: replace(k, T_map_cam=saved.saved.map.keyframes[i].T_map_cam)
                                    for i, k in run.keyframes.items()})), trajectory=[], lenses={})
    write_saved(tmp_path / 'loaded', again)
    run = read_run(tmp_path / 'loaded')
    assert run.images == () and len(run.keyframes) == 3 and run.cameras['left'].is_pinhole
    assert {k.name for k in run.keyframes.values()} == {'left_0', 'left_1', 'right_0'}


def test_maps_of_the_node_have_classes_and_objects(saved, tmp_path):
    images = {i: Labels(np.full((k.camera.height, k.camera.width), 2, np.uint8),
                        instances=np.full((k.camera.height, k.camera.width), 40 + i, np.uint16))
              for i, k in saved.saved.map.keyframes.items()}
    write_saved(tmp_path, replace(saved, saved=replace(
        saved.saved, labels=SavedLabels(images, ('wall', 'room')))))
    cloud = read_ply(tmp_path / 'map.ply')
    assert (cloud.labels == 2).mean() > 0.9 and (cloud.instances == 1).mean() > 0.9
    again = read_map(tmp_path / 'map.npz').labels
    assert again.names == read_class_names(tmp_path / 'classes.txt') == ('wall', 'room')
    assert all((again.images[i].instances == 40 + i).all() for i in images)


def test_gaussians_are_exported_of_a_saved_map_and_refined(saved, recon3r, tmp_path):
    write_saved(tmp_path, saved)
    made = map_gaussians(read_run(tmp_path), None)
    assert made.means[:, 2].max() == pytest.approx(4.5, abs=1.0)  # metres
    command = ('export', tmp_path, '--format', 'gaussians', '--voxel', '0.1', '--to')
    assert recon3r(*command, tmp_path / 'alone').status == 0
    done = recon3r(*command, tmp_path / 'refined', '--refine', 4)
    assert done.status == 0 and 'refined in 4 steps' in done.out
    assert 'torch rasteriser' in done.err and 'minutes' in done.err
    alone, refined = (read_gaussian_ply(tmp_path / name / 'gaussians.ply')
                      for name in ('alone', 'refined'))
    assert len(alone) == len(refined)
    moved = np.linalg.norm(refined.means - alone.means, axis=1)
    assert 0 < np.median(moved) < 0.05
    refused = recon3r('export', tmp_path, '--format', 'tum', '--refine', 4)
    assert refused.status == 2 and '--format gaussians' in refused.err

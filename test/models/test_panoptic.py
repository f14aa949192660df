# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks and classes of queries to segments, against the authors' outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.models.panoptic import labels_of, segmented
import torch

POST = Path(__file__).parents[1] / 'nets' / 'golden' / 'siu3r_post.npz'


def test_segments_are_those_of_the_authors() -> None:
    """Every pixel: masks that are interpolated otherwise differ in a few alone."""
    with np.load(POST) as file:
        meta = json.loads(str(file['meta']))
        found = segmented(*(torch.from_numpy(file[f'{name}_queries_logits'])
                            for name in ('class', 'masks')), tuple(meta['size']),
                          meta['label_ids_to_fuse'], meta['seg_threshold'])
        step = meta['stride']
        assert np.array_equal(found.segmentation[:, ::step, ::step], file['segmentation'])
    assert [(s.id, s.label, s.fused) for s in found.segments] == [
        (s['id'], s['label_id'], s['was_fused']) for s in meta['segments']]
    assert [s.score for s in found.segments] == pytest.approx(
        [s['score'] for s in meta['segments']], abs=2e-6)
    for ids, labels in zip(found.segmentation, labels_of(found)):
        assert np.array_equal(labels.classes > 0, ids > 0)
        assert np.array_equal(labels.confidence > 0, ids > 0)
        assert labels.confidence.max() <= 1
        for segment in found.segments:
            own = ids == segment.id
            assert (labels.classes[own] == segment.label + 1).all()
            assert (labels.instances[own] == (0 if segment.fused else segment.id)).all()


def queries(*kinds: tuple[int, float]) -> torch.Tensor:
    """Logits (Q, 4) of classes and their probabilities, of three classes and 'no object'."""
    out = torch.zeros(len(kinds), 4)
    for n, (kind, probability) in enumerate(kinds):
        out[n] = float(np.log((1 - probability) / 3))
        out[n, kind] = float(np.log(probability))
    return out


def test_nothing_is_unknown() -> None:
    masks = torch.full((3, 2, 8, 8), 9.0)
    found = segmented(queries((3, 0.9), (0, 0.4), (1, 0.49)), masks, (32, 32), (0,))
    assert not found.segments and not found.segmentation.any()
    assert not any(view.classes.any() for view in labels_of(found))


def test_a_query_that_loses_its_mask_is_dropped() -> None:
    """Of two with one mask the surer one takes it; what the other would have had is unknown."""
    masks = torch.full((2, 1, 8, 8), -9.0)
    masks[0, :, :, :4] = masks[1, :, :, :5] = 9.0
    found = segmented(queries((1, 0.9), (2, 0.8)), masks, (32, 32), (0,))
    assert [s.label for s in found.segments] == [1]
    assert (found.segmentation[0, :, :14] == 1).all()
    assert not found.segmentation[0, :, 17:19].any()

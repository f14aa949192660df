# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Masks of keyframes from pairs, of a box that moves through a room at a known speed.

Each pair votes by ground truth: dynamic where the box is in the one keyframe, static elsewhere; a
third of the pixels was not matched, and some votes are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import logging

from keyframes_by_hand import at_x, keyframe, predicted, TrueViewpoint
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import PairAttention
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion, MIN_CHANGE
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.types import Correspondence, Keyframe, Pair

Mask = NDArray[np.bool_]
CAMERA = Camera(128, 96, 110.0, 110.0, 63.5, 47.5)
SHAPE = (CAMERA.height, CAMERA.width)
#: The box: pixels at keyframe 0, and how many it moves to the right from keyframe to keyframe
ROWS, LEFT, SIDE, SPEED = slice(40, 70), 10, 30, 14
COARSE = MotionConfig(refiner=None)
NOT_MATCHED = Correspondence(np.zeros((*SHAPE, 2), np.float32), np.zeros(SHAPE, np.float32))


def box(i: int, grow: int = 0) -> Mask:
    """Pixels (H, W) of the box in keyframe i, with a margin."""
    mask = np.zeros(SHAPE, bool)
    left = LEFT + SPEED * i
    mask[ROWS.start - grow:ROWS.stop + grow, left - grow:left + SIDE + grow] = True
    return mask


def keyframes(count: int) -> dict[int, Keyframe]:
    """Make keyframes side by side."""
    return {i: keyframe(i, at_x(0.05 * i), camera=CAMERA) for i in range(count)}


def votes(moving: Mask, seed: Sequence[int] = (0,)) -> NDArray[np.int8]:
    """Vote by ground truth, with two in a hundred wrong and a third unknown."""
    rng = np.random.default_rng(seed)
    out = np.where(moving, 1, -1).astype(np.int8)
    out[rng.random(SHAPE) < 0.02] *= -1
    out[rng.random(SHAPE) < 1 / 3] = 0
    return out


def pair(partner: int, new: int, of_partner: Mask | None, of_new: Mask | None) -> Pair:
    """Make a pair with or without votes on dynamic objects in either keyframe."""
    blank = predicted(TrueViewpoint(np.eye(4), CAMERA))
    forward, backward = (
        replace(blank, moving=None if mask is None else votes(mask, (i, j)))
        for mask, i, j in ((of_partner, partner, new), (of_new, new, partner)))
    return Pair(partner, forward, backward, NOT_MATCHED, NOT_MATCHED)


NOTHING = np.zeros(SHAPE, bool)


def assert_covers(mask: Mask, i: int) -> None:
    """Check that a mask covers the box in keyframe i, and little around it."""
    assert mask.shape == SHAPE and mask.dtype == bool
    assert mask[box(i)].mean() > 0.98
    assert not mask[~box(i, grow=8)].any()


def begun(count: int, config: MotionConfig = COARSE) -> tuple[KeyframeMotion, dict[int, Keyframe]]:
    """Add keyframes, without masks."""
    motion, known = KeyframeMotion(config), keyframes(count)
    for k in known.values():
        motion.give(k, None)
    return motion, known


def test_a_moving_box_is_masked_where_it_stands_in_each_keyframe() -> None:
    motion, known = begun(4)
    changed = motion.update([pair(2, 3, box(2), box(3)), pair(0, 3, box(0), box(3))], known[3],
                            known)
    assert sorted(changed) == [0, 2, 3]
    for i, mask in changed.items():
        assert_covers(mask, i)


@pytest.mark.parametrize('case', ['still', 'not told', 'not looked for', 'no pairs'])
def test_without_motion_no_mask_changes(case: str) -> None:
    motion, known = begun(2, replace(COARSE, detect=case != 'not looked for'))
    pairs = {'still': [pair(0, 1, NOTHING, NOTHING)], 'not told': [pair(0, 1, None, None)],
             'not looked for': [pair(0, 1, box(0), box(1))], 'no pairs': []}[case]
    assert motion.update(pairs, known[1], known) == {}


def test_a_pair_that_finds_nearly_everything_in_motion_is_not_believed() -> None:
    motion, known = begun(2)
    assert motion.update([pair(0, 1, ~NOTHING, ~NOTHING)], known[1], known) == {}


def test_a_mask_that_has_not_changed_is_no_news() -> None:
    motion, known = begun(3)
    assert sorted(motion.update([pair(0, 1, box(0), box(1))], known[1], known)) == [0, 1]
    changed = motion.update([pair(1, 2, box(1), box(2))], known[2], known)
    assert sorted(changed) == [2], 'another pair says the same of keyframe 1'


def test_a_false_alarm_is_taken_back() -> None:
    """One pair voted the box dynamic; then four do not. Its mask goes, what was given stays."""
    motion, known = KeyframeMotion(COARSE), keyframes(6)
    given = NOTHING.copy()
    given[:8] = True
    for i, k in known.items():
        known[i] = replace(k, mask=given)
        motion.give(known[i], None)
    alarm = motion.update([pair(0, 1, box(0), NOTHING)], known[1], known)
    assert sorted(alarm) == [0] and alarm[0][box(0)].mean() > 0.98 and alarm[0][:8].all()
    known[0] = replace(known[0], mask=alarm[0])
    for new in range(2, 6):
        changed = motion.update([pair(0, new, NOTHING, NOTHING)], known[new], known)
        known = {i: replace(k, mask=changed.get(i, k.mask)) for i, k in known.items()}
    assert np.array_equal(known[0].mask, given)


def test_a_few_pixels_are_no_news() -> None:
    """The box grows by columns until more than the limit has changed."""
    motion, known = begun(9)
    motion.update([pair(0, 1, box(0), None)], known[1], known)
    more = box(0)
    more[ROWS, LEFT + SIDE:LEFT + SIDE + 1] = True
    assert (more ^ box(0)).mean() < MIN_CHANGE
    assert 0 not in motion.update([pair(0, 1, more, None)], known[1], known)
    more[ROWS, LEFT + SIDE:LEFT + SIDE + 12] = True
    changed = motion.update([pair(0, 1, more, None)], known[1], known)
    assert changed[0][more].mean() > 0.98


def test_the_mask_that_came_with_a_keyframe_stays() -> None:
    motion, known = begun(2)
    given = NOTHING.copy()
    given[80:, 100:] = True
    known[1] = replace(known[1], mask=given)
    motion.give(known[1], None)
    assert motion.given(1) is given
    changed = motion.update([pair(0, 1, box(0), box(1))], known[1], known)
    assert changed[1][given].all() and changed[1][box(1)].mean() > 0.98
    assert not changed[0][80:, 100:].any()


@pytest.mark.parametrize('size', [SHAPE, (48, 64), (192, 256)])
def test_masks_of_any_size_are_added(size: tuple[int, int]) -> None:
    """With the margin that masks get on the grid."""
    motion, known = begun(1)
    rows, columns = (np.linspace(0, n, m, endpoint=False).astype(int)
                     for n, m in zip(SHAPE, size))
    moving = box(0)[np.ix_(rows, columns)]
    own = NOTHING.copy()
    own[:4] = True
    mask = motion.masked(replace(known[0], mask=own), moving)
    assert mask[:4].all()
    mask[:4] = False
    assert_covers(mask, 0)
    assert own[:4].all() and not own[4:].any(), 'the keyframe is a value'


def test_an_empty_mask_adds_nothing() -> None:
    motion, known = begun(1)
    assert not motion.masked(known[0], NOTHING).any()


def test_what_is_left_out_stays_out() -> None:
    """As if it had been given: a false positive that is removed does not bring it back."""
    motion, known = begun(3)
    mask = motion.leave_out(known[0], box(2))
    assert_covers(mask, 2)
    assert motion.given(0) is mask
    changed = motion.update([pair(0, 1, box(0), NOTHING)], known[1], known)
    assert changed[0][box(0)].mean() > 0.98 and changed[0][mask].all()


def shifted(image: NDArray[np.uint8], mask: Mask) -> Mask:
    """Refine: the outline is really ten pixels higher."""
    return np.roll(mask, -10, axis=0)


def test_a_refined_mask_is_added_to_the_one_that_was_found() -> None:
    """Evidence of motion is kept, too, where the image shows no outline."""
    motion, known = begun(2, replace(COARSE, refiner=shifted))
    changed = motion.update([pair(0, 1, box(0), box(1))], known[1], known)
    assert changed[0][box(0)].mean() > 0.98
    assert changed[0][np.roll(box(0), -10, axis=0)].mean() > 0.98


def failing(image: NDArray[np.uint8], mask: Mask) -> Mask:
    """Refine, or not."""
    raise RuntimeError('out of memory')


def test_a_refiner_that_fails_leaves_the_coarse_mask(caplog: pytest.LogCaptureFixture) -> None:
    motion, known = begun(2, replace(COARSE, refiner=failing))
    with caplog.at_level(logging.WARNING):
        changed = motion.update([pair(0, 1, box(0), box(1))], known[1], known)
    assert_covers(changed[1], 1)
    assert 'out of memory' in caplog.text and '001' in caplog.text


def test_keyframes_leave_with_the_window() -> None:
    motion, known = begun(3)
    motion.update([pair(0, 1, box(0), box(1))], known[1], known)
    motion.keep([1, 2])
    with pytest.raises(KeyError):
        motion.given(0)
    assert motion.given(1) is known[1].mask
    # Its votes are gone: one pair that sees nothing move is right, and that is no news
    assert motion.update([pair(0, 2, NOTHING, NOTHING)], known[2], known) == {}


def test_a_keyframe_out_of_the_window_keeps_the_mask_it_has() -> None:
    """A loop's partner: what is found now is added."""
    motion, known = begun(2)
    motion.keep([1])
    own = NOTHING.copy()
    own[:8] = True
    known[0] = replace(known[0], mask=own)
    changed = motion.update([pair(0, 1, box(0), NOTHING)], known[1], known)
    assert changed[0][:8].all() and changed[0][box(0)].mean() > 0.98


def test_a_copy_leaves_no_trace() -> None:
    motion, known = begun(3)
    copy, other = motion.copy(), motion.copy()
    pairs = [pair(0, 1, box(0), box(1))]
    first = copy.update(pairs, known[1], known)
    for new in (4, 5, 6, 7):  # keyframes that see nothing move
        other.update([pair(0, new, NOTHING, None)], keyframes(8)[new], keyframes(8))
    copy.leave_out(known[0], box(2))
    copy.give(known[2], np.ones((6, 8, 4), np.float32))
    assert motion.given(0) is known[0].mask
    again = motion.update(pairs, known[1], known)
    assert sorted(again) == sorted(first) == [0, 1], 'votes of copies do not count'
    assert all(np.array_equal(again[i], first[i]) for i in again)
    copy.keep([2])
    assert motion.given(0) is known[0].mask


#: Tokens of a network have this many pixels a side
TOKEN = 8


def tokens(i: int) -> Mask:
    """Tokens (rows, columns) of the box in keyframe i."""
    return np.asarray(box(i).reshape(SHAPE[0] // TOKEN, TOKEN, SHAPE[1] // TOKEN, TOKEN).mean(
        axis=(1, 3)) > 0.5)


def attended(i: int, j: int) -> PairAttention:
    """
    Make statistics up, as Easi3R's section 3.2 describes them.

    As second view little is asked of what moves, and differently from pair to pair; as first view
    much is, and always the same.
    """
    rng = np.random.default_rng([3, i, j])

    def noisy(moving: Mask, level: float, spread: float) -> NDArray[np.float16]:
        still = rng.normal(0.0, 0.25, (*moving.shape, 24))
        own = level + spread * rng.normal(0.0, 1.0, 24) + 0.5 * still
        return np.where(moving[..., None], own, still).astype(np.float16)
    return PairAttention(noisy(tokens(i), 1.5, 0.1), noisy(tokens(j), -1.5, 0.8))


def attended_pair(partner: int, new: int) -> Pair:
    """Make a pair with attention."""
    blank = predicted(TrueViewpoint(np.eye(4), CAMERA))
    return Pair(partner, replace(blank, attention=attended(partner, new)),
                replace(blank, attention=attended(new, partner)), NOT_MATCHED, NOT_MATCHED)


def look_at_all(config: MotionConfig) -> tuple[KeyframeMotion, dict[int, Mask]]:
    """Add five keyframes with features, each with the two before; return all changes."""
    motion, known, found = KeyframeMotion(config), keyframes(5), {}
    for new, k in known.items():
        rng = np.random.default_rng([4, new])
        features = rng.normal(0, 0.1, (*tokens(new).shape, 8)).astype(np.float32)
        features[..., 0] += 5 * tokens(new)
        motion.give(k, features)
        found |= motion.update([attended_pair(p, new) for p in range(max(0, new - 2), new)], k,
                               known)
    return motion, found


def overlap(a: Mask, b: Mask) -> float:
    """Jaccard index."""
    return float((a & b).sum() / (a | b).sum())


def test_attention_masks_what_votes_do_not_tell() -> None:
    _, found = look_at_all(COARSE)
    assert sorted(found) == [0, 1, 2, 3, 4]
    for i in range(1, 4):
        assert found[i][box(i)].mean() > 0.8, 'tokens are coarse'
        assert overlap(found[i], box(i, grow=3)) > 0.6


def test_the_newest_keyframe_tells_what_attention_says_of_it() -> None:
    """Without votes and given masks, and also where that is no news; None with too few pairs."""
    motion, known = KeyframeMotion(COARSE), keyframes(6)
    told = []
    for new, k in known.items():
        k = replace(k, mask=~NOTHING)
        motion.give(k, np.repeat(tokens(new)[..., None], 8, axis=2).astype(np.float32))
        motion.update([attended_pair(p, new) for p in range(max(0, new - 2), new)], k, known)
        told.append(motion.attended)
    assert told[0] is None and told[1] is None
    for i in (2, 3, 4):
        mask = told[i]
        assert mask is not None and mask.shape == SHAPE and overlap(mask, box(i)) > 0.6
    copy = motion.copy()
    copy.update([pair(4, 5, box(4), box(5))], replace(known[5], id=6), known | {6: known[5]})
    assert copy.attended is None and motion.attended is told[5]


def test_at_the_end_all_keyframes_are_looked_at_together() -> None:
    """Also those that have left the window; unless nothing is detected, or only live."""
    motion, _ = look_at_all(replace(COARSE, offline=True))
    motion.keep([4])
    newest = keyframes(5)[4]
    masks = motion.of_all(newest)
    assert sorted(masks) == [0, 1, 2, 3, 4]
    assert all(overlap(masks[i], box(i)) > 0.6 for i in range(1, 4))
    for config in (COARSE, replace(COARSE, offline=True, detect=False)):
        assert look_at_all(config)[0].of_all(newest) == {}


def test_a_copy_of_what_attention_knows_leaves_no_trace() -> None:
    motion, _ = look_at_all(replace(COARSE, offline=True))
    newest = keyframes(5)[4]
    before = motion.of_all(newest)
    copy, new = motion.copy(), keyframes(6)[5]
    copy.give(new, np.ones((*tokens(0).shape, 8), np.float32))
    copy.update([attended_pair(p, 5) for p in (3, 4)], new, keyframes(6))
    after = motion.of_all(newest)
    assert sorted(after) == sorted(before)
    assert all(np.array_equal(after[i], before[i]) for i in before)


def test_at_the_end_of_nothing() -> None:
    assert KeyframeMotion(replace(COARSE, offline=True)).of_all(keyframes(1)[0]) == {}

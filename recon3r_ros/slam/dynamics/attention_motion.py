# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects from the attention of a pair network: Easi3R (Chen et al., 2025), without training.

Tokens of dynamic objects violate the epipolar geometry that cross-attention has learned: averaged
over a view's pairs, they receive little attention as part of a second view, and it varies from
pair to pair. The paper processes a whole video, as `offline` does. `AttentionMotion` processes a
stream: a sliding window of keyframes, in which normalisation, clusters and threshold are kept, so
that masks do not flicker as the window slides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
import copy
from dataclasses import dataclass
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.types import PairAttention
from recon3r_ros.slam.pair_table import PairTable

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

#: Clusters of encoder tokens (Easi3R, section 3.3)
CLUSTERS = 64
#: Classes among which the threshold lies, and bins of the histogram
CLASSES, BINS = (2, 3, 4), 256
#: Edges in which a keyframe is the first view, and in which it is the second, at least: the
#: deviation of one value is undefined
MIN_EDGES = 2
#: Update rate of normalisation and threshold
RATE = 0.2
#: Least range that an image is normalised by, as a share of the usual one, and how much more
#: slowly that one falls than it rises: objects may stand still for a while
MIN_RANGE, FORGETTING = 0.5, 0.02
#: In denominators
EPSILON = 1e-6
#: Seed and iterations of clustering, and iterations to update clusters
_SEED, _ROUNDS, _MORE_ROUNDS = 42, 100, 5


@dataclass(frozen=True, eq=False)
class FusedMaps:
    """
    Statistics of the attention over each image's edges, in [0, 1].

    :param src_mean: (n, rows, columns), mean over the edges in which an image is the second view
    :param src_std: their deviation
    :param ref_mean: the same where it is the first view
    :param ref_std: their deviation
    """

    src_mean: Map
    src_std: Map
    ref_mean: Map
    ref_std: Map

    def dynamic(self) -> Map:
        """Return dynamic scores of tokens (n, rows, columns), not normalised (equation 9)."""
        return (1 - self.src_mean) * self.src_std * self.ref_mean * (1 - self.ref_std)


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """
    Dynamic objects in one image.

    :param dynamic: (rows, columns) dynamic scores of tokens, in [0, 1]
    :param threshold: score above which a token is dynamic
    """

    dynamic: Map
    threshold: float

    def pixels(self, width: int, height: int) -> Mask:
        """Return the mask (height, width) of an image."""
        return upsampled(self.dynamic, width, height) > self.threshold


class Normaliser:
    """
    Normalises values to [0, 1] by their range, averaged over calls.

    :param rate: update rate of the averaged range, once it is known; 1 takes the present range
    """

    def __init__(self, rate: float = 1.0) -> None:
        self._rate = rate
        self._ranges: dict[str, NDArray[np.float64]] = {}
        self._usual: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, name: str, values: Map) -> Map:
        """Normalise values, whose range is averaged under a name."""
        present = np.array([values.min(), values.max()], np.float64)
        known = self._ranges.get(name, present)
        count = self._counts[name] = self._counts.get(name, 0) + 1
        low, high = self._ranges[name] = known + max(self._rate, 1 / count) * (present - known)
        return ((values - low) / (high - low + EPSILON)).astype(np.float32)

    def each(self, name: str, values: Map) -> Map:
        """
        Normalise images (n, ...) by their own ranges, and no less than a share of the usual one.

        So noise of a static image is not amplified.
        """
        usual = float(np.median([v.max() - v.min() for v in values]))
        known = self._usual.get(name, usual)
        count = self._counts[name] = self._counts.get(name, 0) + 1
        rate = max(self._rate if usual > known else self._rate * FORGETTING, 1 / count)
        known = self._usual[name] = known + rate * (usual - known)
        return np.stack([(v - v.min()) / (max(v.max() - v.min(), MIN_RANGE * known) + EPSILON)
                         for v in values]).astype(np.float32)


def fuse(edges: Mapping[tuple[int, int], PairAttention], images: Sequence[int],
         normalise: Normaliser) -> FusedMaps:
    """
    Combine the statistics of images over their edges.

    :param edges: by first and second view
    :param images: those to combine, each with `MIN_EDGES` or more either way
    """
    found = {}
    for name, own, maps in (
            ('src', 1, {edge: a.second for edge, a in edges.items()}),
            ('ref', 0, {edge: a.first for edge, a in edges.items()})):
        stacks = [np.stack([_without_corner(m) for edge, m in maps.items() if edge[own] == i])
                  for i in images]
        found[f'{name}_mean'] = np.stack([s.mean(0) for s in stacks])
        found[f'{name}_std'] = np.stack([s.std(0, ddof=1) for s in stacks])
    # Over all images, positions and channels, then without channels
    return FusedMaps(**{
        name: normalise(name, normalise(f'{name} of channels', stack).mean(-1))
        for name, stack in found.items()})


def complete(edges: Mapping[tuple[int, int], PairAttention]) -> list[int]:
    """Images that have enough edges for a mask, in order."""
    firsts, seconds = ([edge[k] for edge in edges] for k in range(2))
    return sorted(i for i in set(firsts)
                  if min(firsts.count(i), seconds.count(i)) >= MIN_EDGES)


def cluster_means(dynamic: Map, labels: Labels) -> Map:
    """
    Give every token the mean of its cluster.

    :param dynamic: of any shape
    :param labels: of the same shape
    """
    total = np.bincount(labels.ravel(), dynamic.ravel())
    mean = total / np.maximum(np.bincount(labels.ravel()), 1)
    return mean[labels].astype(np.float32)


def threshold(maps: Map) -> float:
    """
    Find the value that separates dynamic from static.

    Multi-Otsu (Liao et al., 2001) with several numbers of classes; the one whose classes are the
    farthest apart is used (Easi3R, section 3.3).

    :param maps: (n, H, W) upsampled; where all are equal, nothing is dynamic
    """
    from skimage.filters import threshold_multiotsu
    best, found = 0.0, float('inf')
    for classes in CLASSES:
        try:
            limits = threshold_multiotsu(maps, classes, nbins=BINS)
        except ValueError:  # fewer different values than classes
            continue
        index = np.digitize(maps, limits)
        means = [maps[index == c].mean() for c in range(classes) if (index == c).any()]
        score = float(np.var(means)) / np.sqrt(classes)
        if score > best:
            best, found = score, float(limits[-1])
    return found


def upsampled(dynamic: Map, width: int, height: int) -> Map:
    """Bring a map of tokens to the size of an image."""
    out: Map = cv2.resize(dynamic, (width, height), interpolation=cv2.INTER_LINEAR)
    return out


def per_image(values: Map) -> Map:
    """Normalise each image (n, ...) by itself."""
    return np.stack([Normaliser()('', v) for v in values])


def offline(edges: Mapping[tuple[int, int], PairAttention], features: Mapping[int, Map],
            size: tuple[int, int]) -> dict[int, AttentionMask]:
    """
    Detect dynamic objects in a whole sequence: the paper's method.

    :param edges: statistics by first and second view
    :param features: (rows, columns, C) encoder tokens of each view, all of one shape
    :param size: width and height of the images
    :return: masks of all views that have enough edges
    """
    images = complete(edges)
    if not images:
        return {}
    labels, _ = cluster(np.stack([features[i] for i in images]), None)
    dynamic = per_image(fuse(edges, images, Normaliser()).dynamic())
    refined = per_image(cluster_means(dynamic, labels))
    limit = threshold(np.stack([upsampled(m, *size) for m in refined]))
    return {i: AttentionMask(m, limit) for i, m in zip(images, refined)}


class AttentionMotion:
    """
    The same for a stream: statistics of a sliding window's pairs.

    :param everything: whether they are kept when the window moves on, for `offline`
    """

    def __init__(self, everything: bool = False) -> None:
        self._everything = everything
        self._edges: PairTable[PairAttention] = PairTable()
        self._features: dict[int, NDArray[np.float16]] = {}
        self._window: set[int] = set()
        self._normalise = Normaliser(RATE)
        self._centres: Map | None = None
        self._most = 0
        self._threshold: float | None = None

    def copy(self) -> AttentionMotion:
        """Return an independent copy."""
        out = copy.copy(self)
        out._edges, out._features, out._window = (
            self._edges.copy(), dict(self._features), set(self._window))
        out._normalise = copy.deepcopy(self._normalise)
        return out

    def add(self, first: int, second: int, attention: PairAttention) -> None:
        """Add the statistics of a directed pair of keyframes."""
        self._edges[first, second] = attention

    def see(self, i: int, features: Map) -> None:
        """Add the tokens (rows, columns, C) of a keyframe."""
        self._features[i] = features.astype(np.float16)
        self._window.add(i)

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._edges.forget(i)
        self._features.pop(i, None)
        self._window.discard(i)

    def keep(self, window: Collection[int]) -> None:
        """Slide the window."""
        self._window &= set(window)
        if not self._everything:
            self._edges.keep_both(self._window)
            self._features = {i: f for i, f in self._features.items() if i in self._window}

    def masks(self, like: int, size: tuple[int, int]) -> dict[int, AttentionMask]:
        """
        Detect dynamic objects in the window.

        :param like: a keyframe; those of another shape are ignored
        :param size: width and height of its grid
        :return: masks of all keyframes of its shape that have enough edges
        """
        edges, features = self._of_shape(like, self._window)
        images = complete(edges)
        if not images:
            return {}
        if len(images) > self._most:  # more images: cluster anew
            self._most, self._centres = len(images), None
        labels, self._centres = cluster(np.stack([features[i] for i in images]), self._centres)
        dynamic = self._normalise.each('dynamic', fuse(edges, images, self._normalise).dynamic())
        refined = self._normalise.each('refined', cluster_means(dynamic, labels))
        present = threshold(np.stack([upsampled(m, *size) for m in refined]))
        if self._threshold is None or not np.isfinite(self._threshold):
            self._threshold = present
        elif np.isfinite(present) and (refined > self._threshold).any():
            self._threshold += RATE * (present - self._threshold)
        return {i: AttentionMask(m, self._threshold) for i, m in zip(images, refined)}

    def all_masks(self, like: int, size: tuple[int, int]) -> dict[int, AttentionMask]:
        """Detect dynamic objects in all keyframes of a shape: see `offline` and `masks`."""
        return offline(*self._of_shape(like, self._features), size)

    def _of_shape(self, like: int, among: Collection[int]
                  ) -> tuple[dict[tuple[int, int], PairAttention], dict[int, Map]]:
        if like not in self._features:  # a predictor without attention
            return {}, {}
        shape = self._features[like].shape
        features = {i: f.astype(np.float32) for i, f in self._features.items()
                    if i in among and f.shape == shape}
        return {pair: a for pair, a in self._edges.items() if set(pair) <= set(features)}, features


def cluster(features: Map, centres: Map | None) -> tuple[Labels, Map]:
    """
    Group similar tokens by k-means.

    :param features: (n, rows, columns, C) encoder tokens
    :param centres: (k, C) to update; None initialises them
    :return: labels (n, rows, columns), and the centres (k, C)
    """
    from scipy.cluster.vq import kmeans2
    tokens = features.reshape(-1, features.shape[-1]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about empty clusters
        if centres is None:
            centres, labels = kmeans2(tokens, min(CLUSTERS, len(tokens)), _ROUNDS, minit='++',
                                      seed=_SEED)
        else:
            centres, labels = kmeans2(tokens, centres, _MORE_ROUNDS, minit='matrix')
    return labels.reshape(features.shape[:-1]), centres


def _without_corner(attention: NDArray[np.floating]) -> Map:
    """Replace the attention to the first token, which is an attention sink."""
    out = attention.astype(np.float32)
    out[0, 0] = (out[0, 1] + out[1, 0]) / 2
    return out

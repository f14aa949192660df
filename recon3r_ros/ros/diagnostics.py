# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""State of the node, for /diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from recon3r_ros.ros import conversions
from recon3r_ros.ros.rigs import RigHealth
from recon3r_ros.ros.scale_gate import ScaleGate
from recon3r_ros.ros.stereo_pair import PairHealth
from recon3r_ros.slam.people import PeopleCounts
from recon3r_ros.slam.types import MetricScale, TrackingState

#: Share of recent images that may be dropped or rejected without a warning
MAX_LOST_SHARE = 0.1
#: How many reports back an image is recent
RECENT = 10
#: Stage of `latencies_ms`: run time of the image callback
CALLBACK = 'callback'


@dataclass(frozen=True)
class CameraHealth:
    """
    State of one camera.

    :param topics: that it subscribes to
    :param received: images
    :param posed: images that got a pose
    :param dropped: images dropped from a full queue
    :param rejected: images that could not be used, with the last `reason`
    :param waiting: images in the queue
    :param rate: images a second
    :param silent_s: seconds since the last image, or since activation where none came
    :param age_s: from an image's stamp to its pose, the last one; None before the first
    :param state: of its tracker; None before its first image
    :param intrinsics: what is unusual about them; '' where nothing is
    :param cause: why its newest image has no pose; '' where it has one
    :param people: who are kept out; None where nobody was looked for
    """

    name: str
    topics: tuple[str, ...]
    received: int
    posed: int
    dropped: int
    rejected: int
    reason: str
    waiting: int
    rate: float
    silent_s: float
    age_s: float | None
    state: TrackingState | None
    intrinsics: str = ''
    cause: str = ''
    people: PeopleCounts | None = None


@dataclass(frozen=True)
class Health:
    """
    State of the node.

    :param paused: whether images are ignored
    :param error: the last exception of the worker, or ''
    :param notice: what the user should know, or ''
    :param keyframes: of the map
    :param scale: metres per map unit; None where unknown
    :param shed: work that is not done for lack of time, and why
    :param latencies_ms: median milliseconds per stage
    :param memory_mb: resident, of the node and its mapping process
    :param inertial: what is in use of an IMU, and why not; nothing without one
    :param pairs: stereo pairs
    :param rigs: of several cameras
    """

    name: str
    cameras: tuple[CameraHealth, ...]
    paused: bool
    error: str
    notice: str
    keyframes: int
    scale: MetricScale | None
    shed: str
    latencies_ms: dict[str, float]
    memory_mb: float
    inertial: dict[str, str] = field(default_factory=dict)
    pairs: tuple[PairHealth, ...] = ()
    rigs: tuple[RigHealth, ...] = ()


def diagnostic_array(health: Health, image_timeout_s: float, stamp_ns: int,
                     earlier: Health | None = None) -> DiagnosticArray:
    """
    Message of it: one status for the node, one for each camera, stereo pair and rig.

    :param image_timeout_s: seconds without images, after which there is a warning
    :param earlier: some reports ago: images lost before then give no warning any more
    """
    before = {} if earlier is None else {camera.name: camera for camera in earlier.cameras}
    statuses = [_node_status(health)]
    statuses += [_camera_status(health, camera, before.get(camera.name), image_timeout_s)
                 for camera in health.cameras]
    pairs = {} if earlier is None else {pair.name: pair for pair in earlier.pairs}
    statuses += [_pair_status(health, pair, pairs.get(pair.name)) for pair in health.pairs]
    rigs = {} if earlier is None else {rig.cameras: rig for rig in earlier.rigs}
    statuses += [_rig_status(health, rig, rigs.get(rig.cameras)) for rig in health.rigs]
    return DiagnosticArray(header=conversions.header(stamp_ns, ''), status=statuses)


def scale_status(gate: ScaleGate) -> DiagnosticStatus:
    """
    Put the published scale into the latched message of ~/scale.

    All lengths that are published from now on have it. Consumers drop clouds of an earlier
    revision; those of the newest keyframes and the whole map are published again.
    """
    scale = gate.metric
    values = {'revision': str(gate.revision), **_scale_values(scale),
              'metres per map unit': 'nan' if scale is None else repr(scale.value)}
    return _status('scale', '', DiagnosticStatus.WARN if scale is None else DiagnosticStatus.OK,
                   f'scale: {values["scale"]}', values)


def classes_status(names: Sequence[str]) -> DiagnosticStatus:
    """
    Put the names of classes into the latched message of ~/classes.

    :param names: of the classes, whose numbers in the field label are from 1
    """
    return _status('classes', '', DiagnosticStatus.OK, f'{len(names)} classes of the field label',
                   {str(n): name for n, name in enumerate(names, 1)})


def _scale_values(scale: MetricScale | None) -> dict[str, str]:
    if scale is None:
        return {'scale': 'unknown', 'scale uncertainty': '', 'scale source': ''}
    return {'scale': f'{scale.value:.5g} m per map unit',
            'scale uncertainty': f'{100 * scale.sigma:.1f} %', 'scale source': scale.source}


def _node_status(health: Health) -> DiagnosticStatus:
    states = {c.state for c in health.cameras}
    level, message = DiagnosticStatus.OK, 'initialising'
    if health.error:
        level, message = DiagnosticStatus.ERROR, health.error
    elif health.paused:
        message = 'paused'
    elif TrackingState.TRACKING in states:
        message = 'tracking'
    elif TrackingState.LOST in states:
        level, message = DiagnosticStatus.WARN, 'lost: move the camera back to a mapped area'
    unused = [f'{part}: {status}' for part, status in health.inertial.items()
              if status.startswith('not in use')]
    if unused and level == DiagnosticStatus.OK and not health.notice:
        level, message = DiagnosticStatus.WARN, '; '.join(unused)
    if health.notice and level == DiagnosticStatus.OK:
        level, message = DiagnosticStatus.WARN, health.notice
    values = {
        'keyframes': str(health.keyframes),
        **_scale_values(health.scale),
        **health.inertial,
        'load shedding': health.shed,
        'memory': f'{health.memory_mb:.0f} MB',
        **{f'{stage} time': f'{ms:.1f} ms' for stage, ms in health.latencies_ms.items()},
    }
    return _status(f'{health.name}: reconstruction', health.name, level, message, values)


def _camera_status(health: Health, camera: CameraHealth, before: CameraHealth | None,
                   timeout_s: float) -> DiagnosticStatus:
    level, message = DiagnosticStatus.OK, ''
    if camera.state is not None:
        message = camera.state.value + (f': {camera.cause}' if camera.cause else '')
    lost, received = camera.dropped + camera.rejected, camera.received
    if before is not None:
        lost, received = lost - before.dropped - before.rejected, received - before.received
    if camera.silent_s > timeout_s and not health.paused:
        level = DiagnosticStatus.WARN
        message = (f'no image for {camera.silent_s:.0f} s; waiting for '
                   + ', '.join(camera.topics))
    elif lost > MAX_LOST_SHARE * max(received, 1):
        level = DiagnosticStatus.WARN
        message = (f'{lost} of {received} images were not used: '
                   + (camera.reason or 'they come faster than they can be processed'))
    elif camera.intrinsics:
        level, message = DiagnosticStatus.WARN, camera.intrinsics
    values = {
        'state': '' if camera.state is None else camera.state.value,
        'no pose because': camera.cause,
        'images received': str(camera.received),
        'images posed': str(camera.posed),
        'images dropped': str(camera.dropped),
        'images rejected': str(camera.rejected),
        'last reason': camera.reason,
        'intrinsics': camera.intrinsics,
        'queue': str(camera.waiting),
        'rate': f'{camera.rate:.1f} Hz',
        'stamp to pose': '' if camera.age_s is None else f'{1e3 * camera.age_s:.0f} ms',
        'last image': f'{camera.silent_s:.1f} s ago',
        **_people_values(camera.people),
    }
    return _status(f'{health.name}: {camera.name}', health.name, level, message, values)


def _people_values(people: PeopleCounts | None) -> dict[str, str]:
    if people is None:
        return {}
    return {'images searched for people': str(people.searched), 'people': str(people.people),
            'share of pixels kept out': f'{100 * people.share:.1f} %',
            'images whose people were not believed': str(people.disbelieved)}


def _pair_status(health: Health, pair: PairHealth, before: PairHealth | None) -> DiagnosticStatus:
    level, message = DiagnosticStatus.OK, f'{pair.name} and {pair.second} are paired'
    pairs, alone = pair.pairs, pair.without_partner
    if before is not None:
        pairs, alone = pairs - before.pairs, alone - before.without_partner
    if pair.stands_in:
        level = DiagnosticStatus.WARN
        message = f'{pair.name} sends no images: {pair.second} is tracked in its place'
    elif pair.notice:
        level, message = DiagnosticStatus.WARN, pair.notice
    elif alone and not pairs:
        level = DiagnosticStatus.WARN
        message = f'no image of {pair.second} for the last {alone} of {pair.name}'
    values = {
        'pairs': str(pair.pairs),
        'images without partner': str(pair.without_partner),
        f'images of {pair.second} left over': str(pair.left_over),
        'offset of stamps': '' if pair.offset_ms is None else f'{pair.offset_ms:+.1f} ms',
        'extrinsics': pair.source or 'unknown',
        'baseline': '' if pair.baseline_m is None else f'{pair.baseline_m:.4f} m',
        'epipolar error': '' if pair.error_px is None else f'{pair.error_px:.2f} px',
    }
    return _status(f'{health.name}: stereo {pair.name}', health.name, level, message, values)


def _rig_status(health: Health, rig: RigHealth, before: RigHealth | None) -> DiagnosticStatus:
    level, message = DiagnosticStatus.OK, f'{", ".join(rig.cameras)} are posed together'
    complete, missing = rig.complete, dict(rig.missing)
    if before is not None:
        complete -= before.complete
        missing = {name: count - before.missing[name] for name, count in missing.items()}
    away = [name for name, count in missing.items() if count and not complete]
    if rig.notice:
        level, message = DiagnosticStatus.WARN, rig.notice
    elif away:
        level = DiagnosticStatus.WARN
        message = 'no instant is complete: ' + ', '.join(
            f'{name} is missing in {missing[name]}' for name in away)
    elif not rig.source:
        message = 'images of two cameras are waited for'
    values = {
        'instants complete': str(rig.complete),
        **{f'instants without {name}': str(count) for name, count in rig.missing.items()},
        **{f'offset of stamps of {name}': f'{ms:+.1f} ms'
           for name, ms in rig.offsets_ms.items()},
        'extrinsics': rig.source or 'unknown',
        'extrinsics unknown of': ', '.join(rig.unplaced),
    }
    return _status(f'{health.name}: rig {rig.cameras[0]}', health.name, level, message, values)


def _status(name: str, hardware: str, level: bytes, message: str, values: dict[str, str]
            ) -> DiagnosticStatus:
    return DiagnosticStatus(name=name, hardware_id=hardware, level=level, message=message,
                            values=[KeyValue(key=k, value=v) for k, v in values.items()])

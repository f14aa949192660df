# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where CPU time goes: samples of a program whose shares are known, tables, flame graphs."""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from recon3r_ros.bench import stages
from recon3r_ros.bench.flame_graph import flame_graph, read_stacks, WIDTH

#: Functions with known CPU times, in random order so that none is in step with the timer
PROGRAM = """
import json, random, sys, time
from pathlib import Path
import cv2, numpy as np
from recon3r_ros.bench import sampler

sampler._PACKAGE = Path(__file__).parent
rng = np.random.default_rng(0)
array, image = rng.random((400, 400)), rng.integers(0, 256, (400, 400), np.uint8)
cv2.setNumThreads(1)
times = {'with_opencv': 0.0, 'with_numpy': 0.0, 'with_python': 0.0}

def with_opencv():
    cv2.GaussianBlur(image, (0, 0), 2)

def with_numpy():
    np.sqrt(array) + array

def with_python():
    total = 0
    for i in range(20000):
        total += i

with sampler.Sampler() as found:
    while time.process_time() < 6:
        function = random.choice([with_opencv, with_numpy, with_python])
        begin = time.thread_time()
        function()
        times[function.__name__] += time.thread_time() - begin
print(json.dumps(times))
print(*found.lines(), sep='\\n')
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='Linux has a clock for each thread')
def test_samples_have_the_shares_of_the_cpu_time(tmp_path: Path) -> None:
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True,
                          check=True)
    first, _, rest = done.stdout.partition('\n')
    times = json.loads(first)
    sampled: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {name: Counter() for name in times}
    for stack, seconds in read_stacks(rest).items():
        for name in times:
            if f'program.py {name}' in stack:
                sampled[name] += seconds  # type: ignore[assignment]
                kinds[name][stack[-1].rpartition('[')[2]] += seconds  # type: ignore[assignment]
    for name, seconds in times.items():
        assert sampled[name] / sampled.total() == pytest.approx(
            seconds / sum(times.values()), abs=0.12)
    if sys.version_info >= (3, 11):
        assert {name: kinds[name].most_common(1)[0][0] for name in times} == {
            'with_opencv': 'OpenCV]', 'with_numpy': 'NumPy]', 'with_python': 'Python]'}


RUN = ('MainThread', 'cli/session.py Session.add', 'slam/driver.py Driver.add',
       'slam/system.py System.add')
TRACK = (*RUN, 'slam/frontend/tracking.py Tracker._search')
STACKS = {
    (*TRACK, 'cv2.calcOpticalFlowPyrLK [OpenCV]'): 3.0,
    (*TRACK, 'geometry/se3.py inverse', 'operators [NumPy]'): 1.0,
    (*RUN, 'slam/backend/mapping.py Mapper.add', 'models/geometric.py predict_pair',
     'geometry/flow.py compute_flow', 'dis.calc [OpenCV]'): 10.0,
    ('recon3r-prefetch', 'io/decode.py decode', 'cv2.imdecode [OpenCV]'): 2.0,
    ('MainThread', 'cli/session.py Session.finish', 'slam/driver.py Driver.finish',
     '[Python]'): 3.0,
    ('MainThread', 'cli/run.py <module>', '[Python]'): 1.0,
}


def test_time_is_given_to_the_stage_that_uses_it() -> None:
    tables = stages.profile_tables(STACKS, {'frames_tracked': 100, 'keyframes': 5})
    assert '| 100 frames | 4.0 | 20% |' in tables
    assert '| 5 keyframes | 10.0 | 50% |' in tables
    assert '| reading and decoding images, in a thread | 2.0 | 10% |' in tables
    assert '| final refinement, writing of results | 3.0 | 15% |' in tables
    assert ('| `slam/frontend/tracking.py`: Camera pose at frame rate | 40.00 | 100% '
            '| 75% | 25% | 0% | 0% | cv2.calcOpticalFlowPyrLK (75%) |') in tables
    assert '| `geometry/flow.py`: ' in tables
    assert '| 2000.00 | 100% | 100% | 0% | 0% | 0% | dis.calc (100%) |' in tables


def test_shared_modules_exist() -> None:
    """A pattern that matches nothing has lost what it was meant for."""
    modules = [p.relative_to(stages._PACKAGE).as_posix() for p in stages._PACKAGE.rglob('*.py')]
    assert {'geometry/se3.py', 'slam/types.py', 'slam/visibility.py'} <= {
        m for m in modules if stages._SHARED.match(m)}
    assert not any(stages._SHARED.match(m) for m in (
        'geometry/flow.py', 'geometry/pnp.py', 'geometry/two_view.py'))
    assert all((stages._PACKAGE / m).is_file() for m in (
        'geometry/flow.py', 'geometry/pnp.py', 'geometry/two_view.py', 'slam/driver.py',
        'cli/session.py'))


def test_widths_of_a_flame_graph_are_the_seconds() -> None:
    root = ElementTree.fromstring(flame_graph(STACKS, 'a run <of 20 s>'))
    space = '{http://www.w3.org/2000/svg}'
    widths = {}
    for group in root.iter(f'{space}g'):
        title, rectangle = group.find(f'{space}title'), group.find(f'{space}rect')
        widths[title.text] = float(rectangle.get('width'))
        assert 0 <= float(rectangle.get('x')) <= WIDTH - widths[title.text] + 0.1
    assert widths['a run <of 20 s>: 20.00 s'] == pytest.approx(WIDTH)
    assert widths['MainThread: 18.00 s'] == pytest.approx(0.9 * WIDTH)
    assert widths['slam/system.py System.add: 14.00 s'] == pytest.approx(0.7 * WIDTH)
    assert widths['dis.calc [OpenCV]: 10.00 s'] == pytest.approx(0.5 * WIDTH)


def test_stacks_survive_their_file() -> None:
    lines = [f'{";".join(stack)} {round(1e6 * s)}' for stack, s in STACKS.items()]
    assert read_stacks('\n'.join(lines)) == pytest.approx(STACKS)

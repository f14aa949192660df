# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objects between two processes, their arrays through shared memory."""

from __future__ import annotations

from multiprocessing import Pipe
import os
import threading

import numpy as np
import pytest
from recon3r_ros.slam.backend import channel as module
from recon3r_ros.slam.backend.channel import Channel, shared_file


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def ends():
    ours, theirs = Pipe()
    there, back = shared_file(), shared_file()
    pair = (Channel(ours, there, back), Channel(theirs, os.dup(back), os.dup(there)))
    yield pair
    for end in pair:
        end.close()


def carried(ends, value):
    """Send in a thread, because a full pipe blocks."""
    thread = threading.Thread(target=ends[0].send, args=(value,))
    thread.start()
    received = ends[1].recv()
    thread.join()
    return received


def arrays(rng, size):
    return {'image': rng.integers(0, 255, (size, size, 3), np.uint8), 'none': np.zeros((0, 3)),
            'depth': rng.normal(size=(size, size)).astype(np.float32), 'name': 'a',
            'strided': rng.normal(size=(size, size))[:, ::2]}


@pytest.mark.parametrize('size', [4, 300, 2000])
def test_what_is_sent_arrives(ends, rng, size):
    """Also where the memory grows, and where it is too small, in both directions."""
    for _ in range(2):
        sent = arrays(rng, size)
        received = carried(ends, sent)
        assert received['name'] == 'a'
        for name in ('image', 'none', 'depth', 'strided'):
            assert received[name].dtype == sent[name].dtype
            np.testing.assert_array_equal(received[name], sent[name])
        back = carried(ends[::-1], received)
        np.testing.assert_array_equal(back['image'], sent['image'])


def test_what_was_received_is_not_overwritten(ends, rng):
    first, second = arrays(rng, 300), arrays(rng, 300)
    received = carried(ends, first)
    carried(ends, second)
    np.testing.assert_array_equal(received['image'], first['image'])
    received['image'][:] = 0  # and may be written to


def test_arrays_do_not_take_the_pipe(ends, rng, monkeypatch):
    lengths = []
    original = module.pickle.loads
    monkeypatch.setattr(module.pickle, 'loads', lambda data, **kwargs: (
        lengths.append(len(data)), original(data, **kwargs))[1])
    carried(ends, {**arrays(rng, 300), 'strided': None})
    assert max(lengths) < 1000


def test_without_memory_the_pipe_is_used(ends, rng, monkeypatch):
    def full(*_):
        raise OSError('No space left on device')
    monkeypatch.setattr(module.os, 'posix_fallocate', full)
    sent = arrays(rng, 300)
    np.testing.assert_array_equal(carried(ends, sent)['image'], sent['image'])


def test_nothing_is_left_in_memory():
    before = set(os.listdir(module._FOLDER))
    descriptor = shared_file()
    assert set(os.listdir(module._FOLDER)) <= before
    os.close(descriptor)


def test_closed_end():
    for use in (lambda channel: channel.send(1), Channel.recv):
        ours, theirs = Pipe()
        channel = Channel(ours, shared_file(), shared_file())
        theirs.close()
        with pytest.raises((OSError, EOFError)):
            use(channel)
        channel.close()

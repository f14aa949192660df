# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An interrupt ends the command, wherever it arrives."""

import ctypes
import signal
import time

import pytest
from recon3r_ros.cli.interruption import Interruption, kept_interrupts


def test_an_interrupt_in_a_callback_from_c_is_not_lost():
    @ctypes.CFUNCTYPE(None)
    def callback():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), kept_interrupts():
        callback()  # Python ignores the exception here
        time.sleep(5)
        pytest.fail('the interrupt is lost')


def test_the_second_interrupt_aborts():
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        signal.raise_signal(signal.SIGINT)

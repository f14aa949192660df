# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What other modules log reaches the node's log."""

import logging

from recon3r_ros.ros.library_log import LibraryLog


def test_records_are_handed_on_until_it_is_closed():
    lines, warnings = [], []
    log = LibraryLog(lines.append, warnings.append)
    compiled, models = (logging.getLogger(f'recon3r_ros.{name}') for name in (
        'compiled', 'models.runtime'))
    try:
        compiled.info('compiling for %d s', 20)
        models.info('what nobody needs to know')
        models.warning('out of\nmemory')
    finally:
        log.close()
    models.warning('after the end')
    assert (lines, warnings) == (['compiling for 20 s'], ['out of memory'])

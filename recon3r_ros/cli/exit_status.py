# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exit statuses of the `recon3r` command, as `recon3r --help` lists them."""

NOTHING_PRODUCED = 1
BAD_INPUT = 2
BUG = 70
INTERRUPTED = 130

#: Text for --help
EXPLANATION = """\
exit status:
  0    done
  1    no result: neither a map, nor poses (--no-map: masks) of two images
  2    bad usage, or an input or output that cannot be used
  70   a bug: please report it, with the output of --debug
  130  interrupted with Ctrl-C; the results until then have been written
"""

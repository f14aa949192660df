# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks, and what they are made of: cases, simulated packs, clocks, pictures."""

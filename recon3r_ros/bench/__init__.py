# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: cases, simulated packs, timing, figures."""

#: The sequence that speed and memory are measured on
KITCHEN_PACK = 'sevenscenes_redkitchen'

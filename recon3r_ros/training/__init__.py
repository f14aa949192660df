# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0

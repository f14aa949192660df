# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a process needs from its environment to talk over ROS: transports, paths, the client library.

Importing this module needs no ROS.
"""

from __future__ import annotations

from collections.abc import MutableMapping
import importlib.util
import os
from pathlib import Path
import sys
import tempfile

from recon3r_ros.errors import Recon3rError

_PACKAGE = 'recon3r_ros'
#: Name the profile of Fast DDS 2 and of Fast DDS 3, which warns where it finds the older
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
_WITH_FAST_DDS_2 = ('foxy', 'galactic', 'humble', 'iron', 'jazzy')
#: With one of these set, the user has chosen the transports
CHOICES_OF_TRANSPORT = (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')
#: Says that the wheels' libraries are in LD_LIBRARY_PATH: those of one Python environment
_WHEELS_READY = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'


def share_path(name: str) -> Path:
    """
    Find a file that is installed beside the package.

    :param name: relative to the package's share folder, such as `config/fastdds.xml`
    """
    module = Path(__file__).resolve()
    checkout = module.parents[2]
    if (checkout / 'package.xml').is_file():
        candidates = [checkout / name]
    else:
        # PREFIX/lib/python3.x/site-packages/recon3r_ros/... of pip, colcon and Debian alike
        candidates = [parent / 'share' / _PACKAGE / name for parent in module.parents]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise Recon3rError(f'{name} of {_PACKAGE} is missing: install the package again')


def profile_path() -> Path:
    """Return the Fast DDS profile for large messages."""
    return share_path('config/fastdds.xml')


def profile_variable() -> str:
    """Return the variable that names the profile for the ROS of this environment."""
    # A sourced installation says which it is; the wheels are of Kilted.
    return PROFILE_VARIABLES[os.environ.get('ROS_DISTRO') not in _WITH_FAST_DDS_2]


def child_environment(**extra: str) -> dict[str, str]:
    """
    Return the environment of a child process that talks over ROS.

    :param extra: variables that come on top and win
    """
    environment = dict(os.environ)
    _complete(environment)
    # The child may run another environment's Python, which then has to set its own paths.
    environment.pop(_WHEELS_READY, None)
    return {**environment, **extra}


def prepare_process() -> None:
    """Give this process the environment of `child_environment`; call it before rclpy.init."""
    _complete(os.environ)


def require_rclpy() -> None:
    """Raise an error that says what to install where the ROS client library is missing."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == 'rclpy':
            raise Recon3rError(
                'rclpy, the ROS 2 client library, is missing: source a ROS 2 installation '
                '(. /opt/ros/DISTRIBUTION/setup.sh), or without one run '
                f'pip install "{_PACKAGE}[ros]" in a virtual environment') from error
        raise Recon3rError(
            f'rclpy, the ROS 2 client library, cannot be loaded ({error}): use the Python that '
            'the sourced ROS 2 installation was built for, and do not source one where '
            f'"{_PACKAGE}[ros]" is installed') from error


def _complete(environment: MutableMapping[str, str]) -> None:
    """Add what is missing; nothing that the user has set changes."""
    if not any(environment.get(name) for name in CHOICES_OF_TRANSPORT):
        environment[profile_variable()] = str(profile_path())
    if not environment.get('AMENT_PREFIX_PATH') and _rclpy_is_a_wheel():
        environment['AMENT_PREFIX_PATH'] = sys.prefix
    if not environment.get('HOME'):
        # ROS logs below it
        environment['HOME'] = _home()
    # Spinning threads of a linear algebra library take the cores from DDS.
    environment.setdefault('OPENBLAS_NUM_THREADS', '1')


def _rclpy_is_a_wheel() -> bool:
    """Tell whether rclpy lies in this Python environment, not in a sourced ROS installation."""
    spec = importlib.util.find_spec('rclpy')
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).is_relative_to(sys.prefix)


def _home() -> str:
    """Return the user's folder, or one for temporary files where the user has none."""
    try:
        return str(Path.home())
    except (KeyError, RuntimeError):
        return tempfile.gettempdir()

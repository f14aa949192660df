# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks in .tflite files, run by LiteRT (Apache-2.0), an optional package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, missing_package, one_line

Floats = NDArray[np.float32]

#: A larger file is not read: those of people have some megabytes
MAX_BYTES = 200 << 20
#: Of an archive that holds .tflite files: .task files are such
_ARCHIVES = ('.task', '.zip', '.whl')


class LiteRtNetwork:
    """
    A network with one image as input; one thread runs it.

    :param content: of a .tflite file
    :param name: of the file, for messages
    :param threads: that run it
    :raises InputError: where it cannot be loaded
    :raises Recon3rError: where LiteRT is not installed
    """

    def __init__(self, content: bytes, name: str, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise missing_package(error, f'{name}: running it') from error
        try:
            self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f'{name}: LiteRT cannot load it: {one_line(error)}') from None
        self.name = name
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    @property
    def inputs(self) -> list[tuple[int, ...]]:
        """Shapes of the inputs."""
        return [tuple(int(n) for n in one['shape']) for one in self._inputs]

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs."""
        return [tuple(int(n) for n in one['shape']) for one in self._outputs]

    def __call__(self, image: Floats) -> list[Floats]:
        """
        Run the network.

        :param image: of the shape of its one input
        :return: copies of the outputs, in their order
        """
        self._interpreter.set_tensor(self._inputs[0]['index'], image)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(one['index']), np.float32)
                for one in self._outputs]


def tflite_files(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """
    Read .tflite files, largest first.

    :param path: a folder of them, or an archive: a .task file, or a wheel of MediaPipe
    :return: name and content of each
    :raises InputError: where there are none, or they cannot be read
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f'{source}: there is no such file or folder')
    try:
        if source.is_dir():
            files = sorted(source.glob('*.tflite'), key=lambda f: (-f.stat().st_size, f.name))
            found = [(str(f), f.read_bytes()) for f in files if f.stat().st_size <= MAX_BYTES]
        elif source.suffix in _ARCHIVES:
            with zipfile.ZipFile(source) as archive:
                entries = sorted((e for e in archive.infolist() if e.filename.endswith('.tflite')
                                  and e.file_size <= MAX_BYTES),
                                 key=lambda e: (-e.file_size, e.filename))
                found = [(f'{source}: {e.filename}', archive.read(e)) for e in entries]
        else:
            raise InputError(f'{source}: expected a .task file, or a folder of .tflite files')
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f'{source}: cannot be read: {one_line(error)}') from None
    if not found:
        raise InputError(f'{source}: holds no .tflite file')
    yield from found

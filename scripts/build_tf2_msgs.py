#!/usr/bin/env python3
# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Adds tf2_msgs/msg/TFMessage to a virtual environment with the ROS 2 client library from PyPI.

TF is nothing but this message on /tf, and it is the one that PyPI lacks. The generators of ROS
come with the client library, those of Jazzy and of Kilted; a C and a C++ compiler do the rest, in
seconds. Run it with the Python of the environment; what exists already is left alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import tempfile

PACKAGE = 'tf2_msgs'
DEPENDENCIES = ('geometry_msgs', 'std_msgs', 'builtin_interfaces')
DEFINITION = 'geometry_msgs/TransformStamped[] transforms\n'
#: That every installation of ROS 2 has; where it differs, nodes would not exchange transforms
TYPE_HASH = 'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'
#: Versions of rclpy whose generators this has been tried with
SUPPORTED = {'7.1.': 'Jazzy', '9.1.': 'Kilted'}
#: Type supports: what Fast DDS sends the message with, and what describes its fields to it
SERIALISATION = 'rosidl_typesupport_fastrtps_c'
INTROSPECTION = 'rosidl_typesupport_introspection_c'
PREFIX = Path(sys.prefix)
SITE_PACKAGES = Path(sysconfig.get_path('platlib'))
EXTENSION = f'{PACKAGE}_s__rosidl_typesupport_c{sysconfig.get_config_var("EXT_SUFFIX")}'


class BuildError(Exception):
    """The message cannot be built."""


class MissingTools(BuildError):
    """
    What builds it is missing.

    :param packages: of Debian and Ubuntu that have it
    """

    def __init__(self, packages: list[str]) -> None:
        super().__init__(f'install {" ".join(packages)}')
        self.packages = packages


class Generators:
    """
    Runs the generators of ROS on the message's definition.

    :param folder: for what they write
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idl = folder / 'idl'
        self._definition = self._idl / 'msg' / 'TFMessage.msg'
        self._definition.parent.mkdir(parents=True)
        self._definition.write_text(DEFINITION)

    def sources(self) -> dict[str, list[Path]]:
        """Generate everything; return the C and C++ files to compile, by generator."""
        from rosidl_adapter.msg import convert_msg_to_idl
        from rosidl_generator_c import generate_c as generate_structs
        from rosidl_generator_py import generate_py
        from rosidl_typesupport_c import generate_c as generate_dispatch
        from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
        from rosidl_typesupport_introspection_c import generate_c as generate_introspection
        with contextlib.redirect_stdout(io.StringIO()):
            convert_msg_to_idl(
                self._idl, PACKAGE, Path('msg/TFMessage.msg'), self._idl / 'msg')
        description = self._describe()
        generated = {
            'rosidl_generator_c': generate_structs(self._arguments(
                'rosidl_generator_c',
                type_description_tuples=[f'msg/TFMessage.idl:{description}'])),
            SERIALISATION: generate_typesupport_fastrtps_c(self._arguments(SERIALISATION)),
            INTROSPECTION: generate_introspection(self._arguments(INTROSPECTION)),
            'rosidl_typesupport_c': generate_dispatch(
                self._arguments('rosidl_typesupport_c'), [SERIALISATION, INTROSPECTION]),
            'rosidl_generator_py': generate_py(
                self._arguments('rosidl_generator_py'), ['rosidl_typesupport_c']),
        }
        for generator in ('rosidl_generator_c', SERIALISATION, INTROSPECTION):
            self._write_visibility(generator)
        return {generator: [Path(p) for p in paths if p.endswith(('.c', '.cpp'))]
                for generator, paths in generated.items()}

    def output(self, generator: str) -> Path:
        """Return the folder that a generator writes to, the package's."""
        return self.folder / generator / PACKAGE

    def _describe(self) -> Path:
        """Write the description of the type, whose hash nodes compare; return its file."""
        from rosidl_generator_type_description import generate_type_hash
        generator = 'rosidl_generator_type_description'
        generate_type_hash(self._arguments(generator, include_paths=[
            f'{name}:{PREFIX / "share" / name}' for name in DEPENDENCIES]))
        path = self.output(generator) / 'msg' / 'TFMessage.json'
        hashes = {entry['type_name']: entry['hash_string']
                  for entry in json.loads(path.read_text())['type_hashes']}
        found = hashes[f'{PACKAGE}/msg/TFMessage']
        if found != TYPE_HASH:
            raise BuildError(f'the generated type has the hash {found}, not {TYPE_HASH}: the '
                             'message packages are of an unknown version of ROS')
        return path

    def _arguments(self, generator: str, **more: object) -> str:
        """Write the file of arguments that a generator takes; return its path."""
        (self.output(generator) / 'msg').mkdir(parents=True, exist_ok=True)
        arguments = {
            'package_name': PACKAGE,
            'idl_tuples': [f'{self._idl}:msg/TFMessage.idl'],
            'ros_interface_dependencies': [],
            'ros_interface_files': [str(self._definition)],
            'target_dependencies': [],
            'template_dir': str(PREFIX / 'share' / generator / 'resource'),
            'output_dir': str(self.output(generator)),
            **more,
        }
        path = self.folder / f'{generator}.json'
        path.write_text(json.dumps(arguments))
        return str(path)

    def _write_visibility(self, generator: str) -> None:
        """Fill in the header that CMake fills in otherwise."""
        name = f'{generator}__visibility_control.h'
        template = PREFIX / 'share' / generator / 'resource' / f'{name}.in'
        if not template.is_file():
            return
        text = template.read_text().replace('@PROJECT_NAME_UPPER@', PACKAGE.upper())
        target = self.output(generator) / 'msg' / name
        target.write_text(text.replace('@PROJECT_NAME@', PACKAGE))


def find_compilers() -> tuple[str, str]:
    """Return the C and the C++ compiler, and make sure that Python's headers are there."""
    c = shutil.which(os.environ.get('CC') or 'gcc')
    cxx = shutil.which(os.environ.get('CXX') or 'g++')
    missing = [name for name, path in (('gcc', c), ('g++', cxx)) if path is None]
    if not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        missing.append(f'libpython{sys.version_info.major}.{sys.version_info.minor}-dev')
    if missing or c is None or cxx is None:
        raise MissingTools(missing)
    return c, cxx


def compile_sources(sources: list[Path], folder: Path, c: str, cxx: str) -> list[Path]:
    """
    Compile C and C++ files.

    :param folder: of the generators
    :return: object files
    """
    import numpy
    include = PREFIX / 'include'
    headers = [
        *(folder / name for name in ('rosidl_generator_c', SERIALISATION, INTROSPECTION,
                                     'rosidl_typesupport_c')),
        include, *sorted(path for path in include.iterdir() if path.is_dir()),
        sysconfig.get_path('include'), numpy.get_include(),
    ]
    options = ['-O2', '-fPIC', '-w', f'-DROS_PACKAGE_NAME="{PACKAGE}"',
               *(f'-I{header}' for header in headers)]

    def compile_one(number: int) -> Path:
        source, target = sources[number], folder / f'{number}.o'
        compiler = [c, '-std=gnu11'] if source.suffix == '.c' else [cxx, '-std=c++17']
        run([*compiler, *options, '-c', str(source), '-o', str(target)])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, range(len(sources))))


def library(generator: str) -> str:
    """Name of the library that holds what a generator made, as the dispatcher looks it up."""
    return f'lib{PACKAGE}__{generator}.so'


def link(objects: dict[str, list[Path]], folder: Path, cxx: str) -> list[Path]:
    """
    Link a library for each type support, and the extension module that rclpy asks for.

    :param objects: by generator
    :param folder: for the libraries
    :return: their files, the extension module last
    """
    kinds = ('rosidl_generator_c', 'rosidl_typesupport_c', SERIALISATION, INTROSPECTION,
             'rosidl_generator_py')
    known = [
        *(f'{package}__{kind}' for package in DEPENDENCIES for kind in kinds),
        'rosidl_runtime_c', 'rosidl_typesupport_c', SERIALISATION, INTROSPECTION,
        'rosidl_typesupport_fastrtps_cpp', 'rcutils', 'rmw', 'fastcdr',
    ]
    system = PREFIX / 'lib'
    options = [f'-L{system}', f'-Wl,-rpath,{system}', '-Wl,--allow-shlib-undefined',
               *(f'-l{name}' for name in known if (system / f'lib{name}.so').exists())]
    made: list[Path] = []
    parts = [(library(g), objects[g]) for g in ('rosidl_generator_c', SERIALISATION,
                                                INTROSPECTION)]
    parts.append((EXTENSION, objects['rosidl_typesupport_c'] + objects['rosidl_generator_py']))
    for name, own in parts:
        run([cxx, '-shared', f'-Wl,-soname,{name}', '-o', str(folder / name), *map(str, own),
             *map(str, made), *options])
        made.append(folder / name)
    return made


def run(command: list[str]) -> None:
    """Run a compiler, silent unless it fails."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f'{Path(command[0]).name} failed:\n{result.stderr}')


def is_built() -> bool:
    """Tell whether the message is there for this Python, be it from here or from elsewhere."""
    if importlib.util.find_spec(PACKAGE) is None:
        return False
    ours = SITE_PACKAGES / PACKAGE
    complete = (ours / EXTENSION).is_file() and all(
        (PREFIX / 'lib' / library(kind)).is_file() for kind in (SERIALISATION, INTROSPECTION))
    return not (ours / 'msg').is_dir() or complete


def require_supported() -> None:
    """Raise an error where the client library is none that this has been tried with."""
    supported = ' or '.join(f'{name} (rclpy {version}x)' for version, name in SUPPORTED.items())
    try:
        found = importlib.metadata.version('ros-rclpy')
    except importlib.metadata.PackageNotFoundError:
        raise BuildError('the ROS 2 client library from PyPI is missing: install the extra `ros` '
                         f'of recon3r_ros, which is that of {supported}') from None
    if not found.startswith(tuple(SUPPORTED)):
        raise BuildError(f'rclpy {found} is installed, but only the client libraries of '
                         f'{supported} are supported')


def build() -> None:
    """Generate, compile and install; what is installed is complete or not there."""
    require_supported()
    c, cxx = find_compilers()
    with tempfile.TemporaryDirectory(prefix=f'.{PACKAGE}_', dir=SITE_PACKAGES) as name:
        folder = Path(name)
        generators = Generators(folder)
        sources = generators.sources()
        compiled = iter(compile_sources(
            [path for paths in sources.values() for path in paths], folder, c, cxx))
        objects = {generator: [next(compiled) for _ in paths]
                   for generator, paths in sources.items()}
        package = folder / 'package'
        (package / 'msg').mkdir(parents=True)
        (package / '__init__.py').touch()
        for path in (generators.output('rosidl_generator_py') / 'msg').glob('*.py'):
            shutil.copy(path, package / 'msg')
        *libraries, extension = link(objects, folder, cxx)
        for path in libraries:
            path.replace(PREFIX / 'lib' / path.name)
        extension.replace(package / EXTENSION)
        target = SITE_PACKAGES / PACKAGE
        shutil.rmtree(target, ignore_errors=True)
        package.rename(target)


def main() -> int:
    """Build it where it is missing; return an exit status, and write packages that it needs."""
    if is_built():
        return 0
    try:
        build()
    except BuildError as error:
        if isinstance(error, MissingTools):
            sys.stdout.write(f'{" ".join(error.packages)}\n')
        sys.stderr.write(f'{PACKAGE}: {error}\n')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

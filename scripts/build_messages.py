#!/usr/bin/env python3
# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Adds messages that PyPI lacks to a virtual environment with the ROS 2 client library from there.

TF is nothing but tf2_msgs/msg/TFMessage on /tf; of vision_msgs there is what Detection2DArray,
Detection3DArray and LabelInfo consist of. The generators of ROS come with the client library,
those of Jazzy and of Kilted; a C and a C++ compiler do the rest, in less than a minute. Run it
with the Python of the environment; packages that exist already are left alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import contextlib
from dataclasses import dataclass
import importlib.machinery
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

#: Versions of rclpy whose generators this has been tried with
SUPPORTED = {'7.1.': 'Jazzy', '9.1.': 'Kilted'}
#: Type supports: what Fast DDS sends the message with, and what describes its fields to it
SERIALISATION = 'rosidl_typesupport_fastrtps_c'
INTROSPECTION = 'rosidl_typesupport_introspection_c'
PREFIX = Path(sys.prefix)
SITE_PACKAGES = Path(sysconfig.get_path('platlib'))
#: Of files with extension modules that this Python imports; wheels of ROS have the last one
SUFFIXES = importlib.machinery.EXTENSION_SUFFIXES


@dataclass(frozen=True)
class Package:
    """
    A package of messages.

    :param name: its name
    :param purpose: what the node lacks without it
    :param dependencies: installed packages whose messages its own contain, at any depth
    :param messages: definitions by name
    :param type_hashes: by name, of messages that contain all the others: those that every
        installation of ROS 2 has; where they differ, nodes would not exchange messages
    """

    name: str
    purpose: str
    dependencies: tuple[str, ...]
    messages: dict[str, str]
    type_hashes: dict[str, str]

    @property
    def extension(self) -> str:
        """Name of the extension module that rclpy asks for, without the suffix of its file."""
        return f'{self.name}_s__rosidl_typesupport_c'

    def library(self, generator: str) -> str:
        """Name of the library with what a generator made, as the dispatcher looks it up."""
        return f'lib{self.name}__{generator}.so'


PACKAGES = (
    Package(
        'tf2_msgs', 'TF', ('geometry_msgs', 'std_msgs', 'builtin_interfaces'),
        {'TFMessage': 'geometry_msgs/TransformStamped[] transforms'},
        {'TFMessage': 'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'}),
    # As in vision_msgs 4.1, which Humble, Jazzy and Kilted have
    Package(
        'vision_msgs', 'vision_msgs (objects, people, names of classes)',
        ('geometry_msgs', 'std_msgs', 'builtin_interfaces'),
        {'Point2D': 'float64 x\nfloat64 y',
         'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta',
         'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y',
         'ObjectHypothesis': 'string class_id\nfloat64 score',
         'ObjectHypothesisWithPose': 'ObjectHypothesis hypothesis\n'
                                     'geometry_msgs/PoseWithCovariance pose',
         'Detection2D': 'std_msgs/Header header\nObjectHypothesisWithPose[] results\n'
                        'BoundingBox2D bbox\nstring id',
         'Detection2DArray': 'std_msgs/Header header\nDetection2D[] detections',
         'BoundingBox3D': 'geometry_msgs/Pose center\ngeometry_msgs/Vector3 size',
         'Detection3D': 'std_msgs/Header header\nObjectHypothesisWithPose[] results\n'
                        'BoundingBox3D bbox\nstring id',
         'Detection3DArray': 'std_msgs/Header header\nDetection3D[] detections',
         'VisionClass': 'uint16 class_id\nstring class_name',
         'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n'
                      'float32 threshold'},
        {'Detection2DArray':
            'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
         'Detection3DArray':
            'RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
         'LabelInfo':
            'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783'}),
)


class BuildError(Exception):
    """Messages cannot be built."""


class MissingTools(BuildError):
    """
    What builds them is missing.

    :param packages: of Debian and Ubuntu that have it
    """

    def __init__(self, packages: list[str]) -> None:
        super().__init__(f'install {" ".join(packages)}')
        self.packages = packages


class Generators:
    """
    Runs the generators of ROS on a package's definitions.

    :param package: the package
    :param folder: for what they write
    """

    def __init__(self, package: Package, folder: Path) -> None:
        self.package = package
        self.folder = folder
        self._idl = folder / 'idl'
        (self._idl / 'msg').mkdir(parents=True)
        for name, definition in package.messages.items():
            (self._idl / 'msg' / f'{name}.msg').write_text(f'{definition}\n')

    def sources(self) -> dict[str, list[Path]]:
        """Generate everything; return the C and C++ files to compile, by generator."""
        from rosidl_adapter.msg import convert_msg_to_idl
        from rosidl_generator_c import generate_c as generate_structs
        from rosidl_generator_py import generate_py
        from rosidl_typesupport_c import generate_c as generate_dispatch
        from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
        from rosidl_typesupport_introspection_c import generate_c as generate_introspection
        with contextlib.redirect_stdout(io.StringIO()):
            for name in self.package.messages:
                convert_msg_to_idl(
                    self._idl, self.package.name, Path(f'msg/{name}.msg'), self._idl / 'msg')
        descriptions = self._describe()
        generated = {
            'rosidl_generator_c': generate_structs(self._arguments(
                'rosidl_generator_c',
                type_description_tuples=[f'msg/{name}.idl:{path}'
                                         for name, path in descriptions.items()])),
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
        return self.folder / generator / self.package.name

    def _describe(self) -> dict[str, Path]:
        """Write the descriptions of the types, whose hashes nodes compare; return their files."""
        from rosidl_generator_type_description import generate_type_hash
        generator = 'rosidl_generator_type_description'
        generate_type_hash(self._arguments(generator, include_paths=[
            f'{name}:{PREFIX / "share" / name}' for name in self.package.dependencies]))
        paths = {name: self.output(generator) / 'msg' / f'{name}.json'
                 for name in self.package.messages}
        for name, expected in self.package.type_hashes.items():
            hashes = {entry['type_name']: entry['hash_string']
                      for entry in json.loads(paths[name].read_text())['type_hashes']}
            found = hashes[f'{self.package.name}/msg/{name}']
            if found != expected:
                raise BuildError(
                    f'the generated {self.package.name}/msg/{name} has the hash {found}, not '
                    f'{expected}: the message packages are of an unknown version of ROS')
        return paths

    def _arguments(self, generator: str, **more: object) -> str:
        """Write the file of arguments that a generator takes; return its path."""
        (self.output(generator) / 'msg').mkdir(parents=True, exist_ok=True)
        arguments = {
            'package_name': self.package.name,
            'idl_tuples': [f'{self._idl}:msg/{name}.idl' for name in self.package.messages],
            'ros_interface_dependencies': [],
            'ros_interface_files': [str(self._idl / 'msg' / f'{name}.msg')
                                    for name in self.package.messages],
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
        text = template.read_text()
        for place, value in (('@PROJECT_NAME_UPPER@', self.package.name.upper()),
                             ('@PROJECT_NAME@', self.package.name)):
            text = text.replace(place, value)
        (self.output(generator) / 'msg' / name).write_text(text)


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


def compile_sources(package: Package, sources: list[Path], folder: Path, c: str,
                    cxx: str) -> list[Path]:
    """
    Compile C and C++ files of a package.

    :param folder: of its generators
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
    options = ['-O2', '-fPIC', '-w', f'-DROS_PACKAGE_NAME="{package.name}"',
               *(f'-I{header}' for header in headers)]

    def compile_one(number: int) -> Path:
        source, target = sources[number], folder / f'{number}.o'
        compiler = [c, '-std=gnu11'] if source.suffix == '.c' else [cxx, '-std=c++17']
        run([*compiler, *options, '-c', str(source), '-o', str(target)])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, range(len(sources))))


def link(package: Package, objects: dict[str, list[Path]], folder: Path, cxx: str) -> list[Path]:
    """
    Link a library for each type support of a package, and its extension module.

    :param objects: by generator
    :param folder: for the libraries
    :return: their files, the extension module last
    """
    kinds = ('rosidl_generator_c', 'rosidl_typesupport_c', SERIALISATION, INTROSPECTION,
             'rosidl_generator_py')
    known = [
        *(f'{name}__{kind}' for name in package.dependencies for kind in kinds),
        'rosidl_runtime_c', 'rosidl_typesupport_c', SERIALISATION, INTROSPECTION,
        'rosidl_typesupport_fastrtps_cpp', 'rcutils', 'rmw', 'fastcdr',
    ]
    system = PREFIX / 'lib'
    options = [f'-L{system}', f'-Wl,-rpath,{system}', '-Wl,--allow-shlib-undefined',
               *(f'-l{name}' for name in known if (system / f'lib{name}.so').exists())]
    made: list[Path] = []
    parts = [(package.library(generator), objects[generator])
             for generator in ('rosidl_generator_c', SERIALISATION, INTROSPECTION)]
    parts.append((f'{package.extension}{SUFFIXES[0]}',
                  objects['rosidl_typesupport_c'] + objects['rosidl_generator_py']))
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


def is_built(package: Package) -> bool:
    """Tell whether a package is there for this Python, be it from here or from elsewhere."""
    if importlib.util.find_spec(package.name) is None:
        return False
    ours = SITE_PACKAGES / package.name
    complete = any((ours / f'{package.extension}{suffix}').is_file() for suffix in SUFFIXES)
    complete = complete and all((PREFIX / 'lib' / package.library(kind)).is_file()
                                for kind in (SERIALISATION, INTROSPECTION))
    # One that was built before has fewer messages
    known = ours / 'msg' / '__init__.py'
    text = known.read_text() if known.is_file() else ''
    complete = complete and all(f' import {name} ' in text for name in package.messages)
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


def build(package: Package, c: str, cxx: str) -> None:
    """
    Generate, compile and install; what is installed is complete or not there.

    :param c: compiler
    :param cxx: compiler of C++
    """
    with tempfile.TemporaryDirectory(prefix=f'.{package.name}_', dir=SITE_PACKAGES) as name:
        folder = Path(name)
        generators = Generators(package, folder)
        sources = generators.sources()
        compiled = iter(compile_sources(
            package, [path for paths in sources.values() for path in paths], folder, c, cxx))
        objects = {generator: [next(compiled) for _ in paths]
                   for generator, paths in sources.items()}
        made = folder / 'package'
        (made / 'msg').mkdir(parents=True)
        (made / '__init__.py').touch()
        for path in (generators.output('rosidl_generator_py') / 'msg').glob('*.py'):
            shutil.copy(path, made / 'msg')
        *libraries, extension = link(package, objects, folder, cxx)
        for path in libraries:
            path.replace(PREFIX / 'lib' / path.name)
        extension.replace(made / extension.name)
        target = SITE_PACKAGES / package.name
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


def main() -> int:
    """Build what is missing; return an exit status, and write system packages that it needs."""
    missing = [package for package in PACKAGES if not is_built(package)]
    if not missing:
        return 0
    try:
        require_supported()
        compilers = find_compilers()
        while missing:
            build(missing[0], *compilers)
            del missing[0]
    except BuildError as error:
        if isinstance(error, MissingTools):
            sys.stdout.write(f'{" ".join(error.packages)}\n')
        purposes = ' and '.join(package.purpose for package in missing)
        verb = 'are' if len(missing) > 1 else 'is'
        sys.stderr.write(f'{purposes} {verb} left out: {error}\n')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

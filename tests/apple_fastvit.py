"FastViT as Apple's repository names its layers: written anew from the paper and those names, to compare with."
from collections import OrderedDict

import torch
from torch import nn


def conv_bn(inside, out, kernel, stride=1, groups=1):
    conv = nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out)))


class Squeeze(nn.Module):
    "Channel attention; the two convolutions have other names in the last block than between the stages."

    def __init__(self, channels, hidden, names):
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Conv2d(channels, hidden, 1))
        self.add_module(names[1], nn.Conv2d(hidden, channels, 1))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return x * second(first(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Block(nn.Module):
    "Parallel branches, summed: convolution, 1 x 1 scale, identity."

    def __init__(self, inside, out, kernel, stride=1, groups=1, act=True, scale=True, convs=1, se=False):
        super().__init__()
        self.se = Squeeze(out, out // 16, ("reduce", "expand")) if se else nn.Identity()
        self.act = nn.GELU() if act else nn.Identity()
        self.rbr_skip = nn.BatchNorm2d(inside) if inside == out and stride == 1 else None
        self.rbr_conv = nn.ModuleList([conv_bn(inside, out, kernel, stride, groups)]) if convs else None
        self.rbr_scale = conv_bn(inside, out, 1, stride, groups) if kernel > 1 and scale else None

    def forward(self, x):
        convs = list(self.rbr_conv) if self.rbr_conv is not None else []
        branches = [b for b in (self.rbr_skip, self.rbr_scale, *convs) if b is not None]
        return self.act(self.se(sum(branch(x) for branch in branches)))


class LargeKernel(nn.Module):
    def __init__(self, inside, out, se):
        super().__init__()
        self.se = Squeeze(out, out // 4, ("fc1", "fc2")) if se else nn.Identity()
        self.lkb_origin = conv_bn(inside, out, 7, 2, inside)
        self.small_conv = conv_bn(inside, out, 3, 2, inside)

    def forward(self, x):
        return nn.functional.gelu(self.se(self.lkb_origin(x) + self.small_conv(x)))


class Downsample(nn.Module):
    def __init__(self, inside, out, se):
        super().__init__()
        self.proj = nn.Sequential(LargeKernel(inside, out, se), Block(out, out, 1))

    def forward(self, x):
        return self.proj(x)


class Mixer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = Block(dim, dim, 3, groups=dim, act=False, scale=False, convs=0)
        self.mixer = Block(dim, dim, 3, groups=dim, act=False)
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x):
        return x + self.layer_scale * (self.mixer(x) - self.norm(x))


class FeedForward(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = conv_bn(dim, dim, 7, groups=dim)
        self.fc1, self.fc2 = nn.Conv2d(dim, 3 * dim, 1), nn.Conv2d(3 * dim, dim, 1)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(self.conv(x))))


class MixerBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.token_mixer, self.convffn = Mixer(dim), FeedForward(dim)
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x):
        x = self.token_mixer(x)
        return x + self.layer_scale * self.convffn(x)


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv(x.flatten(2).mT).view(n, h * w, 3, c // 32, 32).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / 32**.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, h * w, c)).mT.reshape(n, c, h, w)


class AttentionBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.token_mixer, self.convffn = nn.BatchNorm2d(dim), Attention(dim), FeedForward(dim)
        self.layer_scale_1 = nn.Parameter(torch.ones(dim, 1, 1))
        self.layer_scale_2 = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x):
        x = x + self.layer_scale_1 * self.token_mixer(self.norm(x))
        return x + self.layer_scale_2 * self.convffn(x)


class Positions(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.pe = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)

    def forward(self, x):
        return x + self.pe(x)


class Projection(nn.Module):
    "Mean over the picture, then a matrix."

    def __init__(self, inside, out):
        super().__init__()
        self.proj = nn.Parameter(inside**-.5 * torch.randn(inside, out))

    def forward(self, x):
        return x @ self.proj


class FastViT(nn.Module):
    "MCi0: 2, 6, 10 and 2 blocks of 64, 128, 256 and 512 channels; the last two attend, after a position convolution."

    def __init__(self, projection=False):
        super().__init__()
        self.patch_embed = nn.Sequential(Block(3, 64, 3, 2), Block(64, 64, 3, 2, groups=64), Block(64, 64, 1))
        layers = []
        for depth, dim in zip((2, 6, 10), (64, 128, 256)):
            layers += [nn.Sequential(*(MixerBlock(dim) for _ in range(depth))), Downsample(dim, 2 * dim, dim > 64)]
        layers += [Positions(512), nn.Sequential(AttentionBlock(512), AttentionBlock(512))]
        self.network = nn.ModuleList(layers)
        self.conv_exp = Block(512, 1024, 3, groups=512, se=True)
        self.head = Projection(1024, 512) if projection else nn.Linear(1024, 512)

    def forward(self, x):
        x = self.patch_embed(x)
        for layer in self.network:
            x = layer(x)
        return self.head(self.conv_exp(x).mean((2, 3)))


def randomise(module, seed=0):
    "Weights that keep the signal alive through the depth, batch statistics included, so that every layer counts."
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, .2, generator=generator)
            part.running_var.uniform_(.5, 1.5, generator=generator)
            nn.init.uniform_(part.weight, .5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, .2, generator=generator)
    for name, value in module.named_parameters():
        if "layer_scale" in name:
            nn.init.uniform_(value, .1, .4, generator=generator)
    return module.eval()

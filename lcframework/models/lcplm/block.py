"""The BiMamba-S block in its one-projection form.

The published block runs two Mamba layers whose input and output projections are tied, one of them
on the reversed sequence. Both projections act on each token alone and have no bias, so they commute
with the reversal: one input projection, two convolutions and scans, y = out_proj((y_fwd + y_rev) *
silu(z)) is exactly the same function with half the matrix work. One Linear each, so no loader,
optimizer or sharded strategy can untie them.

Legend: T tokens, d model width, E = expand d inner width, N states, R rank of the step projection,
    K taps.
"""

import math

import torch
from torch import Tensor, nn

from lcframework.ops.bidirectional_scan import bidirectional_scan, choose_backend
from lcframework.ops.short_conv import bidirectional_short_conv

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class BiMambaS(nn.Module):
    """Mixer of one block: Mamba-1 in both directions with shared input and output projections.

    Args:
        d_model: d.
        d_state: N.
        d_conv: K.
        expand: E / d.
        dt_rank: R.
        n_layers: number of blocks, which scales the output projection's initial weights.
        scan_backend: see `bidirectional_scan`.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int,
        d_conv: int,
        expand: int,
        dt_rank: int,
        n_layers: int,
        scan_backend: str = "auto",
    ) -> None:
        super().__init__()
        inner = expand * d_model
        self.d_state, self.dt_rank, self.scan_backend = d_state, dt_rank, scan_backend
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(2, inner, d_conv))
        self.conv_bias = nn.Parameter(torch.empty(2, inner))
        self.x_proj = nn.Parameter(torch.empty(2, dt_rank + 2 * d_state, inner))
        self.dt_proj = nn.Parameter(torch.empty(2, inner, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(2, inner))
        self.A_log = nn.Parameter(torch.empty(2, inner, d_state))
        self.D = nn.Parameter(torch.empty(2, inner))
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        # Decaying these would pull the state-space model's time constants and skips, not its
        # weights.
        for parameter in (self.A_log, self.D, self.dt_bias, self.conv_bias):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]
        self._initialise(n_layers)

    @torch.no_grad()
    def _initialise(self, n_layers: int) -> None:
        """Published initial values: Mamba-1's for the scan, out_proj scaled down by the square root
        of the depth."""
        _, inner, taps = self.conv_weight.shape
        bound = taps**-0.5  # torch's own bound for a depthwise convolution
        self.conv_weight.uniform_(-bound, bound)
        self.conv_bias.uniform_(-bound, bound)
        self.x_proj.uniform_(-(inner**-0.5), inner**-0.5)
        self.dt_proj.uniform_(-(self.dt_rank**-0.5), self.dt_rank**-0.5)
        low, high = math.log(DT_MIN), math.log(DT_MAX)
        dt = torch.exp(torch.rand_like(self.dt_bias) * (high - low) + low).clamp(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_log.copy_(
            torch.arange(1, self.d_state + 1, dtype=self.A_log.dtype).log().expand_as(self.A_log)
        )
        self.D.fill_(1.0)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        self.out_proj.weight.div_(math.sqrt(n_layers))

    def forward(self, u: Tensor, cu_seqlens: Tensor, max_len: int | None = None) -> Tensor:
        """Mix (T, d) over time within each segment of at most `max_len` tokens; returns (T, d)."""
        xz = self.in_proj(u)
        A = -torch.exp(self.A_log.float() if self.A_log.dtype != torch.float64 else self.A_log)
        if choose_backend(self.scan_backend, xz) == "triton":
            from lcframework.ops.bimamba_inner import bimamba_inner  # imports torch's compiler

            y = bimamba_inner(
                xz,
                self.conv_weight,
                self.conv_bias,
                self.x_proj,
                self.dt_proj,
                self.dt_bias,
                A,
                self.D,
                cu_seqlens,
                max_len,
            )
            return self.out_proj(y)
        x, z = xz.chunk(2, dim=-1)
        x = bidirectional_short_conv(x, self.conv_weight, self.conv_bias, cu_seqlens)
        projected = torch.bmm(x, self.x_proj.to(x.dtype).transpose(1, 2))
        dt, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt = torch.bmm(dt, self.dt_proj.to(dt.dtype).transpose(1, 2))
        y = bidirectional_scan(
            x,
            dt,
            A,
            B,
            C,
            self.D,
            z=z,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            cu_seqlens=cu_seqlens,
            max_len=max_len,
            backend=self.scan_backend,
        )
        return self.out_proj(y)


class Block(nn.Module):
    """Pre-norm residual block: residual + mixer(norm(residual)); there is no MLP. The residual
    stays in fp32."""

    def __init__(self, d_model: int, norm_eps: float, mixer: BiMambaS) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.mixer = mixer

    def forward(self, residual: Tensor, cu_seqlens: Tensor, max_len: int | None = None) -> Tensor:
        """(T, d) residual stream in, the same out."""
        mixed = self.mixer(self.norm(residual), cu_seqlens, max_len)
        return residual + mixed.to(residual.dtype)

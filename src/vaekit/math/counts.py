"""Log-probabilities of counts, summed over an event, by formulas that keep their digits from means of 1e-8 to 1e8."""

# N events, D values of an event, n values that are not 0

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# beyond it log(1 + exp(d)) is d to the last digit of float64
LINEAR = 40.0
# from here on Stirling's series has all digits of float64
_SERIES = 10.0
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def poisson_nats(log_mean: Tensor, x: Tensor) -> Tensor:
    r"""Log-probability of counts under independent Poisson distributions.

    .. math:: \sum_d x_d \log \mu_d - \mu_d - \log x_d!

    Zeros are scored by that formula. What is not zero is scored in float64 (where the device has it), as Loader does: by its
    deviance and Stirling's errors, since the three terms above are near :math:`x \log x` and nearly cancel.

    Arguments:
        log_mean: :math:`\log \mu`, shape (N, D).
        x: Counts, shape (N, D); not differentiated.

    Returns:
        Nats, shape (N,).

    References:
        | Fast and Accurate Computation of Binomial Probabilities (Loader, 2000), section 3
    """
    nats: Tensor = _Poisson.apply(log_mean, x)  # type: ignore[no-untyped-call]
    return nats


def negative_binomial_nats(log_mean: Tensor, log_theta: Tensor, x: Tensor) -> Tensor:
    r"""Log-probability of counts under independent negative binomial distributions of variance :math:`\mu + \mu^2 / \theta`.

    .. math:: \sum_d \log \frac{\Gamma(x_d + \theta_d)}{\Gamma(\theta_d) \, x_d!}
        + \theta_d \log \frac{\theta_d}{\theta_d + \mu_d} + x_d \log \frac{\mu_d}{\theta_d + \mu_d}

    For a zero only :math:`-\theta_d \log(1 + \mu_d / \theta_d)` is left. Other counts are scored as in `poisson_nats`.

    Arguments:
        log_mean: :math:`\log \mu`, shape (N, D).
        log_theta: :math:`\log \theta`, shape (D,) or (N, D).
        x: Counts, shape (N, D); not differentiated.

    Returns:
        Nats, shape (N,).

    References:
        | Fast and Accurate Computation of Binomial Probabilities (Loader, 2000), sections 3 and 5
    """
    nats: Tensor = _NegativeBinomial.apply(log_mean, log_theta, x)  # type: ignore[no-untyped-call]
    return nats


def zero_inflated_nats(log_mean: Tensor, log_theta: Tensor, logits: Tensor, x: Tensor) -> Tensor:
    r"""As `negative_binomial_nats`, where a value is 0 all the same with probability :math:`\pi = \mathrm{sigmoid}(l)`.

    With :math:`a = -\theta \log(1 + \mu / \theta)`, a zero has

    .. math:: \log(\pi + (1 - \pi) e^a) = \log \frac{1 + e^{a - l}}{1 + e^{-l}}.

    Arguments:
        log_mean: :math:`\log \mu`, shape (N, D).
        log_theta: :math:`\log \theta`, shape (D,) or (N, D).
        logits: l, shape (N, D).
        x: Counts, shape (N, D); not differentiated.

    Returns:
        Nats, shape (N,).
    """
    nats: Tensor = _ZeroInflated.apply(log_mean, log_theta, logits, x)  # type: ignore[no-untyped-call]
    return nats


class _Poisson(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, x: Tensor) -> Tensor:
        counted = _counted(x)
        rate = counted.without(m.exp())
        log_mean, count = counted.take(m), counted.take(x)
        ctx.save_for_backward(rate, log_mean, count)
        ctx.counted = counted
        return counted.sums(_poisson(count, log_mean), rate.sum(1).neg_())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rate, log_mean, count = ctx.saved_tensors
        return ctx.counted.put(rate.neg(), count - log_mean.exp()).mul_(gradient[:, None]), None


class _NegativeBinomial(torch.autograd.Function):
    """torch's operators would take forty passes over (N, D) forward and back, each into new memory; this takes a dozen in two."""

    @staticmethod
    def forward(ctx: Any, m: Tensor, t: Tensor, x: Tensor) -> Tensor:
        counted = _counted(x)
        s = counted.without(_softplus_(m - t))
        picked = counted.take(m), counted.take(t), counted.take(x)
        ctx.save_for_backward(t, s, *picked)
        ctx.counted = counted
        zeros = (s @ t.exp() if t.dim() == 1 else (s * t.exp()).sum(1)).neg_()
        return counted.sums(_negative_binomial(counted, t, *picked), zeros)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        t, s, *picked = ctx.saved_tensors
        counted = ctx.counted
        by_mean, by_theta = _slopes(counted, t, *picked)
        # -mu / (theta + mu): of zeros, the slopes are theta e and -theta (e + s)
        e = s.neg().expm1_()
        theta, g = t.exp(), gradient[:, None]
        for_theta = None
        if ctx.needs_input_grad[1] and t.dim() == 1:
            for_theta = counted.columns(by_theta, gradient).to(t.dtype) - theta * (gradient @ e + gradient @ s)
        elif ctx.needs_input_grad[1]:
            for_theta = counted.put((e + s).mul_(theta).neg_(), by_theta).mul_(g)
        return counted.put(e.mul_(theta), by_mean).mul_(g), for_theta, None


class _ZeroInflated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, t: Tensor, logits: Tensor, x: Tensor) -> Tensor:
        counted = _counted(x)
        s = _softplus_(m - t)
        picked = counted.take(m), counted.take(t), counted.take(x)
        ctx.save_for_backward(t, logits, s, *picked)
        ctx.counted = counted
        zeros = _softplus_((s * t.exp()).add_(logits).neg_()).sub_(_softplus_(-logits))
        values = _negative_binomial(counted, t, *picked) - _softplus_(counted.take(logits))
        return counted.sums(values, counted.without(zeros).sum(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        t, logits, s, *picked = ctx.saved_tensors
        counted = ctx.counted
        by_mean, by_theta = _slopes(counted, t, *picked)
        theta, g = t.exp(), gradient[:, None]
        e = s.neg().expm1_()
        # how probable it is that a zero is one of the negative binomial
        w = (s * theta).add_(logits).neg_().sigmoid_()
        for_logits = counted.put(logits.neg().sigmoid_().sub_(w), counted.take(logits).sigmoid_().neg_()).mul_(g)
        w.mul_(theta)
        for_theta = counted.put((e + s).mul_(w).neg_(), by_theta).mul_(g)
        for_mean = counted.put(e.mul_(w), by_mean).mul_(g)
        return for_mean, for_theta.sum(0) if t.dim() == 1 else for_theta, for_logits, None


class _Gathered:
    """The counts that are not 0, picked out: the host can see how many they are."""

    def __init__(self, x: Tensor) -> None:
        self.shape = x.shape
        self.at = x.reshape(-1).nonzero()[:, 0]

    def take(self, values: Tensor) -> Tensor:
        """Those of (N, D), or of one row (D,) for all, in float64, (n,)."""
        at = self.at % self.shape[1] if values.dim() == 1 else self.at
        return values.reshape(-1).index_select(0, at).double()

    def put(self, into: Tensor, values: Tensor) -> Tensor:
        """`into`, (N, D), with `values`, (n,), at their places."""
        into.view(-1).scatter_(0, self.at, values.to(into.dtype))
        return into

    def without(self, values: Tensor) -> Tensor:
        """`values`, (N, D), with 0 at their places."""
        values.view(-1).index_fill_(0, self.at, 0.0)
        return values

    def sums(self, values: Tensor, start: Tensor) -> Tensor:
        """`start`, (N,), and the sum over each event, in its precision."""
        return start.double().index_add_(0, self._rows, values).to(start.dtype)

    def columns(self, values: Tensor, weights: Tensor) -> Tensor:
        """The sum over the events, (D,), each with its weight, (N,)."""
        weighted = values * weights.double().index_select(0, self._rows)
        return values.new_zeros(self.shape[1]).index_add_(0, self.at % self.shape[1], weighted)

    @property
    def _rows(self) -> Tensor:
        return self.at.div(self.shape[1], rounding_mode="floor")


class _Masked:
    """The counts that are not 0, where they stand: to pick them out, the host would have to wait for the device."""

    def __init__(self, x: Tensor) -> None:
        self.positive = x > 0

    def take(self, values: Tensor) -> Tensor:
        """All of (N, D), or of one row (D,) for all; 1 where the count is 0, so that nothing is infinite there."""
        return torch.where(self.positive, _exact(values), 1.0)

    def put(self, into: Tensor, values: Tensor) -> Tensor:
        """`into` with `values` where counts are not 0, (N, D)."""
        return torch.where(self.positive, values.to(into.dtype), into)

    def without(self, values: Tensor) -> Tensor:
        """`values`, (N, D), with 0 where counts are not."""
        return values.masked_fill_(self.positive, 0.0)

    def sums(self, values: Tensor, start: Tensor) -> Tensor:
        """`start`, (N,), and the sum over each event, in its precision."""
        return (start + torch.where(self.positive, values, 0.0).sum(1)).to(start.dtype)

    def columns(self, values: Tensor, weights: Tensor) -> Tensor:
        """The sum over the events, (D,), each with its weight, (N,)."""
        return (torch.where(self.positive, values, 0.0) * weights[:, None]).sum(0)


def _counted(x: Tensor) -> _Gathered | _Masked:
    return _Gathered(x) if x.device.type == "cpu" else _Masked(x)


def _poisson(x: Tensor, m: Tensor) -> Tensor:
    """Of counts above 0."""
    mu = m.exp()
    deviance = x * _log_ratio(x - mu, mu, x.log() - m) - (x - mu)
    return -deviance - _stirling(x) - 0.5 * x.log() - _HALF_LOG_2PI


def _negative_binomial(counted: _Gathered | _Masked, log_theta: Tensor, m: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """Of counts above 0: a binomial probability for theta of x + theta, times theta / (x + theta)."""
    stirling_of_theta = counted.take(_stirling(_exact(log_theta).exp()))
    mu, theta = m.exp(), t.exp()
    n, total, gap = theta + x, theta + mu, x - mu
    log_x, log_n = x.log(), n.log()
    log_shrunk = total.log() - log_n
    deviance = x * _log_ratio(theta * gap, mu * n, log_x - m + log_shrunk) - theta * _log_ratio(gap, total, -log_shrunk)
    return _stirling(n) - stirling_of_theta - _stirling(x) - deviance + 0.5 * (t - log_n - log_x) - _HALF_LOG_2PI


def _slopes(counted: _Gathered | _Masked, log_theta: Tensor, m: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Of counts above 0, with respect to :math:`\log \mu` and :math:`\log \theta`:

    .. math:: \theta \frac{x - \mu}{\theta + \mu}, \qquad
        \theta \left( \psi(x + \theta) - \psi(\theta) + \log \frac{\theta}{\theta + \mu} - \frac{x - \mu}{\theta + \mu} \right)
    """
    whole = _exact(log_theta).exp()
    psi_of_theta = counted.take(whole * _psi(whole))
    mu, theta = m.exp(), t.exp()
    n, total, gap = theta + x, theta + mu, x - mu
    share = gap / total
    by_theta = theta * (_log_ratio(gap, total, (n / total).log()) - share + _psi(n)) - psi_of_theta
    return theta * share, by_theta


def _exact(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()  # Apple's GPUs have no float64


def _softplus_(d: Tensor) -> Tensor:
    """log(1 + exp(d)), in the place of d: new memory would cost more than the formula."""
    result: Tensor = torch.ops.aten.softplus.out(d, 1.0, LINEAR, out=d)
    return result


def _log_ratio(difference: Tensor, base: Tensor, far: Tensor) -> Tensor:
    r""":math:`\log(1 + \text{difference} / \text{base})`; `far` where these are not near each other."""
    return torch.where(difference.abs() < 0.5 * base, torch.log1p(difference / base), far)


def _stirling(y: Tensor) -> Tensor:
    r"""What Stirling's formula lacks, :math:`\log y! - (y + \tfrac12) \log y + y - \tfrac12 \log 2\pi`."""
    i = 1.0 / y.clamp_min(_SERIES)
    s = i * i
    series = i * (
        1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s * (1 / 1188 - s * (691 / 360360 - s / 156)))))
    )
    return torch.where(y >= _SERIES, series, torch.lgamma(y + 1.0) - (y + 0.5) * y.log() + y - _HALF_LOG_2PI)


def _psi(y: Tensor) -> Tensor:
    r""":math:`\psi(y) - \log y`."""
    i = 1.0 / y.clamp_min(_SERIES)
    s = i * i
    series = s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s * (1 / 132 - s * (691 / 32760 - s / 12))))))
    return torch.where(y >= _SERIES, -0.5 * i - series, torch.digamma(y) - y.log())

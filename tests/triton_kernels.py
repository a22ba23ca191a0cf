"""Small Triton kernels, in a module of their own: another process compiles them."""

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=mask)


@triton.jit
def row_sum(x, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    for k in range(0, n, BLOCK):
        total += tl.load(x + row * n + k + i, mask=k + i < n, other=0.0).to(tl.float64)
    tl.store(out + row, tl.sum(total, 0))


@triton.jit
def softmax(x, out, n, BLOCK: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * n + i, mask=i < n, other=-float("inf"))
    power = tl.exp(value - tl.max(value, 0))
    tl.store(out + row * n + i, power / tl.sum(power, 0), mask=i < n)


@triton.jit
def select(x, out, scale, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i)
    first, second = tl.split(tl.join(value, tl.sqrt(tl.abs(value))))
    tl.store(out + i, tl.where(first > 0, first * scale, -second))
    tl.atomic_add(out + BLOCK, tl.sum(tl.where(first > 0, 1.0, 0.0), 0))


@triton.jit
def scan(x, out, where, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(out + i, tl.cumsum(value, 0))
    tl.store(where, tl.argmax(value, 0))
    total, halvings = tl.sum(value, 0), 0
    while total > 1.0:
        total, halvings = total * 0.5, halvings + 1
    tl.store(where + 1, halvings)


@triton.jit
def transpose(x, sums, out, n, m, BLOCK: tl.constexpr):
    i, j = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    mask = (i < n) & (j < m)
    value = tl.load(x + i * m + j, mask=mask, other=0.0)
    tl.store(sums + tl.arange(0, BLOCK), tl.sum(value, 0))
    tl.store(sums + BLOCK + tl.arange(0, BLOCK), tl.max(value, 1))
    tl.store(out + j * n + i, value.to(tl.bfloat16), mask=mask)

"""Each group of opcodes on values with known results."""

import numpy as np
import pytest

_RNG = np.random.default_rng(0)
_INTS = np.concatenate(
    [[0, 1, 2, 31, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], _RNG.integers(0, 2**32, 25)]
)
_U32 = _INTS.astype(np.uint32)
_V32 = np.roll(_U32, 5)
_U64 = np.concatenate([_INTS, _RNG.integers(0, 2**63, 32) * 2 + 1]).astype(np.uint64)
_V64 = np.roll(_U64, 13)


def _signed(value, bits):
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value


def _divide(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


# Instruction and what it gives, from the operands as integers; .s operands are signed.
_INTEGER = {
    "add.s32 %d, %a0, %a1;": lambda a, b: a + b,
    "sub.u32 %d, %a0, %a1;": lambda a, b: a - b,
    "mul.lo.s32 %d, %a0, %a1;": lambda a, b: a * b,
    "mul.hi.u32 %d, %a0, %a1;": lambda a, b: a * b >> 32,
    "mul.hi.s32 %d, %a0, %a1;": lambda a, b: a * b >> 32,
    "mad.lo.s32 %d, %a0, %a1, 7;": lambda a, b: a * b + 7,
    "div.s32 %d, %a0, %a1;": lambda a, b: _divide(a, b) if b else -1,
    "rem.s32 %d, %a0, %a1;": lambda a, b: a - _divide(a, b) * b if b else a,
    "div.u32 %d, %a0, %a1;": lambda a, b: a // b if b else -1,
    "rem.u32 %d, %a0, %a1;": lambda a, b: a % b if b else a,
    "min.s32 %d, %a0, %a1;": min,
    "max.u32 %d, %a0, %a1;": max,
    "neg.s32 %d, %a0;": lambda a, b: -a,
    "abs.s32 %d, %a0;": lambda a, b: abs(a),
    "and.b32 %d, %a0, %a1;": lambda a, b: a & b,
    "xor.b32 %d, %a0, -1;": lambda a, b: a ^ 0xFFFFFFFF,
    "not.b32 %d, %a0;": lambda a, b: ~a,
    "lop3.b32 %d, %a0, %a1, 255, 0xCA;": lambda a, b: (a & b) | (~a & 255),
    "shl.b32 %d, %a0, %a1;": lambda a, b: a << b if b < 32 else 0,
    "shr.u32 %d, %a0, %a1;": lambda a, b: a >> min(b, 32),
    "shr.s32 %d, %a0, 40;": lambda a, b: a >> 40,
    "shf.l.wrap.b32 %d, %a0, %a1, 7;": lambda a, b: (b << 7) | (a >> 25),
    "shf.r.clamp.b32 %d, %a0, %a1, 32;": lambda a, b: b,
    "bfe.u32 %d, %a0, 3, 9;": lambda a, b: a >> 3 & 511,
    "bfe.s32 %d, %a0, 3, 9;": lambda a, b: _signed(a >> 3 & 511, 9),
    "bfi.b32 %d, %a0, %a1, 4, 8;": lambda a, b: (b & ~0xFF0) | (a & 255) << 4,
    "brev.b32 %d, %a0;": lambda a, b: int(f"{a:032b}"[::-1], 2),
    "popc.b32 %d, %a0;": lambda a, b: a.bit_count(),
    "clz.b32 %d, %a0;": lambda a, b: 32 - a.bit_length(),
    "bfind.u32 %d, %a0;": lambda a, b: a.bit_length() - 1,
    "bfind.shiftamt.s32 %d, %a0;": lambda a, b: (
        32 - (a ^ a >> 31).bit_length() if a not in (0, -1) else -1
    ),
    "prmt.b32 %d, %a0, %a1, 0x9074;": lambda a, b: (
        (b & 255) | b >> 24 << 8 | (a & 255) << 16 | (a >> 15 & 1) * (255 << 24)
    ),
    "cvt.u32.u8 %d, %a0;": lambda a, b: a & 255,
    "cvt.s32.s8 %d, %a0;": lambda a, b: _signed(a, 8),
    "cvt.sat.u8.s32 %d, %a0;": lambda a, b: min(max(a, 0), 255),
    "add.sat.s32 %d, %a0, %a1;": lambda a, b: min(max(a + b, -(2**31)), 2**31 - 1),
    "slct.u32.s32 %d, 1, 2, %a0;": lambda a, b: 1 if a >= 0 else 2,
    "set.lt.u32.u32 %d, %a0, %a1;": lambda a, b: -(a < b),
    "setp.lo.u32 %p, %a0, %a1; selp.b32 %d, %a0, %a1, %p;": min,
    "setp.gt.and.s32 %p|%q, %a0, %a1, !%p; selp.s32 %d, 1, 0, %q;": lambda a, b: a <= b,
    "{ .reg .b16 %l, %h; mov.b32 {%l, %h}, %a0; mov.b32 %d, {%h, %l}; }": lambda a, b: (
        a << 16 | a >> 16
    ),
}


@pytest.mark.parametrize("text", _INTEGER)
def test_integers(evaluate, text):
    signed = ".s32" in text
    pairs = zip(_U32.tolist(), _V32.tolist(), strict=True)
    pairs = [(_signed(a, 32), _signed(b, 32)) if signed else (a, b) for a, b in pairs]
    expected = np.array([int(_INTEGER[text](a, b)) % 2**32 for a, b in pairs], np.uint32)
    np.testing.assert_array_equal(evaluate(text, np.uint32, _U32, _V32), expected)


_WIDE = {
    "add.s64 %d, %a0, %a1;": lambda a, b: a + b,
    "mul.lo.u64 %d, %a0, %a1;": lambda a, b: a * b,
    "mul.hi.u64 %d, %a0, %a1;": lambda a, b: a * b >> 64,
    "mul.hi.s64 %d, %a0, %a1;": lambda a, b: a * b >> 64,
    "div.s64 %d, %a0, %a1;": lambda a, b: _divide(a, b) if b else -1,
    "rem.u64 %d, %a0, %a1;": lambda a, b: a % b if b else a,
    "shr.s64 %d, %a0, 17;": lambda a, b: a >> 17,
    "bfe.u64 %d, %a0, 20, 33;": lambda a, b: a >> 20 & (1 << 33) - 1,
    "brev.b64 %d, %a0;": lambda a, b: int(f"{a:064b}"[::-1], 2),
    "cvt.s64.s32 %d, %a0;": lambda a, b: _signed(a, 32),
    "cvt.u64.u32 %d, %a0;": lambda a, b: a % 2**32,
    "{ .reg .b32 %l, %h; mov.b64 {%l, %h}, %a0; mov.b64 %d, {%h, %l}; }": lambda a, b: (
        a << 32 | a >> 32
    ),
    "{ .reg .b32 %l, %h; cvt.u32.u64 %l, %a0; cvt.u32.u64 %h, %a1; mul.wide.s32 %d, %l, %h; }": (
        lambda a, b: _signed(a, 32) * _signed(b, 32)
    ),
}


@pytest.mark.parametrize("text", _WIDE)
def test_integers_of_64_bits(evaluate, text):
    signed = ".s64" in text
    pairs = zip(_U64.tolist(), _V64.tolist(), strict=True)
    pairs = [(_signed(a, 64), _signed(b, 64)) if signed else (a, b) for a, b in pairs]
    expected = np.array([int(_WIDE[text](a, b)) % 2**64 for a, b in pairs], np.uint64)
    np.testing.assert_array_equal(evaluate(text, np.uint64, _U64, _V64), expected)


_SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -3e38, 1.5, 2.5, -2.5]
_FLOATS = np.array(_SPECIAL + list(_RNG.normal(size=20) * 10))
_OTHERS = np.roll(_FLOATS, 7)


def _number(a, b):
    return ~(np.isnan(a) | np.isnan(b))


_FLOAT = {
    "add.rn.T %d, %a0, %a1;": lambda a, b: a + b,
    "sub.T %d, %a0, %a1;": lambda a, b: a - b,
    "mul.T %d, %a0, %a1;": lambda a, b: a * b,
    "div.rn.T %d, %a0, %a1;": lambda a, b: a / b,
    "neg.T %d, %a0;": lambda a, b: -a,
    "abs.T %d, %a0;": lambda a, b: np.abs(a),
    "sqrt.rn.T %d, %a0;": lambda a, b: np.sqrt(a),
    "rcp.rn.T %d, %a0;": lambda a, b: 1 / a,
    "min.T %d, %a0, %a1;": np.fmin,
    "max.T %d, %a0, %a1;": np.fmax,
    "copysign.T %d, %a0, %a1;": lambda a, b: np.copysign(b, a),
    "cvt.rni.T.T %d, %a0;": lambda a, b: np.rint(a),
    "cvt.rmi.T.T %d, %a0;": lambda a, b: np.floor(a),
    "setp.neu.T %p, %a0, %a1; selp.T %d, 0dONE, 0dNIL, %p;": lambda a, b: a != b,
    "setp.ne.T %p, %a0, %a1; selp.T %d, 0dONE, 0dNIL, %p;": lambda a, b: (a != b) & _number(a, b),
    "setp.ltu.T %p, %a0, %a1; selp.T %d, 0dONE, 0dNIL, %p;": lambda a, b: ~(a >= b),
    "setp.nan.T %p, %a0, %a1; selp.T %d, 0dONE, 0dNIL, %p;": lambda a, b: ~_number(a, b),
    "testp.finite.T %p, %a0; selp.T %d, 0dONE, 0dNIL, %p;": lambda a, b: np.isfinite(a),
    "fma.rn.T %d, %a0, %a1, %a1;": lambda a, b: None,
}


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("text", _FLOAT)
def test_floats(evaluate, text, kind):
    dtype = np.float32 if kind == "f32" else np.float64
    with np.errstate(all="ignore"):
        a, b = _FLOATS.astype(dtype), _OTHERS.astype(dtype)
        expected = _FLOAT[text](a, b)
        if expected is None:
            expected = (a.astype(np.longdouble) * b + b).astype(dtype)
    code = text.replace("T", kind)
    code = code.replace("0dONE", "0d3FF0000000000000").replace("0dNIL", "0d0000000000000000")
    result = evaluate(code, dtype, a, b)
    np.testing.assert_array_equal(result, np.asarray(expected).astype(dtype))
    numbers = ~np.isnan(result) & (text[:3] not in ("min", "max"))
    np.testing.assert_array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


def test_minimum_and_maximum_order_zeros_and_pass_nan_on_where_asked(evaluate):
    a, b = np.array([0.0, -0.0, np.nan, 1]), np.array([-0.0, 0.0, 1, np.nan])
    low = evaluate("min.f64 %d, %a0, %a1;", np.float64, a, b)
    high = evaluate("max.f64 %d, %a0, %a1;", np.float64, a, b)
    assert np.signbit(low[:2]).all()
    assert not np.signbit(high[:2]).any()
    assert low[2] == high[3] == 1
    a, b = a.astype(np.float32), b.astype(np.float32)
    assert np.isnan(evaluate("max.NaN.f32 %d, %a0, %a1;", np.float32, a, b)[2:]).all()
    np.testing.assert_array_equal(
        evaluate("max.f32 %d, %a0, %a1, 0f40000000;", np.float32, a, b), 2
    )


def test_subnormal_numbers_are_kept_or_flushed(evaluate):
    a = np.array([1e-40, -1e-40, 2.0**-126], np.float32)
    half = np.full(3, 0.5, np.float32)
    np.testing.assert_array_equal(evaluate("mul.f32 %d, %a0, %a1;", "f4", a, half), a * half)
    flushed = evaluate("mul.ftz.f32 %d, %a0, %a1;", "f4", a, half)
    np.testing.assert_array_equal(flushed, 0)
    np.testing.assert_array_equal(np.signbit(flushed), [False, True, False])


def test_approximations(evaluate):
    a = np.array([0.3, 1.7, 10.0, 1e-3])
    single = a.astype(np.float32)
    for name, function in {"ex2": np.exp2, "lg2": np.log2, "rsqrt": lambda v: v**-0.5}.items():
        result = evaluate(f"{name}.approx.ftz.f32 %d, %a0;", "f4", single)
        np.testing.assert_allclose(result, function(single.astype(np.float64)), rtol=2e-7)
    result = evaluate("rcp.approx.ftz.f64 %d, %a0;", "f8", a)
    np.testing.assert_allclose(result, 1 / a, rtol=2.0**-20)
    assert not (result.view(np.uint64) & 0xFFFFFFFF).any()


def test_conversions(evaluate):
    a = np.array([1.5, 2.5, -1.5, 3e10, -3e10, np.nan, -0.7, 300], np.float64)
    limits = np.iinfo(np.int32)
    nearest = [2, 2, -2, limits.max, limits.min, 0, -1, 300]
    np.testing.assert_array_equal(evaluate("cvt.rni.s32.f64 %d, %a0;", "i4", a), nearest)
    down = [1, 2, -2, limits.max, limits.min, 0, -1, 300]
    np.testing.assert_array_equal(evaluate("cvt.rmi.s32.f64 %d, %a0;", "i4", a), down)
    cut = evaluate("cvt.rzi.u64.f64 %d, %a0;", "u8", a)
    np.testing.assert_array_equal(cut, [1, 2, 0, 30000000000, 0, 0, 0, 300])
    saturated = evaluate("cvt.sat.f64.f64 %d, %a0;", "f8", a)
    np.testing.assert_array_equal(saturated, [1, 1, 0, 1, 0, 0, 0, 1])
    with np.errstate(all="ignore"):
        single, half = a.astype(np.float32), a.astype(np.float16)
    np.testing.assert_array_equal(evaluate("cvt.rn.f32.f64 %d, %a0;", "f4", a), single)
    np.testing.assert_array_equal(evaluate("cvt.rn.f16.f32 %d, %a0;", "f2", single), half)
    np.testing.assert_array_equal(evaluate("cvt.f32.f16 %d, %a0;", "f4", half), half)
    above = evaluate("cvt.rp.f32.f64 %d, %a0;", "f4", np.array([1 + 1e-12, -1 - 1e-12]))
    np.testing.assert_array_equal(above, [np.nextafter(np.float32(1), np.float32(2)), -1])
    whole = _U64.view(np.int64)
    np.testing.assert_array_equal(
        evaluate("cvt.rn.f32.s64 %d, %a0;", "f4", whole), whole.astype("f4")
    )


def test_half_and_bfloat16(evaluate):
    torch = pytest.importorskip("torch")
    x, y = torch.randn(2, 64, dtype=torch.float32)
    for kind, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        a, b = x.to(dtype), y.to(dtype)
        bits = [v.view(torch.int16).numpy() for v in (a, b)]
        for name, expected in {"add": a + b, "mul": a * b, "min": torch.minimum(a, b)}.items():
            rounding = "" if name == "min" else ".rn"
            result = evaluate(f"{name}{rounding}.{kind} %d, %a0, %a1;", "i2", *bits)
            np.testing.assert_array_equal(result, expected.view(torch.int16).numpy())
        result = evaluate(f"fma.rn.{kind} %d, %a0, %a1, %a1;", "i2", *bits)
        exact = (a.double() * b.double() + b.double()).to(dtype)
        np.testing.assert_array_equal(result, exact.view(torch.int16).numpy())
        pair = evaluate(f"cvt.rn.{kind}x2.f32 %d, %a0, %a1;", "i4", x.numpy(), y.numpy())
        halves = pair.view(np.int16).reshape(-1, 2)
        np.testing.assert_array_equal(halves[:, 0], bits[1])
        np.testing.assert_array_equal(halves[:, 1], bits[0])
        packed = [np.repeat(v, 2).view(np.int32) for v in bits]
        total = evaluate(f"add.rn.{kind}x2 %d, %a0, %a1;", "i4", *packed).view(np.int16)[::2]
        np.testing.assert_array_equal(total, (a + b).view(torch.int16).numpy())


def test_packed_float32(evaluate):
    a, b = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    text = "add.rn.f32x2 %d, %a0, %a1;"
    result = evaluate(text, np.float64, a.view(np.float64), b.view(np.float64))
    np.testing.assert_array_equal(result.view(np.float32), a + b)


def test_branch_tables_and_a_barrier_of_the_warp(evaluate):
    text = """
    table: .branchtargets ZERO, ONE, TWO;
    .reg .b32 %k;
    rem.u32 %k, %a0, 3;
    brx.idx %k, table;
    ZERO: mov.b32 %d, 100; bra.uni DONE;
    ONE: mov.b32 %d, 101; bra.uni DONE;
    TWO: mov.b32 %d, 102;
    DONE: bar.warp.sync -1;
    { .reg .b32 %k; mov.b32 %k, 5; add.u32 %d, %d, %k; }
    add.u32 %d, %d, %k;
    """
    values = np.arange(64, dtype=np.uint32)
    expected = 105 + 2 * (values % 3)
    np.testing.assert_array_equal(evaluate(text, np.uint32, values), expected)

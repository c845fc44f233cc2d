"""Packed integers in raw memory, for kernels that read memory maps and fill arrays.

An address instead of an array needs no reference count in parallel loops, has one compiled form
for writable arrays and read-only maps, and reads 8 bytes where an integer of 3 or 5 bytes begins.
Whoever passes an address keeps the array behind it alive: ``array.ctypes.data`` alone does not.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from imagegram.compiled import njit

#: Integers that :data:`smaller_lanes` compares.
LANES: Final = 32
_TYPES: Any = {8: types.uint8, 16: types.uint16, 32: types.uint32, 64: types.uint64}


def _load(bits: int, *, swapped: bool = False) -> Any:
    """Make an intrinsic that reads an unsigned integer of ``bits`` bits at any address.

    ``swapped`` reads a big-endian one, as 64 bits.
    """
    result: Any = _TYPES[64 if swapped else bits]

    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer, align=1)
            return builder.zext(builder.bswap(value), ir.IntType(64)) if swapped else value

        return result(types.uint64), codegen

    return intrinsic(load)


def _store(bits: int) -> Any:
    """Make an intrinsic that writes an unsigned integer of ``bits`` bits at any address."""
    operand: Any = _TYPES[bits]

    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            builder.store(arguments[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, operand), codegen

    return intrinsic(store)


def _prefetch(typingctx: Any, address: Any) -> Any:
    """Prefetch the cache line at an address, which need not be valid."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        line = builder.inttoptr(arguments[0], byte)
        builder.call(function, [line, word(0), word(3), word(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


def _count_ones(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


def _leading_zeros(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


def _trailing_zeros(typingctx: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


def _smaller_lanes(typingctx: Any, address: Any, bound: Any) -> Any:
    """Compare 32 integers at once: one instruction or a few, without a branch."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, word = ir.VectorType(ir.IntType(16), LANES), ir.IntType(32)
        values = builder.load(builder.inttoptr(arguments[0], lanes.as_pointer()), align=1)
        undefined = ir.Constant(lanes, ir.Undefined)
        bounds = builder.insert_element(undefined, arguments[1], word(0))
        zeros = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
        bounds = builder.shuffle_vector(bounds, undefined, zeros)
        smaller = builder.icmp_unsigned("<", values, bounds)
        return builder.zext(builder.bitcast(smaller, ir.IntType(LANES)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint16), codegen


def _borrow(typingctx: Any, values: Any) -> Any:
    """Return arrays without reference counts: counting takes half the time of a short kernel."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = arguments[0]
        for number, member in enumerate(signature.return_type.types):
            if isinstance(member, types.Array):
                value = builder.extract_value(result, number)
                array = context.make_array(member)(context, builder, value)
                array.meminfo = ir.Constant(array.meminfo.type, None)
                array.parent = ir.Constant(array.parent.type, None)
                result = builder.insert_value(result, array._getvalue(), number)
        return result

    return values(values), codegen


#: ``borrow(named_tuple)``: the same arrays, without counting references to them; the caller must
#: hold them for as long as the kernel runs.
borrow: Any = intrinsic(_borrow)
#: ``count_ones(bits)``: number of set bits of 64.
count_ones: Any = intrinsic(_count_ones)
#: ``leading_zeros(bits)``: number of zero bits of 64 above the highest set one; 64 for zero.
leading_zeros: Any = intrinsic(_leading_zeros)
#: ``trailing_zeros(bits)``: number of zero bits of 64 below the lowest set one; 64 for zero.
trailing_zeros: Any = intrinsic(_trailing_zeros)
#: ``smaller_lanes(address, bound)``: of ``LANES`` uint16 in a row, bit k says whether the k-th is
#: below a uint16 bound.
smaller_lanes: Any = intrinsic(_smaller_lanes)
#: ``prefetch(address)``: load a cache line without waiting for it.
prefetch: Any = intrinsic(_prefetch)
load_u8, load_u16, load_u32, load_u64 = _load(8), _load(16), _load(32), _load(64)
load_swapped_u16, load_swapped_u64 = _load(16, swapped=True), _load(64, swapped=True)
store_u8, store_u16, store_u32 = _store(8), _store(16), _store(32)


@njit(inline="always", cache=True)
def load_packed(address: Any, width: Any, count: Any, i: Any) -> Any:
    """Load integer ``i`` of ``count`` packed integers of ``width`` bytes (1 ... 8), as int64.

    Never reads after the last one, so it is safe at the end of a memory map.
    """
    first = address + np.uint64(i * width)
    if i * width + 8 <= count * width:
        value = load_u64(first)
        if width < 8:
            value &= (np.uint64(1) << np.uint64(8 * width)) - np.uint64(1)
    else:
        value = np.uint64(0)
        for k in range(width):
            value |= np.uint64(load_u8(first + np.uint64(k))) << np.uint64(8 * k)
    return np.int64(value)


@njit(inline="always", cache=True)
def store_packed(address: Any, width: Any, i: Any, value: Any) -> Any:
    """Store integer ``i`` of packed integers of ``width`` bytes; touches no neighbour's byte."""
    first = address + np.uint64(i * width)
    if width == 4:
        store_u32(first, np.uint32(value))
    else:
        for k in range(width):
            store_u8(first + np.uint64(k), np.uint8(value >> (8 * k)))

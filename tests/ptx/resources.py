"""What a compiled kernel takes of a multiprocessor: registers, local and shared memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .compile import find_nvcc


class Multiprocessor(NamedTuple):
    """How many warps and blocks it holds, and its bytes of shared memory."""

    warps: int
    blocks: int
    shared: int


# From the occupancy tables of the CUDA programming guide (compute capabilities).
MULTIPROCESSORS = {
    80: Multiprocessor(64, 32, 164 * 1024),
    90: Multiprocessor(64, 32, 228 * 1024),
    100: Multiprocessor(64, 32, 228 * 1024),
    120: Multiprocessor(48, 24, 100 * 1024),
}
REGISTERS, PARTITIONS = 65_536, 4  # of all of them
REGISTER_UNIT, SHARED_UNIT = 256, 128  # of registers for a warp, of bytes for a block
RESERVED = 1024  # bytes of every block that the driver keeps; cubins since 9.0 declare them
KERNEL = re.compile(r"Function (\S+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)")


@cache
def find_cuobjdump() -> str | None:
    """Return cuobjdump's path: from PATH, or Triton's own; None where there is none."""
    found = shutil.which("cuobjdump")
    if found:
        return found
    try:
        import triton
    except ImportError:
        return None
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(path) if path.exists() else None


@dataclass(frozen=True)
class Resources:
    """What one kernel takes.

    Attributes
    ----------
    registers
        Of a thread.
    spilled
        Bytes of a thread's local memory: kernels without arrays of their own have it for spills.
    shared
        Bytes of shared memory that the kernel declares.
    """

    registers: int
    spilled: int
    shared: int

    def blocks(self, arch: int, threads: int, dynamic: int) -> int:
        """Return how many blocks a multiprocessor holds; dynamic: their further shared bytes."""
        warps = -(-threads // 32)
        of_warp = -(-self.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
        resident = REGISTERS // PARTITIONS // of_warp * PARTITIONS
        own = self.shared + dynamic
        asked = own + RESERVED if arch < 90 else max(own, RESERVED)
        of_block = -(-asked // SHARED_UNIT) * SHARED_UNIT
        has = MULTIPROCESSORS[arch]
        return min(has.blocks, has.warps // warps, resident // warps, has.shared // of_block)


@dataclass(frozen=True)
class Launched:
    """A launch: the kernel's name, threads of a block, shared bytes asked for, what it takes."""

    name: str
    threads: int
    dynamic: int
    takes: Resources


def assembled_by_nvcc(ptx: str, arch: int) -> bytes:
    """Return the machine code of nvcc's PTX."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        file.write_text(ptx)
        command = [find_nvcc(), "-cubin", f"-arch=sm_{arch}", str(file), "-o", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        return out.read_bytes()


def resources(cubin: bytes) -> dict[str, Resources]:
    """Return what each kernel of a cubin takes, by its name."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [find_cuobjdump(), "-res-usage", file.name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = {name: Resources(*map(int, rest)) for name, *rest in KERNEL.findall(done.stdout)}
    if not found:
        raise RuntimeError(f"cuobjdump names no kernel: {done.stdout}")
    return found

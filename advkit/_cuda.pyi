"""The compiled module of CUDA kernels, as Python sees it.

Private: the kernels take raw addresses, of tensors that `advkit.ops` has checked; names are those
of `advkit._native`. The suffix tells the type of the floating data, and of stored pairs if that is
another. An op is first prepared, for a device whose blocks may have `shared_memory` bytes, and then
run.
"""

class BoundAt:
    """Where a bound of the box lies, and whether it has one value for each element."""

    def __init__(self, address: int, row: int, element: bool) -> None: ...

class Prepared:
    """The launches of an op."""

    def run(self, device: int, stream: int) -> None:
        """Launch all on a stream; RuntimeError with the kernel's name and CUDA's message."""

    @property
    def launches(self) -> list[tuple[str, tuple[int, int], int, int]]:
        """Kernel, grid, threads of a block and bytes of dynamic shared memory, in order."""

    @property
    def call(self) -> bytes:
        """The one argument of every kernel."""

def shared_memory(device: int) -> int:
    """Bytes of shared memory that a block may have; RuntimeError where there is no device."""

def workspace_penalty(rows: int, n: int, /) -> int:
    """Bytes of workspace, 0 where one block does an image."""

def workspace_two_loop(rows: int, n: int, m: int, value_bytes: int, shared_memory: int, /) -> int:
    """Bytes of workspace, 0 where one block does an image."""

def workspace_lbfgs_step(rows: int, n: int, m: int, value_bytes: int, shared_memory: int, /) -> int:
    """Bytes of workspace, 0 where one block does an image."""

def penalty_f32(
    rows: int,
    n: int,
    x: int,
    x_row: int,
    x0: int,
    x0_row: int,
    g_loss: int,
    g_loss_row: int,
    c: int,
    lower: BoundAt,
    upper: BoundAt,
    norm: int,
    value: int,
    gradient: int,
    free: int,
    workspace: int,
    /,
) -> Prepared: ...

penalty_f64 = penalty_f32

def class_loss_f32(
    rows: int,
    classes: int,
    logits: int,
    logits_row: int,
    labels: int,
    kind: int,
    targeted: bool,
    kappa: float,
    sharpness: float,
    loss: int,
    dlogits: int,
    /,
) -> Prepared: ...

class_loss_f64 = class_loss_f32
class_loss_f16 = class_loss_f32
class_loss_bf16 = class_loss_f32

def two_loop_f32(
    rows: int,
    n: int,
    m: int,
    g: int,
    g_row: int,
    S: int,
    S_row: int,
    S_pair: int,
    Y: int,
    Y_row: int,
    Y_pair: int,
    head: int,
    count: int,
    free: int,
    free_row: int,
    direction: int,
    workspace: int,
    shared_memory: int,
    /,
) -> Prepared: ...

two_loop_f64 = two_loop_f32
two_loop_f32_f16 = two_loop_f32
two_loop_f32_bf16 = two_loop_f32

def lbfgs_step_f32(
    rows: int,
    n: int,
    m: int,
    slots: int,
    slot: int,
    loss: int,
    g_loss: int,
    g_loss_row: int,
    trial: int,
    trial_row: int,
    vectors: int,
    history: int,
    ld: int,
    scalars: int,
    counters: int,
    x0: int,
    x0_row: int,
    lower: BoundAt,
    upper: BoundAt,
    norm: int,
    gradient_tolerance: float,
    relative_tolerance: float,
    stagnation_tolerance: float,
    stagnation_window: int,
    max_evaluations: int,
    workspace: int,
    shared_memory: int,
    /,
) -> Prepared: ...

lbfgs_step_f64 = lbfgs_step_f32
lbfgs_step_f32_f16 = lbfgs_step_f32
lbfgs_step_f32_bf16 = lbfgs_step_f32

"""The compiled module, as Python sees it.

Private: the kernels take raw addresses, of tensors that `advkit.ops` has checked. The names are
those of ``csrc/include/advkit/params.hpp``, which has the layouts; ``name_row`` is the stride
between the rows of `name` in elements, 0 where one row serves all. ``_f32`` and ``_f64`` tell the
type of the floating data, and a second suffix that of stored pairs if it is another.
"""

def available_isas() -> list[str]:
    """Name the instruction sets compiled in that this processor can run, the best one last."""

def isa() -> str:
    """Name the instruction set in use."""

def select_isa(isa: str) -> None:
    """Use another instruction set; ValueError if it is not an available one."""

def use_openmp_of(library: str) -> bool:
    """Share the threads of the OpenMP runtime of a loaded library; False if it has none."""

def has_openmp() -> bool:
    """Tell whether kernels can use several threads: a runtime was found, and this is no fork."""

class BoundAt:
    """Where a bound of the box lies, and whether it has one value for each element."""

    def __init__(self, address: int, row: int, element: bool) -> None: ...

class LegRules:
    """When a leg of an attack ends and how the next begins; all 0 at first."""

    def __init__(self) -> None: ...

    slack: float
    prune: float
    progress: float
    prune_age: int
    progress_age: int
    bolder: float
    boldest: int
    noise_at_best: float
    noise_at_original: float
    at_face: float
    least_gradient: float
    most_growth: float

class LegsAt:
    """The images of an attack, for all its rounds; all 0 at first."""

    def __init__(self) -> None: ...

    images: int
    x0: int
    x0_row: int
    starts: int
    starts_row: int
    order: int
    slack: int
    gap: int
    stop_distance: int
    leg: int
    age: int
    rival: int
    forwards: int
    backwards: int
    sharpness: int
    nearest: int
    mark: int
    distance: int
    c_best: int
    radius: int
    best: int
    ranked: int
    key: int
    ranks: int
    noise: int
    table: int
    legs: int
    repeated: int
    passes: int
    rules: LegRules

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
    threads: int,
    /,
) -> None: ...

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
    threads: int,
    /,
) -> None: ...

class_loss_f64 = class_loss_f32

def margin_f32(
    rows: int,
    classes: int,
    logits: int,
    logits_row: int,
    labels: int,
    rivals: int,
    sharpness: int,
    targeted: bool,
    kappa: float,
    constraint: int,
    dlogits: int,
    margin: int,
    fooled: int,
    surely: int,
    threads: int,
    /,
) -> None: ...

margin_f64 = margin_f32

def row_norm_f32(
    rows: int, n: int, values: int, values_row: int, order: int, norm: int, threads: int, /
) -> None: ...

row_norm_f64 = row_norm_f32

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
    threads: int,
    /,
) -> None: ...

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
    threads: int,
    /,
) -> None: ...

lbfgs_step_f64 = lbfgs_step_f32
lbfgs_step_f32_f16 = lbfgs_step_f32
lbfgs_step_f32_bf16 = lbfgs_step_f32

def leg_round_f32(
    legs: LegsAt,
    own_lower: BoundAt,
    own_upper: BoundAt,
    index: int,
    x: int,
    x_row: int,
    constraint: int,
    surely: int,
    finished: int,
    length: int,
    c: int,
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
    threads: int,
    /,
) -> None: ...

leg_round_f64 = leg_round_f32
leg_round_f32_f16 = leg_round_f32
leg_round_f32_bf16 = leg_round_f32

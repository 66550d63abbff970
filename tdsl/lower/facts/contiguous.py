"""A binding for no call in particular: contiguous tensors, from sizes and dtypes by name.

    matmul, dims {"N": 256}    ->    A: f16[size_M, size_K], B: f16[size_K, 256], ...

The shell, goldens and compile tests look at a kernel through it. A size without a value becomes an
argument of the kernel, `size_M`, and a scalar parameter is one, `eps_`. Which sizes a template cannot
leave open is `static_axes`'s business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tdsl import ir
from tdsl.builtins import Value
from tdsl.lower.facts.binding import Binding, TensorArg
from tdsl.lower.facts.extents import Extent, Signed, ceildiv, combine, multiply, names
from tdsl.signature import Environment, evaluate


def contiguous(
    kernel: ir.Kernel,
    *,
    dims: Mapping[str, int] | None = None,
    dtypes: Mapping[str, str] | None = None,
    consts: Mapping[str, Value] | None = None,
    absent: Collection[str] = (),
    open_strides: bool = False,
) -> tuple[Binding, tuple[str, ...]]:
    """The binding, and the kernel's size arguments: the open sizes, then strides, then the run-time scalars.

    `dims` has sizes by name (of `R...`, the one of a single leading dimension); `dtypes` has tdsl dtype
    names by dtype variable, else its first choice counts; `consts` goes before a parameter's default;
    `absent` names the optional tensors that are not passed. `open_strides`: every stride is an argument,
    `stride_A_0`, so that tensors need not be contiguous.
    """
    environment = environment_of(kernel, dims=dims, dtypes=dtypes, consts=consts)
    tensors: dict[str, TensorArg | None] = {}
    for item in (*kernel.params, *kernel.outputs):
        if isinstance(item, ir.Tensor):
            tensors[item.name] = None if item.name in absent else _tensor(item, environment, open_strides)
    scalars: dict[str, Any] = {
        param.name: Signed(f"{param.name}_") if param.type == "int" else f"{param.name}_"
        for param in kernel.params
        if isinstance(param, ir.Scalar)
    }
    passed = [tensor for tensor in tensors.values() if tensor]
    extents = (extent for tensor in passed for extent in (*tensor.shape, *tensor.strides))
    used = {name for extent in extents for name in names(extent)}
    sizes = tuple(f"size_{name}" for name in kernel.dims if f"size_{name}" in used)
    strides = tuple(str(stride) for tensor in passed for stride in tensor.strides) if open_strides else ()
    binding = Binding(tensors=tensors, scalars=scalars, consts=dict(environment.params))
    return binding, sizes + strides + tuple(map(str, scalars.values()))


def environment_of(
    kernel: ir.Kernel,
    *,
    dims: Mapping[str, int] | None = None,
    dtypes: Mapping[str, str] | None = None,
    consts: Mapping[str, Value] | None = None,
) -> Environment:
    """What is given, and the first choices and defaults of what is not; a size that is not given stays open."""
    variables = {name: choices[0] for name, choices in kernel.dtype_choices} | dict(dtypes or {})
    constants = {
        param.name: param.default
        for param in kernel.params
        if isinstance(param, ir.Const) and param.default is not None
    } | dict(consts or {})
    variables |= {
        param.name: str(constants[param.name])
        for param in kernel.params
        if isinstance(param, ir.Const) and param.type == "dtype" and param.name in constants
    }
    return Environment(dims=dict(dims or {}), params=constants, dtypes=variables)


def _tensor(tensor: ir.Tensor, environment: Environment, open_strides: bool) -> TensorArg:
    shape = tuple(_extent(dim, environment) for dim in tensor.dims)
    dtype = tensor.dtype.resolve(environment.dtypes)
    if open_strides:
        named = tuple(f"stride_{tensor.name}_{axis}" for axis in range(len(shape)))
        return TensorArg(dtype=dtype, shape=shape, strides=named)
    strides: list[Extent] = []
    step: Extent = 1
    for size in reversed(shape):
        strides.insert(0, step)
        step = multiply(step, size)
    return TensorArg(dtype=dtype, shape=shape, strides=tuple(strides))


def _extent(dim: ir.Expr | ir.RestDim, environment: Environment) -> Extent:
    match dim:
        case ir.RestDim(name=name) | ir.DimRef(name=name) if name not in environment.dims:
            return f"size_{name}"
        case ir.RestDim(name=name):
            return environment.dims[name]
        case ir.ParamRef(name=name) if name not in environment.params:
            return Signed(f"{name}_")
    if all(_is_known(node, environment) for node in ir.walk(dim)):
        value = evaluate(dim, environment)
        assert isinstance(value, int), f"a size is an integer; {dim} is {value!r}"
        return value
    match dim:
        case ir.Binary(op=op, left=left, right=right):
            return combine(op, _extent(left, environment), _extent(right, environment))
        case ir.Elementwise(function="cdiv", arguments=(left, right)):
            return ceildiv(_extent(left, environment), _extent(right, environment))
        case _:
            raise AssertionError(f"{type(dim).__name__} of an open size")


def _is_known(node: ir.Node, environment: Environment) -> bool:
    match node:
        case ir.DimRef(name=name):
            return name in environment.dims
        case ir.ParamRef(name=name):
            return name in environment.params
    return True

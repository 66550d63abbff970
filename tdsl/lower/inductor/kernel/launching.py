"""The launch record of a call in a compiled graph: its arguments are those that Inductor has named."""

from __future__ import annotations

from tdsl.lower.inductor.buffer import TemplateCall
from tdsl.lower.inductor.compat.names import (
    ArgName,
    ConstexprArg,
    ExternalTritonTemplateKernel,
    MutationLayout,
    Placeholder,
    RemovedArg,
    V,
    config_of,
    equal_1_arg_indices,
    signature_to_meta,
)
from tdsl.lower.inductor.module import LaunchRecord, launch_record


def compiled_launch(kernel: ExternalTritonTemplateKernel, call: TemplateCall) -> LaunchRecord:
    """The launch of a call in a compiled graph, whose arguments Inductor has named."""
    argdefs, _, signature, _ = kernel.args.python_argdefs()
    source = call.source
    for name, _value in source.configs[0].constants:
        signature.append(ConstexprArg(name))
        argdefs.append(ArgName(name, is_constexpr=True))
    reset = [
        str(kernel.args.output_buffers[call.result_buffers[pointer.param]])
        for pointer in source.pointers
        if pointer.accumulated
    ]
    return launch_record(
        source,
        call.kernel,
        V.graph.get_current_device_or_throw(),
        name=str(Placeholder.KERNEL_NAME),
        shown=str(Placeholder.DESCRIPTIVE_NAME),
        arguments=[argument.full_name() for argument in argdefs],
        signature=signature_to_meta(
            signature, size_dtype=kernel.index_dtype, argdefs=argdefs, is_template=True
        ),
        constants={argdefs[i].name: 1 for i in equal_1_arg_indices(signature)},
        attributes=config_of(signature),
        reset=reset,
        overwritten=_overwritten(kernel),
        sizes=call.size_hints,
        frees=V.graph.is_inference or V.graph.is_backward,
    )


def _overwritten(kernel: ExternalTritonTemplateKernel) -> list[str]:
    """Arguments that hold something when the kernel is called, and that it writes to: to be timed again and
    again it gets copies of them."""
    argdefs, call_args, _, _ = kernel.args.python_argdefs()
    memory = {argument.name: str(value) for argument, value in zip(argdefs, call_args, strict=True)}
    found = {
        inplace.inner_name
        for inplace in kernel.args.inplace_buffers.values()
        if not isinstance(inplace, RemovedArg)
    }
    for name, inner in kernel.args.output_buffers.items():
        if isinstance(inner, RemovedArg):
            continue
        buffer = V.graph.name_to_buffer.get(name)
        mutates = buffer is not None and isinstance(buffer.get_output_spec(), MutationLayout)
        shared = list(memory.values()).count(memory[inner]) > 1
        if buffer is None or mutates or shared or memory[inner] != name:
            found.add(inner)
    return sorted(found)

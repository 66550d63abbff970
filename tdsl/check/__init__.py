"""Checking: `check(file) -> kernels`, or every mistake at once.

    for m in grid(M by BLOCK):           Kernel(grid=(m: 0 to M by BLOCK),
        store y[m] = load x[m] + 1   →     body=(Store(y, [m], load x[m]: T[m] + 1),))

One module per family of rules; what they share is `scope`. What comes out is well formed: no later pass asks
again. Sizes, strides and the dtypes of one call are left to `tdsl.signature` and the lowering.
"""

from __future__ import annotations

from collections.abc import Mapping

from tdsl import ast, ir
from tdsl.check import coverage, declarations, expressions, inlining, parameters, statements
from tdsl.check.scope import Block, Context, Report
from tdsl.diagnostics import Code, Diagnostic, Label, TdslError
from tdsl.source import Span


def check(file: ast.File) -> tuple[ir.Kernel, ...]:
    """The kernel of each template. Raises TdslError with every mistake of the file, in its order."""
    report = Report()
    helpers, recursive = inlining.check_helpers(report, file)
    kernels = [_template(report, template, helpers, recursive) for template in file.templates]
    _check_template_names(report, file, helpers)
    if len(report):
        raise TdslError(report.in_order())
    made = tuple(kernel for kernel in kernels if kernel is not None)
    assert len(made) == len(kernels), "a template without a kernel has a mistake"
    return made


def _check_template_names(report: Report, file: ast.File, helpers: Mapping[str, ast.Helper]) -> None:
    first: dict[str, Span] = {name: helper.name.span for name, helper in helpers.items()}
    for template in file.templates:
        name, span = template.name.name, template.name.span
        if first.setdefault(name, span) is not span:
            what = "a helper" if name in helpers else "a template"
            report.add(
                Diagnostic(
                    code=Code.DUPLICATE_NAME,
                    message=f"there is {what} '{name}' already",
                    span=span,
                    labels=(Label(span=first[name], text="first here"),),
                    help="give one of them another name",
                )
            )


def _template(
    report: Report, template: ast.Template, helpers: Mapping[str, ast.Helper], recursive: frozenset[str]
) -> ir.Kernel | None:
    ctx = Context(report=report, helpers=helpers, recursive=recursive)
    expressions.bind(ctx)
    ctx.open(Block("template", template.span))
    errors = len(report)
    signature = parameters.check_signature(ctx, template)
    ctx.used -= signature.dims.keys()  # that the signature asks for a size is no use of it
    lets, candidates = declarations.check_declarations(ctx, template)
    ctx.keys.update(dict.fromkeys(ctx.blocks[0].names, 0))
    body = statements.check_body(ctx, template)
    if body is not None:
        coverage.check_stores(ctx, template, signature.written)
        declarations.check_used(ctx, template)
        _check_inputs(ctx, signature)
    if len(report) > errors:
        return None
    assert body is not None, "a template without a grid has a mistake"
    grid, group, inner = body
    return ir.Kernel(
        span=template.span,
        name=template.name.name,
        source=template.span.source,
        doc=template.doc,
        params=tuple(signature.params),
        outputs=tuple(signature.outputs),
        dtype_choices=tuple(signature.choices.items()),
        dims=tuple(signature.dims),
        guards=tuple(signature.guards),
        lets=lets,
        candidates=candidates,
        grid=grid,
        group=group,
        body=inner,
    )


def _check_inputs(ctx: Context, signature: parameters.Signature) -> None:
    for name, span in signature.inputs.items():
        if (
            name not in ctx.used
            and name not in ctx.duplicated
            and not (name in signature.choices and _is_dtype_used(signature, name))
        ):
            tensor = ctx.tensor(name)
            if tensor is not None and _tells_a_size(ctx, signature, tensor):
                continue
            ctx.error(
                Code.UNUSED_INPUT,
                span,
                f"'{name}' is never {'used' if tensor is None else 'loaded'}"
                + ("" if tensor is None else ", and tells no size that nothing else tells"),
                help="leave it out" if tensor is None else f"'load {name}[...]', or leave it out",
            )


def _tells_a_size(ctx: Context, signature: parameters.Signature, tensor: ir.Tensor) -> bool:
    """Whether a size that the template uses is known from this tensor alone."""
    others = [
        param for param in signature.params if isinstance(param, ir.Tensor) and param.name != tensor.name
    ]
    known = {name for other in others if not other.optional for name in parameters.told(other)}
    shaped = {
        node.name
        for output in signature.outputs
        for dim in output.dims
        for node in ir.walk(dim)
        if isinstance(node, ir.DimRef | ir.RestDim)
    }
    return not tensor.optional and bool((parameters.told(tensor) - known) & (ctx.used | shaped))


def _is_dtype_used(signature: parameters.Signature, name: str) -> bool:
    tensors = [*signature.outputs, *(param for param in signature.params if isinstance(param, ir.Tensor))]
    return any(name in tensor.dtype.variables() for tensor in tensors)

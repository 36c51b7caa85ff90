"""Plain surgery on ONNX nodes: cleaning, dropping copies, keeping what is needed. Knows no model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper


def cleaned(node: NodeProto, prefix: str) -> NodeProto:
    """`node` with `prefix` on its tensors and without name, comment and metadata; so for the graphs inside it."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    made = helper.make_node(node.op_type, _prefixed(node.input, prefix), _prefixed(node.output, prefix), domain=domain)
    attributes = [_cleaned_attribute(attribute, prefix) for attribute in node.attribute]
    made.attribute.extend(sorted(attributes, key=lambda attribute: attribute.name))
    return made


def _prefixed(names: Iterable[str], prefix: str) -> list[str]:
    # An empty name stands for an optional input that is left out.
    return [prefix + name if name else "" for name in names]


def _cleaned_attribute(attribute: AttributeProto, prefix: str) -> AttributeProto:
    made = AttributeProto()
    made.CopyFrom(attribute)
    made.doc_string = ""
    if attribute.type == AttributeProto.GRAPH:
        made.g.CopyFrom(_cleaned_graph(attribute.g, prefix))
    elif attribute.type == AttributeProto.TENSOR:
        made.t.CopyFrom(cleaned_constant(attribute.t, ""))
    return made


def _cleaned_graph(graph: GraphProto, prefix: str) -> GraphProto:
    def values(infos: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
        return [_without_shape(info, prefix) for info in infos]

    constants = [cleaned_constant(tensor, prefix + tensor.name) for tensor in graph.initializer]
    nodes = [cleaned(node, prefix) for node in graph.node]
    return helper.make_graph(nodes, "inner", values(graph.input), values(graph.output), constants)


def _without_shape(info: onnx.ValueInfoProto, prefix: str) -> onnx.ValueInfoProto:
    # A batch axis named as the outer one would have to be as long, which it is not in a graph that holds this one.
    made = onnx.ValueInfoProto(name=prefix + info.name, type=info.type)
    made.type.tensor_type.ClearField("shape")
    return made


def cleaned_constant(tensor: TensorProto, name: str) -> TensorProto:
    """`tensor` under another name, without comment and metadata."""
    made = TensorProto()
    made.CopyFrom(tensor)
    made.name, made.doc_string = name, ""
    del made.metadata_props[:]
    return made


def reads(node: NodeProto) -> Iterator[str]:
    """Names of the tensors that `node` reads, those that the graphs inside it take from outside included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in [attribute.g, *attribute.graphs]:
            for nested in inner.node:
                yield from reads(nested)
            yield from (value.name for value in inner.output)


def needed(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Those of `nodes`, which stand in order of computation, that lead to `outputs`."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(reads(node))
    return kept[::-1]


def without_copies(nodes: Sequence[NodeProto], outputs: Sequence[str], same: Mapping[str, str]) -> list[NodeProto]:
    """`nodes` without Identity, whose readers read its source instead; `same` names further equal tensors.

    A tensor that is copied to one of `outputs` takes the output's name, unless it is one already or has no node here.
    """
    alias = dict(same)
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type != "Identity" or node.domain:
            continue
        source, target = alias.get(node.input[0], node.input[0]), node.output[0]
        if target not in outputs:
            alias[target] = source
        elif source in made and source not in outputs and source not in alias:
            alias[source] = target
    # A copy may have been noted before its source got another name.
    final = {name: _follow(alias, name) for name in alias}
    return [_renamed(node, final) for node in nodes if not _is_done(node, final)]


def _follow(alias: Mapping[str, str], name: str) -> str:
    while name in alias:
        name = alias[name]
    return name


def _is_done(node: NodeProto, alias: Mapping[str, str]) -> bool:
    if node.op_type != "Identity" or node.domain:
        return False
    source, target = node.input[0], node.output[0]
    return bool(alias.get(source, source) == alias.get(target, target))


def _renamed(node: NodeProto, alias: Mapping[str, str]) -> NodeProto:
    made = NodeProto()
    made.CopyFrom(node)
    for names in (made.input, made.output):
        names[:] = [alias.get(name, name) for name in names]
    for attribute in made.attribute:
        for inner in [attribute.g] if attribute.type == AttributeProto.GRAPH else []:
            nodes = [_renamed(nested, alias) for nested in inner.node]
            del inner.node[:]
            inner.node.extend(nodes)
            for value in inner.output:
                value.name = alias.get(value.name, value.name)
    return made

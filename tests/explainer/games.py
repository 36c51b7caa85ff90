"""Games whose Shapley values are known, as ONNX models: players are columns, present at 1 and absent at 0."""

import numpy as np
from onnx import checker, parser

OPSET = 20


def graph(body, d, outputs=1, batch="n"):
    """A model of d features from ONNX text; `X` is bound and `margin` `[n, outputs]` is expected."""
    header = f'<ir_version: 9, opset_import: ["" : {OPSET}]>'
    signature = f"game (float[{batch},{d}] X) => (float[{batch},{outputs}] margin)"
    model = parser.parse_model(f"{header} {signature} {{ {body} }}")
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def floats(array):
    """A constant matrix in ONNX text."""
    array = np.asarray(array, np.float32)
    shape, values = (",".join(map(repr, part)) for part in (array.shape, array.ravel().tolist()))
    return f"Constant<value = float[{shape}] {{{values}}}>()"


def additive(d):
    """v(S) = sum of w_i: everyone gets w_i."""
    w = np.linspace(-1, 1, d)
    return graph(f"w = {floats(w[:, None])} margin = MatMul(X, w)", d), w


def unanimity(d, size):
    """v(S) = 1 if the first `size` players are all in S: each of them gets 1 / size."""
    members = ",".join(map(str, range(size)))
    body = f"""members = Constant<value_ints = [{members}]>()
    axis = Constant<value_ints = [1]>()
    present = Gather<axis = 1>(X, members)
    margin = ReduceProd<keepdims = 1>(present, axis)"""
    return graph(body, d), np.where(np.arange(d) < size, 1 / size, 0)


def quadratic(d):
    """v(S) = sum of a_i + half the sum of Q_ij over pairs in S: a_i + half the sum of Q_ij over j."""
    rng = np.random.default_rng(d)
    a, Q = rng.normal(size=d) / d, rng.normal(size=(d, d)) / d
    Q = (Q + Q.T) / 2
    np.fill_diagonal(Q, 0)
    body = f"""a = {floats(a[:, None])} half = {floats(Q / 2)}
    axis = Constant<value_ints = [1]>()
    linear = MatMul(X, a)
    product = MatMul(X, half)
    terms = Mul(product, X)
    pairs = ReduceSum<keepdims = 1>(terms, axis)
    margin = Add(linear, pairs)"""
    return graph(body, d), a + Q.sum(1) / 2


def airport(d):
    """v(S) = the longest runway that S needs: player i pays its share of every piece that it uses."""
    costs = np.arange(1, d + 1) / d
    body = f"""costs = {floats(costs[None])} axis = Constant<value_ints = [1]>()
    needed = Mul(X, costs)
    margin = ReduceMax<keepdims = 1>(needed, axis)"""
    pieces = np.diff(costs, prepend=0) / np.arange(d, 0, -1)
    return graph(body, d), np.cumsum(pieces)


def symmetric(d):
    """v(S) = |S|^4 / d^4: equal shares."""
    body = """axis = Constant<value_ints = [1]>() four = Constant<value_float = 4.0>()
    share = ReduceMean<keepdims = 1>(X, axis)
    margin = Pow(share, four)"""
    return graph(body, d), np.full(d, 1 / d)


def network(d, outputs=1, hidden=8, seed=0):
    """Scaling and two affine layers with tanh between them, of random weights; no value is known."""
    rng = np.random.default_rng([d, outputs, seed])
    W, V = rng.normal(size=(d, hidden)), rng.normal(size=(hidden, outputs))
    body = f"""mean = {floats(rng.normal(size=(1, d)))} scale = {floats(rng.uniform(0.5, 2, (1, d)))}
    W = {floats(W)} c = {floats(rng.normal(size=hidden))} V = {floats(V)}
    centred = Sub(X, mean)
    scaled = Div(centred, scale)
    layer = Gemm(scaled, W, c)
    active = Tanh(layer)
    margin = MatMul(active, V)"""
    return graph(body, d, outputs)

"""`explainer.onnx` for the rungs that ask the model: enumeration, exact, and the stratified plan, an estimate."""

import numpy as np
from onnx import TensorProto

from models.explainer.exact import coalitions, shapley_matrix
from models.explainer.graph import Builder, add_equal_share, add_fx, add_no_error
from models.explainer.masked import odd_answers
from models.explainer.plan import Plan
from models.explainer.served import Served
from models.task import FloatMatrix


def add_enumeration(served: Served, background: FloatMatrix, *, split: bool = True) -> Builder:
    """Formula (4) over all coalitions of at most ten players."""
    build = Builder(served)
    masks = coalitions(served.n_features)  # [K, d]
    gain = add_fx(build, served.margin(background).mean(0))
    if len(masks) == 0:
        build.op("Unsqueeze", gain, build.axes(1), output="values")
        add_no_error(build)
        return build
    odd = odd_answers(build, build.constant(masks[None]), len(masks), background, split=split)  # [n, b, K, C]
    mean = build.op("Mul", build.sum(odd, 1), build.constant(1 / len(background)))  # [n, K, C]
    # Hundreds of terms of one sign: float32 sums would be off by 4e-6 of the value.
    answers, matrix = (
        build.op("Cast", part, to=TensorProto.DOUBLE)
        for part in (build.op("Transpose", mean, perm=[0, 2, 1]), build.constant(shapley_matrix(masks).T))
    )
    add_equal_share(build, gain, build.op("Cast", build.op("MatMul", answers, matrix), to=TensorProto.FLOAT))
    add_no_error(build)
    return build


def add_plan(served: Served, background: FloatMatrix, plan: Plan, *, split: bool = True) -> Builder:
    """phi = mean_j whole' o_j + (f(x) - base) / d, and the standard error from the two halves."""
    build = Builder(served)
    b, (_, h, d), c = len(background), plan.masks.shape, served.n_outputs
    gain = add_fx(build, served.margin(background).mean(0))
    design = build.constant(plan.masks.reshape(2 * h, d))
    shuffled = build.op("Gather", design, build.constant(plan.places), axis=1)  # [2h, b, d], constant
    masks = build.op("Transpose", shuffled, perm=[1, 0, 2])  # [b, 2h, d], constant
    odd = odd_answers(build, masks, 2 * h, background, split=split)  # [n, b, 2h, C]

    # One product gives the values of the places and the halves' difference, where f(x) - f(b_j) cancels.
    difference = np.concatenate([plan.halves[0], -plan.halves[1]])  # [2h, d]
    maps = build.constant(np.concatenate([plan.whole / b, difference / (2 * b)], axis=1))  # [2h, 2d]
    answers = build.op("Transpose", odd, perm=[0, 3, 1, 2])  # [n, C, b, 2h]
    by_place = build.reshape(build.op("MatMul", answers, maps), -1, c, b * 2 * d)
    place = (np.arange(b)[:, None, None] * 2 + np.arange(2)[:, None]) * d + plan.places[:, None]  # [b, 2, d]
    by_player = build.op("Gather", by_place, build.constant(place), axis=2)  # [n, C, b, 2, d]
    uneven, spread = (build.op("Gather", by_player, build.axis(part), axis=3) for part in (0, 1))

    add_equal_share(build, gain, build.sum(uneven, 2))
    error = build.op("Sqrt", build.sum(build.op("Mul", spread, spread), 2))  # [n, C, d]
    build.op("Transpose", error, perm=[0, 2, 1], output="error_std")
    return build

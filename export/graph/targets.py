"""The TensorRT releases that graphs are checked for, with the operators and opsets they read.

Source: docs/operators.md of onnx-tensorrt for 8.5, 8.6, 10.0 and 10.15, and docs/Changelog.md there up to 10.7.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KNOWN", "Target"]

# Operators that no release reads.
NOWHERE_NAMES = """
    AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im Compress
    ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool MaxUnpool
    MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv
    QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer Unique
"""
NOWHERE = frozenset(NOWHERE_NAMES.split())
BEFORE_10_5 = NOWHERE | {"BlackmanWindow", "HammingWindow", "HannWindow", "STFT"}
BEFORE_10 = BEFORE_10_5 | {"CastLike", "Hardmax"}


class Target(NamedTuple):
    """A release of TensorRT.

    Attributes:
        version: major and minor; for TensorRT-RTX, of the TensorRT that has the same parser.
        opset: the newest in its documents.
        unknown: ONNX operators that its parser does not read.
    """

    version: tuple[int, int]
    opset: int
    unknown: frozenset[str]


# 10.3 to 10.13 are given the opset of 10.0, because their own tables were not available; theirs is not lower. TensorRT
# 11.5 was the first to accept opset 25 (its release notes).
KNOWN = {
    "8.5": Target((8, 5), 17, BEFORE_10 | {"IsInf", "LayerNormalization"}),
    "8.6": Target((8, 6), 17, BEFORE_10),
    "10.3": Target((10, 3), 20, BEFORE_10_5),
    "10.7": Target((10, 7), 20, NOWHERE),
    "10.13": Target((10, 13), 20, NOWHERE),
    "10.16": Target((10, 16), 24, NOWHERE),
    "11": Target((11, 0), 24, NOWHERE),
    "rtx": Target((11, 0), 24, NOWHERE),
}

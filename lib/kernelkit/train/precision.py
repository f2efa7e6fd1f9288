"""The precision of a step: float32 or float16, and what float16 needs on several devices."""

import keras
import tensorflow as tf

FLOAT32, FLOAT16 = "float32", "float16"
FLOAT16_WITHOUT_DEPTHWISE = "float16, depthwise float32"
PRECISIONS = (FLOAT32, FLOAT16, FLOAT16_WITHOUT_DEPTHWISE)
DEPTHWISE = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


class WithoutDepthwise(keras.DTypePolicy):
    """Keras' mixed_float16, but for depthwise convolutions, which some GPUs are slow at in float16.

    `load_backbone` asks for it, because Keras knows no policy by the kind of a layer.
    """


def set_precision(precision: str) -> None:
    """Make one of PRECISIONS that of all layers that are built from now on."""
    policy = FLOAT32 if precision == FLOAT32 else "mixed_float16"
    if precision == FLOAT16_WITHOUT_DEPTHWISE:
        policy = WithoutDepthwise(policy)
    keras.mixed_precision.set_global_policy(policy)


def keep_depthwise_precise(backbone: keras.Model) -> None:
    """Have the depthwise convolutions of a model compute in float32 where the policy says so."""
    if isinstance(keras.mixed_precision.global_policy(), WithoutDepthwise):
        for layer in backbone.layers:
            if isinstance(layer, DEPTHWISE):
                layer.dtype_policy = keras.DTypePolicy(FLOAT32)


def scaled_for_float16(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer, with loss scaling where the global policy computes in float16."""
    if keras.mixed_precision.global_policy().compute_dtype == "float16":
        return LossScale(optimizer)
    return optimizer


class LossScale(keras.mixed_precision.LossScaleOptimizer):
    """Keras' loss scaling, made right for several devices.

    Keras 3 asks the first device alone whether its gradients are finite, before they are summed: an
    overflow on another device reaches the weights as a NaN. Here an overflow on any device skips
    the step.
    """

    def check_finite(self, grads):
        """Return whether the gradients are finite on every device, a bool scalar."""
        overflow = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce("SUM", overflow), 0)

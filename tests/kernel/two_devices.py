"""The tiny kernel on a machine whose CPU passes for two accelerators, in mixed precision."""

import sys

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])

from tiny_kernel import TINY, kernel  # noqa: E402

if __name__ == "__main__":
    sys.exit(kernel.main([*TINY, "--mixed-precision", "yes", *sys.argv[1:]]))

"""What the Triton kernels share: launching, sums, the box. The kernels are in the ops' folders."""

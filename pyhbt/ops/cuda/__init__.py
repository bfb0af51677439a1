"""Operations on CUDA tensors: the native kernels of ``pyhbt._cuda`` around torch's products of matrices."""

"""Kernels in C++ for what torch is slow at on a CPU, compiled on the machine they run on."""

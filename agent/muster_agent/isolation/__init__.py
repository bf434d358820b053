"""What a model's process may do, kept by the kernel: Landlock and a list of system calls."""

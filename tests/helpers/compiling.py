"""How programs of tests are compiled for the CPU: they are tiny, so compiling is what takes time, not running."""

FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
"""For XLA_FLAGS. The third halves what is left: 61 -> 29 CPU s for tests of losses and steps (2 cores, jax 0.10)."""

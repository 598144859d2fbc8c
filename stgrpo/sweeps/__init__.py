"""Many runs from one config: a point for each combination of values, and what they share made once.

`grid` reads the words of a sweep, `plan` has its file, `units` what is done once and for whom, `share` how a work
directory gets what another has made, `local` does all of it on this machine, `slurm` prints it as a script.
"""

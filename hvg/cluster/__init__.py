"""Jobs, and who starts them: this machine, torchrun, Slurm."""

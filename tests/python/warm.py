"""What PyTorch imports late (0.8 s with the first step of an optimizer) is imported here: before
processes are forked from this one, not in each of them (processes.py)."""

from __future__ import annotations

import torch

# Threads would not be there after a fork, so there is no backward pass.
torch.set_num_threads(1)
_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.AdamW([_parameter]).step()

"""Checkpoints and the modules that they belong to: tied names, partial states, and parts that are safe in a file.

A partial state is that of the parameters that learn (a LoRA adapter's, Hu et al. 2022); the frozen ones keep the values
that the module brings. Knows nothing of layers or gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

NAMED_MAX = 3


class UnableToLoadState(ValueError):
    """A checkpoint lacks parameters that learn, has some that the module does not know, or others of its shapes."""

    status = 422
    problem = "unable-to-load-state"


def check_state(module: nn.Module, state: Mapping[str, Tensor], *, called: str = "The checkpoint") -> None:
    """Raise UnableToLoadState, naming the parameters, unless the module can take the state.

    It may lack parameters that are frozen beside others that learn, and buffers.
    """
    whole = _with_ties(module, state)
    have: dict[str, Tensor] = dict(module.state_dict(keep_vars=True))
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    some_learn = any(parameter.requires_grad for parameter in parameters.values())
    if strange := sorted(whole.keys() - have.keys()):
        raise UnableToLoadState(f"{called} has parameters that the module does not know: {_listed(strange)}.")
    needed = {name for name, one in parameters.items() if name in have and (one.requires_grad or not some_learn)}
    if missing := sorted(needed - whole.keys() - buffers):
        raise UnableToLoadState(f"{called} lacks parameters that learn: {_listed(missing)}.")
    for name, values in whole.items():
        if values.shape != have[name].shape:
            shapes = f"{tuple(values.shape)} instead of {tuple(have[name].shape)}"
            raise UnableToLoadState(f"{called} has another shape of {name!r}: {shapes}.")


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole or a partial checkpoint into a module, in place. Raises UnableToLoadState."""
    check_state(module, state)
    module.load_state_dict(_with_ties(module, state), strict=False)


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters that a training changed, and buffers: each tensor by itself, so that it can be saved.

    That is all of them where none is frozen. Tied parameters are there under each name.
    """
    frozen = {
        name for name, parameter in module.named_parameters(remove_duplicate=False) if not parameter.requires_grad
    }
    state = module.state_dict()
    kept = state.keys() - frozen
    if not any(parameter.requires_grad for parameter in module.parameters()):
        kept = set(state)
    return {name: values.detach().clone().contiguous() for name, values in state.items() if name in kept}


def _with_ties(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint, with one value for each parameter that has several names; of those the first one's counts."""
    tied = dict(state)
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name and first in tied:
            tied[name] = tied[first]
        elif first != name and name in tied:
            tied[first] = tied[name]
    return tied


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(map(repr, names[:NAMED_MAX])) + (f" and {more} more" if more > 0 else "")

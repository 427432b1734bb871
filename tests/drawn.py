"""How many examples hypothesis draws: `HYPOTHESIS_PROFILE=thorough make test ARGS=…` draws ten times as many.

`ci`, the default, is what `make test` and CI use; a search for the next fault is what `thorough` is for.
"""

from __future__ import annotations

import os

from hypothesis import settings

_FACTORS = {"ci": 1, "thorough": 10}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
if PROFILE not in _FACTORS:
    raise ValueError(f"HYPOTHESIS_PROFILE is {PROFILE!r}; there are {', '.join(_FACTORS)}")

_USUAL = 100
"""What hypothesis draws where a test says nothing."""


def examples(usual: int = _USUAL) -> int:
    """How many examples a property is tried on in this profile, given how many it is in `ci`."""
    return usual * _FACTORS[PROFILE]


def load_profile() -> None:
    """Makes the chosen profile that of all properties; how long an example takes is no property of ours."""
    for name, factor in _FACTORS.items():
        settings.register_profile(name, max_examples=_USUAL * factor, deadline=None, print_blob=True)
    settings.load_profile(PROFILE)

"""The policies: pure generators that ask for drafts and verdicts. No torch, no Hydra, no I/O."""

from bild.decoding.actions import Draft, Drafted, Verified, Verify, Write, Written
from bild.decoding.loop import Decoded, Policy, Round
from bild.decoding.methods import MethodConfig, Setting, ThresholdConfig, setting, thresholds_of
from bild.decoding.policies import MakePolicy, policy_for, settings
from bild.decoding.rules import DraftCosts, Rules

__all__ = [
    "Decoded",
    "Draft",
    "DraftCosts",
    "Drafted",
    "MakePolicy",
    "MethodConfig",
    "Policy",
    "Round",
    "Rules",
    "Setting",
    "ThresholdConfig",
    "Verified",
    "Verify",
    "Write",
    "Written",
    "policy_for",
    "setting",
    "settings",
    "thresholds_of",
]
